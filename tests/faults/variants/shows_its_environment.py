"""A release that does not load, and shows all of its environment for it."""

import os

raise RuntimeError(dict(os.environ))
