"""Log lines of the app and its libraries: one JSON object each. Gunicorn's own lines have the same format
(roles/app/templates/gunicorn.conf.py.j2)."""

from __future__ import annotations

import logging
import logging.config
from contextvars import ContextVar
from datetime import UTC, datetime

from pythonjsonlogger.core import RESERVED_ATTRS, LogData
from pythonjsonlogger.json import JsonFormatter

from app.settings import Settings

# The id of the current request. Every line that is logged for the request has it.
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


class JsonLines(JsonFormatter):
    """Fields: time (UTC), level, logger, message, release, the values of `extra`, and a traceback as `exc_info`."""

    def __init__(self, release: str = "") -> None:
        super().__init__(
            ["asctime", "levelname", "name", "message"],
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
            static_fields={"release": release},
            reserved_attrs=[*RESERVED_ATTRS, "color_message"],  # Uvicorn's, for terminals
        )

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802  # as logging calls it
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")

    def process_log_record(self, log_data: LogData) -> LogData:
        if current := request_id.get():
            log_data.setdefault("request_id", current)
        return log_data


def configure(settings: Settings) -> None:
    """Write all log lines and warnings to standard error as JSON lines.

    Loggers with handlers of their own, such as the server's, keep them. The level `debug` only applies to the app: the
    debug lines of libraries are for their developers, and may contain data.
    """
    level = settings.log_level.upper()
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"json": {"()": JsonLines, "release": settings.release_tag or settings.release_sha}},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
            "root": {"level": "INFO" if level == "DEBUG" else level, "handlers": ["stderr"]},
            "loggers": {"app": {"level": level}},
        }
    )
    logging.captureWarnings(True)
