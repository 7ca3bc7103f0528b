"""Put a function in the place of another package's.

This file mends no gap of its own (no upstream issue). Delete when nothing in
this folder calls :func:`replaces`.
"""

import functools
import inspect
from collections.abc import Callable


def replaces(owner: object, name: str) -> Callable[[Callable], None]:
    """Decorate what is called instead of a function of a class or a module.

    It gets the original before the arguments. Doing so again changes nothing.
    """
    original = getattr(owner, name)

    def install(function: Callable) -> None:
        if hasattr(original, 'of_mmmedmask'):
            return

        @functools.wraps(original)
        def replacement(*args, **options):
            return function(original, *args, **options)

        replacement.of_mmmedmask = True
        static = isinstance(inspect.getattr_static(owner, name), staticmethod)
        setattr(owner, name, staticmethod(replacement) if static
                else replacement)

    return install
