"""The rules. Functions here take a session and raise what `app.errors` turns into answers."""
