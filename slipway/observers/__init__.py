"""Who is told of deployments: the Logbook."""
