"""Gaps in today's OpenMMLab stack, one small file each.

Every file names the upstream issue and says when it can be deleted.
"""

from mmmedmask.compat.config_scopes import register_config_scopes


def apply_patches() -> None:
    """Apply what has to be in place as soon as mmmedmask is imported."""
    register_config_scopes()


__all__ = ['apply_patches', 'register_config_scopes']
