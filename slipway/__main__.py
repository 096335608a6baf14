"""Entry point of `python -m slipway` and of the file that is installed on hosts."""

from slipway.cli.parser import program

program()
