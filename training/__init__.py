"""How the small networks in ex5lib/weights/ were made. Not needed to use the project; see training/README.md."""
