"""The schema of an app's database: its revision, migrations and downgrades."""
