"""Structured logs: one event a line on standard error; never a key, a prompt or an answer."""

from __future__ import annotations

import logging
import sys
from typing import Any

import msgspec
import structlog


def _encode(event: Any, **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()


def configure_logging(level: str, form: str) -> None:
    """Sets up structlog for this process. `form` is `json` or `console`."""
    renderer: Any = (
        structlog.processors.JSONRenderer(serializer=_encode) if form == "json" else structlog.dev.ConsoleRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_Forward()], level=logging.WARNING, force=True)
    logging.captureWarnings(True)


class _Forward(logging.Handler):
    """Puts what libraries log into our form, so that every line of the log can be read by the same means."""

    def emit(self, record: logging.LogRecord) -> None:
        get_logger(record.name).log(record.levelno, record.getMessage(), exc_info=record.exc_info)


def get_logger(name: str) -> Any:
    """A logger whose events carry `part: name`."""
    return structlog.get_logger(part=name)
