"""Entry point of `python -m slipway` and of the file that is installed on hosts."""

import sys

from slipway.cli import main

sys.exit(main(sys.argv[1:]))
