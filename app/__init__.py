"""The Logbook: the service that Slipway deploys out of the box."""
