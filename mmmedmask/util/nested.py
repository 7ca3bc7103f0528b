"""Walk through nested dictionaries and lists, such as configs."""

from collections.abc import Iterable, Iterator, Mapping


def walk_nested(node: object,
                path: tuple = ()) -> Iterator[tuple[tuple, object]]:
    """Visit everything in nested dicts and lists, parents first, with paths.

    Example:
        >>> [path for path, _ in walk_nested({'a': [1, {'b': 2}]})]
        [(), ('a',), ('a', 0), ('a', 1), ('a', 1, 'b')]
    """
    yield path, node
    if isinstance(node, Mapping):
        items = list(node.items())
    elif isinstance(node, (list, tuple)):
        items = list(enumerate(node))
    else:
        return
    for key, child in items:
        yield from walk_nested(child, (*path, key))


def as_list(value: object) -> list:
    """List several values, or the one: a text is one, and so is a path.

    Example:
        >>> as_list('scc'), as_list(('aca', 'scc'))
        (['scc'], ['aca', 'scc'])
    """
    alone = isinstance(value, str | Mapping) or not isinstance(value, Iterable)
    return [value] if alone else list(value)


def nested_dicts(node: object) -> Iterator[dict]:
    """Find all dictionaries in nested ones and lists, the outermost first.

    Example:
        >>> len(list(nested_dicts({'a': [1, {'b': 2}]})))
        2
    """
    for _, child in walk_nested(node):
        if isinstance(child, Mapping):
            yield child


def innermost_datasets(dataset: Mapping) -> Iterator[Mapping]:
    """Find the configs of data sets that wrap no other, in their order.

    Example:
        >>> wrapped = {'datasets': [{'type': 'A'}, {'dataset': {'type': 'B'}}]}
        >>> [inner['type'] for inner in innermost_datasets(wrapped)]
        ['A', 'B']
    """
    wrapped = [part for part in dataset.get('datasets') or [
        dataset.get('dataset')] if isinstance(part, Mapping)]
    if not wrapped:
        yield dataset
    for part in wrapped:
        yield from innermost_datasets(part)


def node_at(node: object, path: Iterable) -> object:
    """Return what nested dicts and lists have at a path.

    Example:
        >>> node_at({'a': [1, {'b': 2}]}, ('a', '1', 'b'))
        2
    """
    for key in path:
        node = node[int(key) if isinstance(node, list | tuple) else key]
    return node


def dotted(path: tuple) -> str:
    """Write the path of a node as ``--cfg-options`` does: ``a.0.b``.

    Example:
        >>> dotted(('a', 0, 'b'))
        'a.0.b'
    """
    return '.'.join(str(part) for part in path)


def split_init(init_cfg: Mapping | Iterable[Mapping] | None
               ) -> tuple[list[Mapping], list[Mapping]]:
    """Tell the entries of an ``init_cfg`` that load a file from the others.

    Example:
        >>> split_init([{'type': 'Xavier'}, {'type': 'Pretrained'}])
        ([{'type': 'Pretrained'}], [{'type': 'Xavier'}])
    """
    entries = [init_cfg] if isinstance(init_cfg, Mapping) else init_cfg or []
    return tuple([entry for entry in entries
                  if (entry.get('type') == 'Pretrained') is loads]
                 for loads in (True, False))
