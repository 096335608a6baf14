"""A release that needs a variable which nobody has set, and did not declare it."""

import os

from app.normal import Normal as Behaviour

__all__ = ["Behaviour"]

if "PAYMENT_TOKEN" not in os.environ:
    raise SystemExit("ERROR: PAYMENT_TOKEN must be set")
