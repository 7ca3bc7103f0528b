"""Look at a config and its environment before the GPUs are taken."""

from mmmedmask.inspection.config_check import (
    CheckOptions,
    ConfigReport,
    check_config,
    check_static,
)
from mmmedmask.inspection.findings import Finding, worst_status

__all__ = ['CheckOptions', 'ConfigReport', 'Finding', 'check_config',
           'check_static', 'worst_status']
