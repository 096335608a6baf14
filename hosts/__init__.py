"""Local systemd hosts in containers, for the demo and the tests: what a VM is, without a VM."""
