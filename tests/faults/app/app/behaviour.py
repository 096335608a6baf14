"""How this release behaves: the broken variants of it lay a file of their own over this one."""

from app.normal import Normal as Behaviour

__all__ = ["Behaviour"]
