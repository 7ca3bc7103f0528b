"""Walk through nested dictionaries and lists, such as configs."""

from collections.abc import Iterator, Mapping


def nested_dicts(node: object) -> Iterator[dict]:
    """Find all dictionaries in nested dictionaries and lists.

    Args:
        node: Anything.

    Yields:
        ``node`` itself if it is a dictionary, then those inside.
    """
    if isinstance(node, Mapping):
        yield node
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for item in node:
            yield from nested_dicts(item)
