"""Which keyword arguments a class or a function takes.

Those that a class hands on by ``**kwargs`` are followed to its bases, as far
as the source tells where they go.
"""

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

#: Methods of a dictionary whose first argument is a key that is used.
KEY_METHODS = ('pop', 'get', 'setdefault')


@dataclass(frozen=True)
class Parameters:
    """Keyword arguments that a callable takes; no others if ``closed``.

    ``flags`` are those that its signature says are true or false.
    """

    names: frozenset[str]
    closed: bool
    flags: frozenset[str] = frozenset()


@functools.cache
def accepted_parameters(target: Callable) -> Parameters:
    """Collect the keyword arguments of a class or a function.

    Those of base classes count as far as ``**kwargs`` are handed on to them.
    """
    if not inspect.isclass(target):
        own, keywords = _split(inspect.unwrap(target))
        return Parameters(frozenset(own or ()),
                          own is not None and keywords is None,
                          _flags(inspect.unwrap(target)))
    names: set[str] = set()
    flags: frozenset[str] = frozenset()
    for cls in target.__mro__:
        constructor = cls.__dict__.get('__init__')
        if cls in (nn.Module, object):
            break
        if constructor is None:
            continue
        function = inspect.unwrap(constructor)
        own, keywords = _split(function)
        # What a class says of an argument, its bases cannot change.
        flags |= _flags(function) - names
        names |= (own or set()) - {'self'}
        if own is not None and keywords is None:
            break
        used = keywords and _follow(function, keywords)
        if used is None:
            return Parameters(frozenset(names), False, flags)
        names |= used
    return Parameters(frozenset(names), True, flags)


def _flags(function: Callable) -> frozenset[str]:
    """Return the arguments that are annotated as ``bool`` and no more."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return frozenset()
    return frozenset(parameter.name for parameter in parameters
                     if parameter.annotation in (bool, 'bool'))


def _split(function: Callable) -> tuple[set[str] | None, str | None]:
    """Return a function's named arguments, and the name of ``**kwargs``."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        # Written in C, without a signature.
        return None, None
    names = {parameter.name for parameter in parameters if parameter.kind in (
        parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)}
    keywords = next((parameter.name for parameter in parameters
                     if parameter.kind is parameter.VAR_KEYWORD), None)
    return names, keywords


def _parents(target: Callable) -> dict[ast.AST, ast.AST]:
    """Map each node of a source to the one above; empty without a source."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(target)))
    except (OSError, TypeError, SyntaxError):
        return {}
    return {child: node for node in ast.walk(tree)
            for child in ast.iter_child_nodes(node)}


def _follow(constructor: Callable, keywords: str) -> set[str] | None:
    """Find the keys that a constructor takes out of its ``**kwargs``.

    None if it does not hand the rest to its base class alone.
    """
    parents = _parents(constructor)
    used: set[str] = set()
    handed_on = False
    for node in parents:
        if not isinstance(node, ast.Name) or node.id != keywords:
            continue
        parent = parents[node]
        if isinstance(parent, ast.keyword) and parent.arg is None \
                and _is_base_constructor(parents[parent]):
            handed_on = True
            continue
        key = _key_of(node, parents)
        if key is None:
            return None
        used.add(key)
    return used if handed_on else None


def _is_base_constructor(call: ast.AST) -> bool:
    """Whether a call is ``super().__init__(...)``."""
    function = getattr(call, 'func', None)
    return (isinstance(function, ast.Attribute) and function.attr == '__init__'
            and isinstance(function.value, ast.Call)
            and getattr(function.value.func, 'id', None) == 'super')


def _key_of(node: ast.Name, parents: dict) -> str | None:
    """Return the literal key with which a dictionary is asked."""
    key: ast.AST | None = None
    match parent := parents[node]:
        case ast.Subscript():
            key = parent.slice
        case ast.Compare(ops=[ast.In() | ast.NotIn(), *_]):
            key = parent.left
        case ast.Attribute() if parent.attr in KEY_METHODS:
            call = parents[parent]
            if isinstance(call, ast.Call) and call.args:
                key = call.args[0]
    return key.value if isinstance(key, ast.Constant) and isinstance(
        key.value, str) else None


@functools.cache
def keys_read_from(cls: type, attribute: str) -> frozenset[str]:
    """Collect the literal keys that a class, or a base of it, reads from one
    of its dicts, an attribute such as ``paramwise_cfg``.
    """
    keys: set[str | None] = set()
    for base in cls.__mro__[:-1]:
        parents = _parents(base)
        keys |= {_key_of(node, parents) for node in parents
                 if isinstance(node, ast.Attribute) and node.attr == attribute
                 or isinstance(node, ast.Name) and node.id == attribute}
    return frozenset(keys - {None})
