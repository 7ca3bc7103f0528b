"""Let ``mmcv.ops`` be imported where mmcv came without compiled ops.

``pip install onedl-mmcv`` builds mmcv without its extension ``mmcv._ext``
(pip's isolated build holds no torch, so the build skips the ops without a
word), and mmdet imports ``mmcv.ops`` unconditionally: "No module named
'mmcv._ext'" is the first thing users of this stack meet (mmcv#3325, #2866).

A module finder at the end of ``sys.meta_path`` offers a stand-in for
``mmcv._ext``. Python asks it only after all others found nothing: a compiled
extension is always used untouched, and one that is found but broken still
raises its own error. The stand-in holds the ops of
:mod:`mmmedmask.compat.mmcv_ops_kernels`; every other op can be imported, as
mmcv demands of all its ops at import, but raises an error when called.

Delete when mmcv on PyPI comes with compiled ops or imports without them.
"""

import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType

from mmmedmask.compat.stand_in import StandIn

EXTENSION = 'mmcv._ext'
SUPPORTED_OPS = ('nms', 'roi_align_forward', 'roi_align_backward',
                 'sigmoid_focal_loss_forward', 'sigmoid_focal_loss_backward')


def _make_unsupported(name: str) -> Callable:
    """An op that can be imported but not called."""

    def unsupported(*args, **kwargs):
        raise RuntimeError(
            f"the op '{name}' needs mmcv's compiled ops, and this mmcv has "
            f'none (mmmedmask supplies only {", ".join(SUPPORTED_OPS)}, from '
            'torchvision). To compile them (it takes a C++ compiler, for '
            'CUDA also nvcc, and about half an hour), run in the environment '
            'that holds torch: pip install --force-reinstall --no-deps '
            '--no-cache-dir --no-build-isolation onedl-mmcv')

    unsupported.__name__ = unsupported.__qualname__ = name
    return unsupported


def _compiler_version() -> str:
    import torchvision
    return f'not compiled, ops from torchvision {torchvision.__version__}'


def _fill(module: ModuleType) -> None:
    """Put the supported ops into the module, and a door for the rest."""
    from mmmedmask.compat import mmcv_ops_kernels
    for name in SUPPORTED_OPS:
        setattr(module, name, getattr(mmcv_ops_kernels, name))
    module.get_compiler_version = _compiler_version
    module.get_compiling_cuda_version = _compiler_version

    def __getattr__(name: str) -> Callable:  # noqa: N807
        if name.startswith('_'):
            raise AttributeError(
                f'module {EXTENSION!r} has no attribute {name!r}')
        unsupported = _make_unsupported(name)
        setattr(module, name, unsupported)
        return unsupported

    module.__getattr__ = __getattr__


_STAND_IN = StandIn(EXTENSION, _fill)


def has_compiled_ops() -> bool:
    """Whether ``mmcv._ext``, which is not imported, is mmcv's own."""
    spec = importlib.util.find_spec(EXTENSION)
    return spec is not None and spec.loader is not _STAND_IN


def provide_mmcv_ops() -> None:
    """Make ``mmcv.ops`` importable without compiled ops.

    Nothing is imported before ``mmcv._ext`` is.
    """
    if _STAND_IN not in sys.meta_path:
        sys.meta_path.append(_STAND_IN)
