"""The command line as ``python -m plmsearch``."""

from plmsearch.cli import main

if __name__ == "__main__":
    main()
