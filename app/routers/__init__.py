"""HTTP: routers translate between requests and the rules in `app.services`."""
