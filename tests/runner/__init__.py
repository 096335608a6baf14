"""`make test`: runs the parts of the tests, side by side where they can, and says at the end what failed and why."""
