"""Do something right after another package's module is imported.

Patches of modules that take seconds to import wait here until they
are imported, so that ``import mmmedmask`` imports none of them. This file
mends no gap of its own (no upstream issue).

Delete when nothing in this folder calls :func:`after_import`.
"""

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_ACTIONS: dict[str, list[Callable[[], object]]] = {}


class _HookLoader(Loader):
    """Loads a module as ``loader`` does, then runs the module's actions."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """See :meth:`importlib.abc.Loader.create_module`."""
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's code and the actions; leave no trace in it."""
        module.__spec__.loader = module.__loader__ = self.loader
        self.loader.exec_module(module)
        for action in _ACTIONS[module.__name__]:
            action()


class _HookFinder(MetaPathFinder):
    """Finds the modules that have actions, where Python finds them."""

    def find_spec(self, fullname: str, path: Sequence[str] | None = None,
                  target: ModuleType | None = None) -> ModuleSpec | None:
        """See :meth:`importlib.abc.MetaPathFinder.find_spec`."""
        if fullname not in _ACTIONS:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _HookLoader(spec.loader)
        return spec


def after_import(name: str, action: Callable[[], object]) -> None:
    """Run an action as soon as a module, such as ``'mmengine.config'``, is
    imported, or at once. Handing it over again changes nothing.
    """
    actions = _ACTIONS.setdefault(name, [])
    if action in actions:
        return
    actions.append(action)
    if not any(isinstance(finder, _HookFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _HookFinder())
    if sys.modules.get(name) is not None:
        action()
