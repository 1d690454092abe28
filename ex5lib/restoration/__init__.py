"""From a photo to its restoration: examined, searched, compared, pasted back and saved."""
