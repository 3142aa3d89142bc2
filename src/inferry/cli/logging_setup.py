"""Where structured events go: one JSON object a line, in a file that rotates."""

from __future__ import annotations

import json
import logging
from logging.handlers import RotatingFileHandler
from pathlib import Path

import structlog

from inferry.core.clock import utc_text

LOG_BYTES_MAX = 10 * 1024 * 1024
LOG_FILES_KEPT = 3


def log_to_file(path: Path) -> None:
    """Send the events of the whole program to `path`. A full disk costs events, never a request."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = RotatingFileHandler(path, maxBytes=LOG_BYTES_MAX, backupCount=LOG_FILES_KEPT, encoding="utf-8")
    handler.setFormatter(_JsonLines())
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.raiseExceptions = False
    for chatty in ("httpx", "httpcore", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )


class _JsonLines(logging.Formatter):
    """Our events are JSON already; what a library logs in words of its own becomes an event of ours."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if text.startswith("{"):
            return text
        return json.dumps(
            {
                "event": "library_message",
                "logger": record.name,
                "message": text,
                "level": record.levelname.lower(),
                "timestamp": utc_text(record.created).replace(" ", "T"),
            },
            ensure_ascii=False,
        )
