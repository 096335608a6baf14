"""Used on the controller only."""
