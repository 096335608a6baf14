"""What Slipway costs beside doing the same by hand: measured in one run, on one host, in pairs."""
