"""Let ``mmmedmask::`` bases resolve for wheels and editable installs alike.

MMEngine knows the packages behind ``package::path`` from a fixed table
(``MODULE2PACKAGE``): plugins are not in it, and with the maintained forks its
entry for mmseg names a distribution that is not installed. It looks for the
path in ``package/.mim/configs``, which an editable install has not (a link
there would give ``mim`` two configs of one name), and it puts
``_scope_='package'`` into what a child inherits. Our configs' host library is
mmpretrain, mmdet or mmseg; with our scope their unprefixed types would no
longer be found. All that holds for every plugin (mmengine#1410). Delete when
MMEngine finds packages by import name, takes a base's scope from its
``default_scope`` and finds the configs of editable installs.
"""

import functools
from pathlib import Path

from mmmedmask.compat.replacing import replaces

PACKAGE_FOLDER = Path(__file__).resolve().parents[1]
PREFIX = 'mmmedmask::'


def find_config_folder() -> Path:
    """Return the folder that holds mmmedmask's configs."""
    candidates = (PACKAGE_FOLDER / '.mim' / 'configs',
                  PACKAGE_FOLDER.parent / 'configs')
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(
        'mmmedmask is installed without its configs: looked in '
        f'{" and ".join(map(str, candidates))}; install it from a wheel, or '
        'from a checkout with `pip install --editable .`')


def resolve_config_bases() -> None:
    """Make ``mmmedmask::`` bases resolve to our configs, without a scope.

    And those of mmseg to whatever is importable as that.
    """
    from mmengine.config import Config
    from mmengine.config.utils import MODULE2PACKAGE
    # An entry equal to the import name makes MMEngine look the package up
    # with importlib, which works for the originals and the forks alike.
    MODULE2PACKAGE.update(mmmedmask='mmmedmask', mmseg='mmseg')
    original = Config._get_cfg_path

    @functools.cache
    def find_external(cfg_path: str) -> tuple[str, str | None]:
        # MMEngine reads all metafiles of the package, half a second, each
        # time; a base of a package does not depend on who inherits it.
        return original(cfg_path, '')

    @replaces(Config, '_get_cfg_path')
    def get_config_path(original, cfg_path: str,
                        filename: str) -> tuple[str, str | None]:
        if not cfg_path.startswith(PREFIX):
            return find_external(cfg_path) if '::' in cfg_path \
                else original(cfg_path, filename)
        path = find_config_folder() / cfg_path.removeprefix(PREFIX)
        if not path.is_file():
            raise FileNotFoundError(f'the base {cfg_path!r} in {filename} '
                                    f'does not exist: {path} is not a file')
        return str(path), None
