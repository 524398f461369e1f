"""`python -m isjax`, the same as `isjax`."""

import sys

from isjax.cli import main

if __name__ == "__main__":
    sys.exit(main())
