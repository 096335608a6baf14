"""Entry point of `python -m slipway`."""

from slipway.cli.parser import program

program()
