"""``python -m ex5lib``, the same as the command ``ex5``."""

import sys


def main() -> None:
    """Run the command line. Ctrl-C ends it without a traceback, even while it is being loaded."""
    try:
        from ex5lib.cli.app import main

        main()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
