"""The tables. All modules here are imported, so that alembic sees all tables."""

from importlib import import_module
from pkgutil import iter_modules

from app.models.base import Base
from app.models.deployment import Deployment, Kind, Status
from app.models.service import Service
from app.models.token import ApiToken

for module in iter_modules(__path__):
    import_module(f"{__name__}.{module.name}")

__all__ = ["ApiToken", "Base", "Deployment", "Kind", "Service", "Status"]
