"""Tell transforms inside of ``MultiView`` which of its views they make.

mmpretrain's ``MultiView`` hands all views the same dict. Transforms that draw
from a seed, the epoch and the sample, and not from global generators, would
make the same view each time (no upstream issue).

Delete when ``MultiView`` numbers its views.
"""

import copy

from mmmedmask.compat.replacing import replaces


def number_views() -> None:
    """Let mmpretrain's ``MultiView`` add ``view_idx``, counted from 0."""
    from mmpretrain.datasets.transforms.wrappers import MultiView

    @replaces(MultiView, 'transform')
    def transform(original, self, results):
        results['img'] = [
            pipeline(copy.deepcopy({**results, 'view_idx': view}))['img']
            for view, pipeline in enumerate(self.transforms)]
        return results
