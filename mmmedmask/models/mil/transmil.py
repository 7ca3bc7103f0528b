"""TransMIL: two layers of Nyström attention with positions in between.

Shao et al., "TransMIL: Transformer based Correlated Multiple Instance
Learning for Whole Slide Image Classification", NeurIPS 2021.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmmedmask.functional.bags import check_padded_bags
from mmmedmask.models.gimp.aggregator import NystromAggregator
from mmmedmask.models.mil.base import FeatureNorm, check_unmasked
from mmmedmask.registry import MODELS
from mmmedmask.util.checks import check_choice

COORDINATE_CHOICES = ('raise', 'square')


@MODELS.register_module()
class TransMIL(NystromAggregator):
    """GiMP's aggregator with a ReLU behind the embedding and PPEG.

    The convolutions of PPEG run over the grid where the patches lie on the
    slide. The paper instead folds the sequence to a square, row by row, with
    copies of its first patches to fill it. Features without coordinates can
    be folded like that, with nothing in the cells that are left.

    Args:
        in_dims: Dimensions of the patch features, D.
        without_coords: ``'raise'``, or ``'square'`` to fold bags without
            coordinates to a square.
        drop_rate: Dropout behind each layer's output projection.
        norm_features: See :class:`BagAggregator`.
        options: Further arguments of
            :class:`~mmmedmask.models.gimp.NystromAggregator`.

    Raises:
        ValueError: If an argument is outside its range.
    """

    class_wise = False
    uses_genes = False

    def __init__(self,
                 in_dims: int,
                 without_coords: str = 'raise',
                 drop_rate: float = 0.1,
                 norm_features: bool = False,
                 **options) -> None:
        super().__init__(in_dims, ppeg=True, mask_token='zeros',
                         drop_rate=drop_rate, **options)
        self.without_coords = check_choice('without_coords', without_coords,
                                           COORDINATE_CHOICES)
        # By names, so that the layer's is the same without the first.
        norm = {'norm': FeatureNorm(in_dims)} if norm_features else {}
        self.embed = nn.Sequential(
            OrderedDict({**norm, '0': self.embed, '1': nn.ReLU()}))

    def cells(self, coords: Tensor | None, counts: Sequence[int],
              device: torch.device) -> list[Tensor]:
        """Where the patches lie; without coordinates, cells of a square."""
        if coords is not None:
            return super().cells(coords, counts, device)
        squares = []
        for count in counts:
            side = max(1, math.isqrt(max(count - 1, 0)) + 1)
            place = torch.arange(count, device=device)
            squares.append(torch.stack(
                [place.div(side, rounding_mode='floor'), place % side],
                dim=1))
        return squares

    def check_inputs(self, patches: Tensor, valid: Tensor | None,
                     mask: Tensor | None, coords: Tensor | None) -> None:
        """Raise a ValueError if inputs do not fit the model or each other."""
        check_unmasked(self, mask)
        if coords is not None:
            super().check_inputs(patches, valid, mask, coords)
            return
        check_padded_bags(patches, valid, self.in_dims)
        if self.without_coords == 'raise':
            raise ValueError(
                'TransMIL needs coords of shape (B, N, 2), got None: these '
                'features have no coordinates, or the pipeline does not '
                "load them; without_coords='square' folds them to a square")
