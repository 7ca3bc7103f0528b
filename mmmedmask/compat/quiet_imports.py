"""Silence three messages that OpenMMLab's packages print on import.

They tell a user of mmmedmask nothing: the packages look for data sets of a
commercial service and print a debugging message, mmdet misses an op of its
lane detector, mmcv an alias of an op (no upstream issue). Only these texts
go, whatever else is printed, logged or warned about stays.

Delete when ``print_log`` without a logger heeds its level, and when mmcv
brings compiled ops.
"""

import builtins
import logging
import warnings

PRINTED = ('Could not import OneDL',
           'Could not import OneDL. Skipping OneDL datasets.')
LOGGED = 'Line NMS is not compiled.'
WARNED = 'Fail to import ``MultiScaleDeformableAttention``'


def _print(message: object) -> None:
    if message not in PRINTED:
        builtins.print(message)  # noqa: T201  (print_log's own)


def _filter(self: logging.Logger, record: logging.LogRecord) -> object:
    return (not str(record.msg).startswith(LOGGED)
            and logging.Logger.filter(self, record))


def silence_loggers() -> None:
    """Drop what MMEngine's loggers print; imports MMEngine's logging."""
    from mmengine.logging import MMLogger, logger
    logger.print = _print
    MMLogger.filter = _filter


def silence_warnings() -> None:
    """Drop the warning about the alias."""
    warnings.filterwarnings('ignore', WARNED, UserWarning)
