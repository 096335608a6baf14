"""Reports of unhandled errors to Sentry, if SENTRY_DSN is set. They contain no data about the client."""

from __future__ import annotations

from typing import Any

import sentry_sdk
from sentry_sdk.integrations.atexit import AtexitIntegration
from sentry_sdk.types import DataCollectionUserOptions
from sentry_sdk.utils import BadDsn

from app.settings import Settings, SettingsError

# Only the error and its place in the code are reported: no headers, no local variables.
NOTHING: DataCollectionUserOptions = {
    "user_info": False,
    "cookies": {"mode": "off"},
    "http_headers": {"request": {"mode": "off"}},
    "http_bodies": [],
    "url_query_params": {"mode": "off"},
    "database_query_data": False,
    "queues": False,
    "stack_frame_variables": False,  # one of them is the client's token
}


def start(settings: Settings, **options: Any) -> None:
    """Start reporting; does nothing without a DSN. `options` are more options for `sentry_sdk.init`."""
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
        raise SettingsError("SENTRY_DSN is not a DSN of Sentry; copy it from the settings of the project.") from None


def _say_nothing(pending: int, timeout: float) -> None:
    """Sentry's own callback would write to standard error at the exit, and not as JSON."""
