"""The command line of the engine: what can be typed, what each command does, what `status` shows."""
