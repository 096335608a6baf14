"""The two slots of an app: systemd units, sockets, health, and the link that says which takes traffic."""
