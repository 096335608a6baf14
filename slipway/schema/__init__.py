"""The schema of an app's database: where it stands, and how it moves."""
