"""The command line, for a photo or a folder of them."""
