"""Run the command line as `python -m sciml.cli`."""

import sys

from sciml.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
