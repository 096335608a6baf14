"""What only the controller does."""
