"""Names in messages: those nearest to a mistyped one, the first of many,
where a file is.
"""

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

_HYPHENS = re.compile('[\u2010-\u2015\u2212]')
# Soft hyphens, characters of no width and byte order marks.
_UNSEEN = re.compile('[\xad\u200b-\u200f\u2060\ufeff]')
_SHOWN = 5


def shown(names: Sequence[object]) -> str:
    """Join the first five names, or numbers, for a message.

    Example:
        >>> shown('abcdefg')
        'a, b, c, d, e, ...'
    """
    more = ', ...' if len(names) > _SHOWN else ''
    return ', '.join(map(str, names[:_SHOWN])) + more


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


def hint_beside_root(path: str | Path, root: str | Path) -> str:
    """Say what to write for a path that is there, but not below the root it
    counts from; nothing for others.

    Example:
        >>> _ = Path('genes.txt').write_text('TP53')
        >>> hint_beside_root('genes.txt', 'data')
        "paths count from data_root, 'data', and genes.txt is there ..."
    """
    if Path(root, path).exists() or not Path(path).exists():
        return ''
    return (f'paths count from data_root, {str(root)!r}, and {path} is there '
            f'without it: write {str(Path(path).absolute())!r}')


def composed(name: str) -> str:
    """Write letters with accents as one character each (NFC).

    Files from a Mac have them as two.
    """
    return unicodedata.normalize('NFC', name)


def alike(name: str) -> str:
    """What names have in common that look the same, or but for their case.

    Example:
        >>> alike('P   1-A') == alike('p 1-a')
        True
    """
    text = unicodedata.normalize('NFKC', name).casefold()
    text = _UNSEEN.sub('', _HYPHENS.sub('-', text))
    return unicodedata.normalize('NFKC', ' '.join(text.split()))


def bare_name(name: str) -> str:
    """What is left of a name without case, blanks and signs.

    Ids that differ by a letter or a number are of two patients; those that
    differ by the rest alone are meant as one. Signs between two digits are
    one sign: they may be a decimal point.

    Example:
        >>> bare_name('P 005') == bare_name('p-005')
        True
        >>> bare_name('1.0') == bare_name('10')
        False
    """
    text = re.sub(r'[\W_]+', '.', alike(name))
    return re.sub(r'(?<!\d)\.|\.(?!\d)', '', text)


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
