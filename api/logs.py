"""Logs of the service, to standard error: for people, or an object a line. Everything logs through the standard library."""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.processors import ExceptionRenderer
from structlog.stdlib import ExtraAdder, ProcessorFormatter, add_log_level, add_logger_name
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, Processor, WrappedLogger

from api.problems import REQUEST_ID


def configure(log_format: str, level: str) -> None:
    """`log_format`: text or json. Every line of a request has its `request_id`.

    Tracebacks come without local variables, among which tokens may be.
    """
    shared: list[Processor] = [
        add_log_level,
        add_logger_name,
        ExtraAdder(),
        _add_request_id,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Processor] = (
        [ExceptionRenderer(ExceptionDictTransformer(show_locals=False)), structlog.processors.JSONRenderer()]
        if log_format == "json"
        else [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        ProcessorFormatter(foreign_pre_chain=shared, processors=[ProcessorFormatter.remove_processors_meta, *last])
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    for name in ("modelshelf", "registry", "api"):  # other libraries say what they must from `warning` on
        logging.getLogger(name).setLevel(level.upper())


def _add_request_id(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    if (request_id := REQUEST_ID.get()) is not None:
        event["request_id"] = request_id
    return event
