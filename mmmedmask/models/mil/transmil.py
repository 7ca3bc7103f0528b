"""TransMIL: two layers of Nyström attention with positions in between.

Shao et al., "TransMIL: Transformer based Correlated Multiple Instance
Learning for Whole Slide Image Classification", NeurIPS 2021.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mmmedmask.functional.bags import places_known
from mmmedmask.models.gimp.aggregator import NystromAggregator
from mmmedmask.models.mil.base import check_unmasked
from mmmedmask.registry import MODELS
from mmmedmask.util.checks import check_choice

COORDINATE_CHOICES = ('raise', 'square')


@MODELS.register_module()
class TransMIL(NystromAggregator):
    """GiMP's aggregator with PPEG, which reads no masks.

    The convolutions of PPEG run over the grid where the patches lie on the
    slide. The paper instead folds the sequence to a square, row by row, with
    copies of its first patches to fill it. Features without coordinates can
    be folded like that, with nothing in the cells that are left.

    Args:
        without_coords: ``'raise'``, or ``'square'`` to fold bags without
            coordinates to a square.
        options: Further arguments of
            :class:`~mmmedmask.models.gimp.NystromAggregator`.
    """

    places_advice = "; without_coords='square' folds them to a square"

    def __init__(self, in_dims: int, without_coords: str = 'raise',
                 drop_rate: float = 0.1, **options) -> None:
        super().__init__(in_dims, ppeg=True, mask_token='zeros',
                         drop_rate=drop_rate, **options)
        self.without_coords = check_choice('without_coords', without_coords,
                                           COORDINATE_CHOICES)

    def cells(self, coords: Tensor | None, counts: Sequence[int],
              device: torch.device) -> list[Tensor]:
        """Where the patches lie; without coordinates, cells of a square."""
        slides = [None] * len(counts) if coords is None else coords.split(
            counts)
        return [_square(count, device) if slide is None
                or not places_known(slide)
                else super(TransMIL, self).cells(slide, [count], device)[0]
                for count, slide in zip(counts, slides, strict=True)]

    def check_inputs(self, patches: Tensor, valid: Tensor | None,
                     mask: Tensor | None, coords: Tensor | None) -> None:
        """Raise a ValueError if inputs do not fit the model or each other."""
        check_unmasked(self, mask)
        super().check_inputs(patches, valid, mask, coords)

    def check_places(self, coords: Tensor | None,
                     valid: Tensor | None) -> None:
        """Raise a ValueError without places, unless they make a square."""
        if self.without_coords == 'raise':
            super().check_places(coords, valid)


def _square(count: int, device: torch.device) -> Tensor:
    """Cells (count, 2) of a square that is filled row by row."""
    side = max(1, math.isqrt(max(count - 1, 0)) + 1)
    place = torch.arange(count, device=device)
    return torch.stack(
        [place.div(side, rounding_mode='floor'), place % side], dim=1)
