"""Let an error on one rank end all: the others would wait for it for ever."""

from collections.abc import Callable
from typing import Any

from mmengine.dist import all_gather_object, get_world_size


class RankError(RuntimeError):
    """Another rank has failed; the message says which one, and why."""


def gather_results(work: Callable[..., Any], *arguments: object) -> list:
    """Call a function on each rank; give what all of them return, by rank.

    Where it raises an exception on one rank, the others raise a RankError.
    Work that is parted so may be a part of such work: what all ranks know of
    an error they tell once. Between two such meetings ranks must not meet in
    another way.

    Example:
        >>> gather_results(max, 1, 2)
        [2]
    """
    if get_world_size() == 1:
        return [work(*arguments)]
    message, failure = (None, None), None
    try:
        message = (None, work(*arguments))
    except Exception as error:
        if vars(error).get('_is_shared'):
            raise
        message, failure = (f'{type(error).__name__}: {error}', None), error
    messages = all_gather_object(message)
    others = [f'rank {rank} has failed: {text}'
              for rank, (text, _) in enumerate(messages) if text is not None]
    if others:
        failure = failure or RankError('; '.join(others))
        failure._is_shared = True
        raise failure
    return [result for _, result in messages]


def on_all_ranks(work: Callable[..., Any], *arguments: object) -> Any:
    """Call a function on each rank, see :func:`gather_results`; keep its own.

    What is returned is not sent, and may be of any size.

    Example:
        >>> on_all_ranks(max, 1, 2)
        2
    """
    results = []
    gather_results(lambda: results.append(work(*arguments)))
    return results[0]
