"""Packages that are imported when used; of an extra, missed in one line."""

import importlib
from types import ModuleType


class _LateModule(ModuleType):
    """Stands for a module until one of its names is used."""

    def __init__(self, name: str, extra: str | None) -> None:
        super().__init__(name)
        self.__dict__['_extra'] = extra

    def __getattr__(self, attribute: str) -> object:
        return getattr(
            importlib.import_module(self.__name__) if self._extra is None
            else import_extra(self.__name__, self._extra), attribute)


def import_extra(name: str, extra: str, user: str = 'this') -> ModuleType:
    """Import a module that an extra of mmmedmask brings.

    Without it a ModuleNotFoundError says in a line what to install, and for
    which ``user``.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition('.')[0]
        if error.name not in (name, package):
            raise
        raise ModuleNotFoundError(
            f'{user} needs {package}, which is not installed: pip install '
            f"'mmmedmask[{extra}]'", name=error.name) from None


def late_module(name: str, extra: str | None = None) -> ModuleType:
    """Name a module without importing it: of an extra, or one always there.

    It is imported as soon as one of its names is used. Annotations that name
    it need ``from __future__ import annotations``.
    """
    return _LateModule(name, extra)
