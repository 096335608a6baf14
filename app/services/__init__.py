"""The rules. Functions here take a session, and raise errors that `app.errors` turns into responses."""
