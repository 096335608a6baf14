"""Backups of the host: PostgreSQL by pgBackRest, files of apps by restic, and the drill that proves both."""
