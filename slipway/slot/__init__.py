"""The two slots of an app: systemd units, sockets, health, and the link to the slot that takes traffic."""
