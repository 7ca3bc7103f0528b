"""Top-level names of a config file that nothing reads.

After a config is read, a misspelled ``optim_wraper`` is a variable like any
other, and ``image_size = 96`` in a child changes nothing that its base has
made of its own ``image_size``. The source of the file and of its bases tells
which names are read.
"""

import ast
import functools
import re
from collections.abc import Set
from dataclasses import dataclass, field, replace
from pathlib import Path

from mmengine.config import Config

from mmmedmask.util.nearest import nearest_names

BASES = '_base_'
#: Names that have a meaning of their own in a config file.
SPECIAL = frozenset({BASES, '_delete_', '__all__'})
TEMPLATE = re.compile(r'\{\{\s*_base_\.(\w+)')


@dataclass
class ConfigNames:
    """Names in one config file.

    Attributes:
        foreign: Whether it belongs to another package (``mmdet::...``).
        assigned: Top-level name to the line of its last assignment.
        read: Names that the file itself reads.
        read_from_bases: Names that it reads as ``_base_.name``.
        bases: The files that it inherits from.
    """

    path: Path
    foreign: bool
    assigned: dict[str, int] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)
    read_from_bases: set[str] = field(default_factory=set)
    bases: list['ConfigNames'] = field(default_factory=list)


@functools.lru_cache(maxsize=1024)
def _read(path: str, changed: int) -> tuple[ConfigNames, list[str]]:
    """Read one file, again when it has changed, and the names of its bases."""
    text = Path(path).read_text('utf-8')
    tree = ast.parse(text)
    source = ConfigNames(Path(path), False)
    source.read_from_bases |= set(TEMPLATE.findall(text))
    bases: list[str] = []
    for statement in tree.body:
        for target in _targets(statement):
            source.assigned[target] = statement.lineno
            # Of several, MMEngine reads the first.
            if target == BASES and not bases and isinstance(
                    statement, ast.Assign):
                value = ast.literal_eval(statement.value)
                bases = [value] if isinstance(value, str) else list(value)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            source.read.add(node.id)
        elif isinstance(node, ast.Attribute) \
                and getattr(node.value, 'id', None) == BASES:
            source.read_from_bases.add(node.attr)
    return source, bases


def read_source(path: str | Path, foreign: bool = False) -> ConfigNames:
    """Read which names a config file, in Python, and its bases set and use.

    ``foreign`` says whether it belongs to another package.
    """
    own, bases = _read(str(path), Path(path).stat().st_mtime_ns)
    source = replace(own, foreign=foreign, bases=[])
    for base in bases:
        base_path, _ = Config._get_cfg_path(base, str(path))
        source.bases.append(
            read_source(base_path, foreign or '::' in base
                        and not base.startswith('mmmedmask::')))
    return source


def _targets(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign | ast.AugAssign):
        targets = [statement.target]
    else:
        return []
    return [node.id for target in targets for node in ast.walk(target)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]


@dataclass(frozen=True)
class UnusedName:
    """A top-level name that has no effect, and where it is set.

    Attributes:
        key: The runner's key that it resembles, which may be meant; empty.
        overrides: Whether it is set again after a base has used its own.
    """

    name: str
    path: Path
    line: int
    key: str = ''
    overrides: bool = False

    @property
    def place(self) -> str:
        """Name, file and line."""
        return f'{self.name} ({self.path.name}, line {self.line})'

    @property
    def reason(self) -> str:
        """Why it has no effect."""
        if self.key:
            return (f'{self.name!r} is nothing that a runner reads, and '
                    'nothing in the config reads it')
        if self.overrides:
            return (f'setting {self.name!r} here has no effect: the base has '
                    'used its own value already')
        return f'nothing reads {self.name!r}'

    @property
    def mend(self) -> str:
        """What to do about it."""
        return f'did you mean {self.key!r}?' if self.key else \
            'set what the base makes of it' if self.overrides else 'remove it'


def unused_names(path: str | Path, keys: Set[str]) -> list[UnusedName]:
    """Find top-level names of a config in Python that have no effect.

    ``keys`` are what a runner reads.

    Returns:
        Names that look like a misspelled key, of the file and of its bases,
        but for those in other packages; then the other names of the file
        itself. What bases offer need not be used by all.
    """
    if Path(path).suffix != '.py':
        return []
    source = read_source(path)
    inherited = _all_names(source.bases)
    return [*_misspelled(source, frozenset(), keys), *(
        UnusedName(name, source.path, line, overrides=name in inherited)
        for name, line in _unused(source, frozenset(), keys).items()
        if not _resembles(name, keys))]


def names_in_vain(path: str | Path, keys: Set[str]) -> list[UnusedName]:
    """Find those of :func:`unused_names` that a child itself sets.

    Nothing is in vain in a file without bases: a run dumps its config as one,
    with all variables and without what has read them. One that neither
    overrides a base's nor resembles a key may be a note.
    """
    if Path(path).suffix != '.py' or not read_source(path).bases:
        return []
    return [name for name in unused_names(path, keys)
            if name.path == Path(path)]


def _resembles(name: str, keys: Set[str]) -> str:
    near = nearest_names(name, sorted(keys), cutoff=.8)
    return near[0] if near else ''


def _unused(source: ConfigNames, read_by_children: Set[str],
            keys: Set[str]) -> dict[str, int]:
    """Return the names, and their lines, that a file sets in vain."""
    used = source.read | read_by_children | keys | SPECIAL
    return {name: line for name, line in source.assigned.items()
            if name not in used}


def _misspelled(source: ConfigNames, read_by_children: Set[str],
                keys: Set[str]) -> list[UnusedName]:
    """Look for misspelled keys in a file and in its bases."""
    if source.foreign:
        return []
    misspelled = [UnusedName(name, source.path, line, near) for name, line in
                  _unused(source, read_by_children, keys).items()
                  if (near := _resembles(name, keys))]
    below = read_by_children | source.read_from_bases
    return misspelled + [name for base in source.bases
                         for name in _misspelled(base, below, keys)]


def _all_names(sources: list[ConfigNames]) -> set[str]:
    return {name for source in sources
            for name in (*source.assigned, *_all_names(source.bases))}
