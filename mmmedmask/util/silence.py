"""Silence what libraries print, log and warn while they are tried."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def in_silence() -> Iterator[None]:
    """Swallow what a runner and its libraries print, log and warn."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    sink = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(sink), \
                contextlib.redirect_stderr(sink):
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(disabled)


@contextlib.contextmanager
def without_log() -> Iterator[None]:
    """Leave out what goes to MMEngine's log.

    Its models list all weights when these are drawn, on the screen or straight
    into the log file, whatever the level.
    """
    from mmengine.logging import MMLogger
    logger = MMLogger.get_current_instance()
    handlers, logger.handlers = logger.handlers, []
    try:
        yield
    finally:
        logger.handlers = handlers
