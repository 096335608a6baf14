"""Who is told of deployments: the Logbook, and the hooks of the app's owner."""
