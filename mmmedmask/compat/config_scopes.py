"""Let ``mmmedmask::`` and ``mmseg::`` bases resolve in configs.

MMEngine knows the packages behind ``package::path`` from a fixed table
(``MODULE2PACKAGE``); plugins are not in it (mmengine#1410), and with the
maintained forks its entry for mmseg names a distribution that is not
installed. Delete when MMEngine finds packages by import name.
"""


def register_config_scopes() -> None:
    """Add mmmedmask, and point mmseg at whatever is importable as mmseg."""
    from mmengine.config.utils import MODULE2PACKAGE
    MODULE2PACKAGE.setdefault('mmmedmask', 'mmmedmask')
    # An entry equal to the import name makes MMEngine look the package up
    # with importlib, which works for the originals and the forks alike.
    MODULE2PACKAGE['mmseg'] = 'mmseg'
