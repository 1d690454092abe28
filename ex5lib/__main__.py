"""``python -m ex5lib``, the same as the command ``ex5``."""

from ex5lib.cli.app import main

if __name__ == "__main__":
    main()
