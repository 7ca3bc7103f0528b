"""Warn when both OpenMMLab families are installed over one another.

The original packages (mmengine, mmcv, ...) and the maintained forks
(onedl-mmengine, onedl-mmcv, ...) own the same import folders: pip writes one
over the other without a word, and uninstalling one tears holes into the
other. No package may require either family, so only a look at what is
installed tells (mmdetection#12405 and others meet the result). Delete when
the forks take import names of their own or become the originals.
"""

import warnings
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec

#: Import name to (the fork's distribution, the original distributions).
FAMILIES = {
    'mmengine': ('onedl-mmengine', ('mmengine', 'mmengine-lite')),
    'mmcv': ('onedl-mmcv', ('mmcv', 'mmcv-lite', 'mmcv-full')),
    'mmpretrain': ('onedl-mmpretrain', ('mmpretrain', )),
    'mmdet': ('onedl-mmdetection', ('mmdet', )),
    'mmseg': ('onedl-mmsegmentation', ('mmsegmentation', )),
    'mim': ('onedl-mim', ('openmim', )),
}

#: Import names of what nothing works without.
NEEDED = ('mmengine', 'mmcv', 'mmpretrain')


def require_openmmlab() -> None:
    """Check that OpenMMLab is installed, without importing it.

    A ModuleNotFoundError says what to install.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(
            f'mmmedmask needs OpenMMLab, and {", ".join(missing)} cannot be '
            "imported: pip install 'mmmedmask[openmmlab]'", name=missing[0])


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def find_family_clashes() -> dict[str, list[str]]:
    """Find import names that two installed distributions own, the fork first.
    """
    clashes = {}
    for import_name, (fork, originals) in FAMILIES.items():
        installed = [name for name in originals if _is_installed(name)]
        if installed and _is_installed(fork):
            clashes[import_name] = [fork, *installed]
    return clashes


def warn_about_mixed_families() -> None:
    """Warn once per process if the families are mixed, and say what to do."""
    clashes = find_family_clashes()
    if not clashes:
        return
    names = [name for owners in clashes.values() for name in owners]
    forks = [owners[0] for owners in clashes.values()]
    listing = '; '.join(f'{import_name}: {" and ".join(owners)}'
                        for import_name, owners in clashes.items())
    warnings.warn('both OpenMMLab families are installed and write to the '
                  f'same folders ({listing}), so what is imported may be a '
                  'mixture. Remove both and install one again: pip uninstall '
                  f'-y {" ".join(names)} && pip install {" ".join(forks)}',
                  stacklevel=2)
