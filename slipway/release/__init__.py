"""Releases on disk: git, building, which are there and which may go."""
