"""Means over what all ranks have, in losses."""

from mmengine.dist import all_reduce, get_world_size
from torch import Tensor


def count_of_ranks(count: Tensor) -> Tensor:
    """What divides this rank's sum, so that ranks average to the mean of all.

    ``count`` is a scalar of this rank; all together count at least 1.
    """
    count = count.float()
    all_reduce(count)
    return count.clamp(min=1) / get_world_size()
