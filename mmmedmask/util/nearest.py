"""The valid names nearest to one that was mistyped."""

import difflib
import re
from collections.abc import Iterable


def nearest_names(name: str, valid: Iterable[str], count: int = 1,
                  cutoff: float = 0.6) -> list[str]:
    """Find the valid names that resemble a name in any case, nearest first.

    They are ``count`` at most; ``cutoff`` is the least similarity, from 0 (any
    name) to 1 (equal).

    Example:
        >>> nearest_names('mask_ration', ['mask_ratio', 'patch_size'])
        ['mask_ratio']
    """
    by_lower: dict[str, str] = {}
    for other in valid:
        by_lower.setdefault(other.lower(), other)
    return [by_lower[near] for near in difflib.get_close_matches(
        name.lower(), by_lower, count, cutoff)]


def bare_name(name: str) -> str:
    """What is left of a name without case, blanks and signs.

    Ids that differ by a letter or a digit are of two patients; those that
    differ by the rest alone are meant as one.

    Example:
        >>> bare_name('P 005') == bare_name('p-005')
        True
    """
    return re.sub(r'[\W_]', '', name).casefold()


def did_you_mean(name: str, valid: Iterable[str], count: int = 1,
                 cutoff: float = 0.6) -> str:
    """Ask for the nearest names, in a sentence to be added to a message.

    It begins with a blank, and is empty where no name is near; see
    :func:`nearest_names`.

    Example:
        >>> did_you_mean('mask_ration', ['mask_ratio', 'patch_size'])
        ' Did you mean mask_ratio?'
    """
    near = nearest_names(name, valid, count, cutoff)
    return f' Did you mean {" or ".join(near)}?' if near else ''
