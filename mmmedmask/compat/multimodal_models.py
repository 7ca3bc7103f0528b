"""Let mmpretrain be imported beside transformers 5.

With transformers installed, mmpretrain imports its multimodal models (BLIP,
Flamingo and so on), which take names that transformers 5 has removed: then
``import mmpretrain.models`` ends in a TypeError (no upstream issue). Without
them mmpretrain registers placeholders that say what to install.

Delete when mmpretrain's multimodal models run with transformers 5.
"""

from importlib.metadata import PackageNotFoundError, version

FIRST_REMOVING = 5


def leave_out_multimodal_models() -> None:
    """Tell mmpretrain not to import them; imports its dependency check."""
    try:
        major = int(version('transformers').partition('.')[0])
    except (PackageNotFoundError, ValueError):
        return
    if major >= FIRST_REMOVING:
        from mmpretrain.utils import dependency
        dependency.WITH_MULTIMODAL = False
