"""Tables. Every module here is imported, so that alembic sees all of them."""

from importlib import import_module
from pkgutil import iter_modules

from app.models.base import Base
from app.models.service import Service

for module in iter_modules(__path__):
    import_module(f"{__name__}.{module.name}")

__all__ = ["Base", "Service"]
