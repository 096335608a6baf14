"""What everything else stands on: settings, errors, files, processes, output."""
