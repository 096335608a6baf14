"""Running a deployment: the lock, the preflight checks, the phases in order, undoing and recovery."""
