"""Top-level names of a config that nothing reads.

After a config is read, a misspelled ``optim_wraper`` is a variable like any
other. The source of the file and of its bases tells which names are read.
"""

import ast
import functools
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from mmengine.config import Config

from mmmedmask.config_files import runner_keys
from mmmedmask.inspection.findings import RED, YELLOW, Finding, ask_typo

BASES = '_base_'
#: Names that have a meaning of their own in a config file.
SPECIAL = frozenset({BASES, '_delete_', '__all__'})
TEMPLATE = re.compile(r'\{\{\s*_base_\.(\w+)')


@dataclass
class ConfigNames:
    """Names in one config file.

    Attributes:
        path: The file.
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
    """Read one file, without its bases, and the names of those.

    Args:
        path: The file.
        changed: When it was changed, so that it is read again then.
    """
    text = Path(path).read_text('utf-8')
    tree = ast.parse(text)
    source = ConfigNames(Path(path), False)
    source.read_from_bases |= set(TEMPLATE.findall(text))
    for statement in tree.body:
        for target in _targets(statement):
            source.assigned[target] = statement.lineno
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            source.read.add(node.id)
        elif isinstance(node, ast.Attribute) \
                and getattr(node.value, 'id', None) == BASES:
            source.read_from_bases.add(node.attr)
    return source, _bases(tree)


def read_source(path: str | Path, foreign: bool = False) -> ConfigNames:
    """Read which names a config file and its bases set and use.

    Args:
        path: The file, in Python.
        foreign: Whether it belongs to another package.

    Returns:
        The names, with those of all bases.

    Raises:
        FileNotFoundError: If the file or one of its bases does not exist.
        SyntaxError: If one of them is not Python.
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
    return [
        node.id for target in targets for node in ast.walk(target)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    ]


def _bases(tree: ast.Module) -> list[str]:
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and BASES in _targets(statement):
            value = ast.literal_eval(statement.value)
            return [value] if isinstance(value, str) else list(value)
    return []


def check_variables(path: str | Path) -> list[Finding]:
    """Find top-level names of a config that have no effect.

    Args:
        path: The config file. Files that are not in Python are not looked
            into.

    Returns:
        Red for a name that looks like a misspelled key of a runner and that
        nothing reads, in the file and in its bases, but for those in other
        packages. Yellow for other names of the file that nothing reads:
        unused ones, and those that a base has used already when the file
        sets them. What bases offer need not be used by all.
    """
    if Path(path).suffix != '.py':
        return []
    findings: list[Finding] = []
    source = read_source(path)
    _find_typos(source, set(), findings, runner_keys())
    _find_unused(source, findings, runner_keys())
    return findings


def _unused(source: ConfigNames, read_by_children: set[str],
            keys: set[str]) -> dict[str, int]:
    """Return the names, and their lines, that a file sets in vain."""
    used = source.read | read_by_children | keys | SPECIAL
    return {name: line for name, line in source.assigned.items()
            if name not in used}


def _find_typos(source: ConfigNames, read_by_children: set[str],
                findings: list[Finding], keys: set[str]) -> None:
    """Look for misspelled keys in a file and in its bases."""
    if source.foreign:
        return
    for name, line in _unused(source, read_by_children, keys).items():
        near = ask_typo(name, keys)
        if near:
            findings.append(Finding(
                RED, 'variable', f'{name!r} is nothing that a runner reads, '
                'and nothing in the config reads it',
                _place(name, line, source), near))
    below = read_by_children | source.read_from_bases
    for base in source.bases:
        _find_typos(base, below, findings, keys)


def _find_unused(source: ConfigNames, findings: list[Finding],
                 keys: set[str]) -> None:
    """Look for names of the file itself that have no effect."""
    inherited = _all_names(source.bases)
    for name, line in _unused(source, set(), keys).items():
        where = _place(name, line, source)
        if ask_typo(name, keys):
            continue
        text, mend = (
            f'setting {name!r} here has no effect: the base has used its own '
            'value already', 'set what the base makes of it') \
            if name in inherited else (f'nothing reads {name!r}', 'remove it')
        findings.append(Finding(YELLOW, 'variable', text, where, mend))


def _place(name: str, line: int, source: ConfigNames) -> str:
    return f'{name} ({source.path.name}, line {line})'


def _all_names(sources: list[ConfigNames]) -> set[str]:
    names: set[str] = set()
    for source in sources:
        names |= set(source.assigned) | _all_names(source.bases)
    return names
