"""Local systemd hosts in containers, for the demo and the tests. They behave like VMs."""
