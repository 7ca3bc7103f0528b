"""The valid names nearest to one that was mistyped."""

import difflib
from collections.abc import Iterable


def nearest_names(name: str, valid: Iterable[str], count: int = 1,
                  cutoff: float = 0.6) -> list[str]:
    """Find the valid names that resemble a name in any case, nearest first.

    Args:
        count: How many to return at most.
        cutoff: The least similarity, from 0 (any name) to 1 (equal).

    Example:
        >>> nearest_names('mask_ration', ['mask_ratio', 'patch_size'])
        ['mask_ratio']
    """
    by_lower: dict[str, str] = {}
    for other in valid:
        by_lower.setdefault(other.lower(), other)
    return [by_lower[near] for near in difflib.get_close_matches(
        name.lower(), by_lower, count, cutoff)]


def did_you_mean(name: str, valid: Iterable[str], count: int = 1,
                 cutoff: float = 0.6) -> str:
    """Ask for the nearest names; see :func:`nearest_names`.

    Returns:
        A sentence that begins with a blank, to be added to a message; empty
        where no name is near.

    Example:
        >>> did_you_mean('mask_ration', ['mask_ratio', 'patch_size'])
        ' Did you mean mask_ratio?'
    """
    near = nearest_names(name, valid, count, cutoff)
    return f' Did you mean {" or ".join(near)}?' if near else ''
