"""A module that stands in for another one.

This file mends no gap of its own (no upstream issue). Delete when nothing in
this folder has a :class:`StandIn` any more.
"""

from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class StandIn(MetaPathFinder, Loader):
    """Finds a module and fills it, as an entry of ``sys.meta_path``.

    Args:
        fill: Called with the module, which is empty.
        wanted: Whether the module is to be found; asked at each import.
    """

    def __init__(self, name: str, fill: Callable[[ModuleType], object],
                 wanted: Callable[[], bool] = lambda: True) -> None:
        self.name = name
        self.fill = fill
        self.wanted = wanted

    def find_spec(self, fullname: str, path: Sequence[str] | None = None,
                  target: ModuleType | None = None) -> ModuleSpec | None:
        """See :meth:`importlib.abc.MetaPathFinder.find_spec`."""
        if fullname != self.name or not self.wanted():
            return None
        return ModuleSpec(fullname, self, origin=self.fill.__module__)

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to Python to make an empty module."""

    def exec_module(self, module: ModuleType) -> None:
        """See :meth:`importlib.abc.Loader.exec_module`."""
        self.fill(module)
