"""Releases on disk: git, building, listing and pruning."""
