"""Deployments under way: their lock, their phases in order, their one end."""
