"""Finding the face in a photo, its landmarks, and cropping it as FFHQ did."""
