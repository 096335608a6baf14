"""Reports of unhandled errors to Sentry, where SENTRY_DSN says so. They hold no data of whoever asked."""

from __future__ import annotations

from typing import Any

import sentry_sdk
from sentry_sdk.integrations.atexit import AtexitIntegration
from sentry_sdk.types import DataCollectionUserOptions
from sentry_sdk.utils import BadDsn

from app.settings import Settings, SettingsError

# Only what our code says and where: Sentry is told by whom it was asked neither in headers nor in local variables.
NOTHING: DataCollectionUserOptions = {
    "user_info": False,
    "cookies": {"mode": "off"},
    "http_headers": {"request": {"mode": "off"}},
    "http_bodies": [],
    "url_query_params": {"mode": "off"},
    "database_query_data": False,
    "queues": False,
    "stack_frame_variables": False,  # one of them is the token that somebody sent
}


def start(settings: Settings, **options: Any) -> None:
    """Report from now on, or do nothing without a DSN. `options` are further ones of `sentry_sdk.init`."""
    dsn = settings.sentry_dsn.get_secret_value()
    if not dsn:
        return
    try:
        sentry_sdk.init(
            dsn=dsn,
            release=settings.release_tag or settings.release_sha or None,
            environment=settings.env.value,
            data_collection=NOTHING,
            integrations=[AtexitIntegration(callback=_say_nothing)],
            **options,
        )
    except BadDsn:
        raise SettingsError("SENTRY_DSN is not a DSN of Sentry; copy it from the project's settings there.") from None


def _say_nothing(pending: int, timeout: float) -> None:
    """Sentry's own writes to standard error at the end, and not in JSON."""
