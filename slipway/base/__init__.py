"""Used by every other room: settings, errors, files, processes, output."""
