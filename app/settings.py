"""Typed settings, read once at the start from the environment (and from `.env` if it exists)."""

from __future__ import annotations

import os
import secrets
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

MINIMAL_KEY_LENGTH = 32
DEVELOPMENT_DATABASE = "sqlite+aiosqlite:///./logbook.sqlite3"


class SettingsError(Exception):
    """A variable is missing or wrong; one sentence that names it and never shows its value."""


class Environment(StrEnum):
    DEVELOPMENT = "development"
    PRODUCTION = "production"


def _credentials() -> str | None:
    directory = os.environ.get("CREDENTIALS_DIRECTORY", "")
    return directory if directory and Path(directory).is_dir() else None


class Settings(BaseSettings):
    """The settings of the app. In production there are no defaults for secrets and for the database."""

    # Secrets may come as files of systemd; a variable of that name counts more. The directory may be missing.
    model_config = SettingsConfigDict(
        env_file=".env",
        secrets_dir=_credentials(),
        extra="ignore",
        hide_input_in_errors=True,
    )

    env: Environment = Environment.DEVELOPMENT
    database_url: str = ""
    database_pool_size: Annotated[int, Field(ge=1, le=100)] = 5
    secret_key: SecretStr = SecretStr("")
    secret_key_previous: SecretStr = SecretStr("")  # still accepted after a rotation
    public_page: bool = False
    sentry_dsn: SecretStr = SecretStr("")
    log_level: Annotated[str, Field(pattern="^(debug|info|warning|error)$")] = "info"
    release_tag: str = Field("", validation_alias=AliasChoices("RELEASE_TAG", "release_tag"))
    release_sha: str = Field("", validation_alias=AliasChoices("RELEASE_SHA", "release_sha"))

    @model_validator(mode="after")
    def _check(self) -> Settings:
        if self.env is Environment.PRODUCTION:
            _check_production(self)
        else:
            self.database_url = self.database_url or DEVELOPMENT_DATABASE
            # A new key at each start: everybody has to sign in again after it.
            self.secret_key = self.secret_key or SecretStr(secrets.token_urlsafe(48))
        try:
            make_url(self.database_url)
        except ArgumentError:
            raise SettingsError("DATABASE_URL is not a database URL; see .env.example.") from None
        return self


def _check_production(settings: Settings) -> None:
    if not settings.database_url.startswith("postgresql+asyncpg://"):
        raise SettingsError("DATABASE_URL must be a postgresql+asyncpg:// URL when ENV=production; see .env.example.")
    if _is_weak(settings.secret_key):
        raise SettingsError(
            f"SECRET_KEY must be set to at least {MINIMAL_KEY_LENGTH} random characters when ENV=production. "
            "Create one with: python3 -c 'import secrets; print(secrets.token_urlsafe(48))'"
        )
    if settings.secret_key_previous and _is_weak(settings.secret_key_previous):
        raise SettingsError(
            f"SECRET_KEY_PREVIOUS must have at least {MINIMAL_KEY_LENGTH} random characters when ENV=production. "
            "Set it to the SECRET_KEY before the present one, or leave it out."
        )


def _is_weak(secret: SecretStr) -> bool:
    key = secret.get_secret_value()
    return len(key) < MINIMAL_KEY_LENGTH or len(set(key)) < 8


def load(**values: Any) -> Settings:
    """Read the settings; SettingsError with one sentence when a variable is missing or wrong."""
    try:
        return Settings(**values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        raise SettingsError(f"{name} is wrong: {first['msg']}; see .env.example.") from None


@cache
def get_settings() -> Settings:
    return load()
