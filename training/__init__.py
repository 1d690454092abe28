"""How the small networks under data/ were made. Not needed to use the project; see training/README.md."""
