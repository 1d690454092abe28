"""What happens to photos: known and blind degradations, and what one hides."""
