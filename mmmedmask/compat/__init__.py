"""Gaps in today's OpenMMLab stack, one small file each.

Every file names the upstream issue and says when it can be deleted.
"""

from mmmedmask.compat.config_bases import resolve_config_bases
from mmmedmask.compat.config_scopes import register_config_scopes
from mmmedmask.compat.families import warn_about_mixed_families
from mmmedmask.compat.mmcv_ops import has_compiled_ops, provide_mmcv_ops
from mmmedmask.compat.mmcv_ops_rebind import rebind_mmcv_ops


def apply_patches() -> None:
    """Apply what has to be in place as soon as mmmedmask is imported.

    It is cheap: no host library is imported, and the mmcv ops are made only
    when somebody imports them. Calling it again changes nothing.
    """
    warn_about_mixed_families()
    register_config_scopes()
    resolve_config_bases()
    provide_mmcv_ops()
    rebind_mmcv_ops()


__all__ = [
    'apply_patches', 'has_compiled_ops', 'provide_mmcv_ops',
    'rebind_mmcv_ops', 'register_config_scopes', 'resolve_config_bases',
    'warn_about_mixed_families'
]
