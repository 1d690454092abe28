"""Finding the face in a photo and its landmarks, and cropping it as FFHQ did."""
