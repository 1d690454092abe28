"""Speed and quality, measured. Not needed to use the project."""
