"""The command line of the engine: its commands and options, what each command does, the output of `status`."""
