"""A release that does not even load."""

raise RuntimeError("the variant crashes at import")
