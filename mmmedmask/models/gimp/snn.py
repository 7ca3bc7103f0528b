"""The gene encoder of the omics baselines: a self-normalising network."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import nn

from mmmedmask.models.gimp.gene_inputs import check_gene_encoder, check_genes
from mmmedmask.registry import MODELS

ACTIVATIONS = dict(elu=nn.ELU, selu=nn.SELU)


@MODELS.register_module()
class SNN(BaseModule):
    """Linear layers with ELU and alpha dropout.

    Klambauer et al., "Self-Normalizing Neural Networks", NeurIPS 2017;
    weights start with variance 1 / inputs, as they ask for. Theirs has SELU,
    the networks for expression and slides (PORPOISE, MCAT) have ELU.

    Args:
        num_genes: Genes, G.
        embed_dims: Dimensions of the output, d.
        hidden_dims: Dimensions of the layers before the last.
        drop_rate: Alpha dropout behind each layer.
        activation: ``'elu'`` or ``'selu'``.
        init_cfg: Initialisation; None is the one above.

    Raises:
        ValueError: If an argument is outside its range.
    """

    def __init__(self,
                 num_genes: int,
                 embed_dims: int = 256,
                 hidden_dims: Sequence[int] = (256, ),
                 drop_rate: float = 0.25,
                 activation: str = 'elu',
                 init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        check_gene_encoder(num_genes, embed_dims, drop_rate=drop_rate)
        if any(dims < 1 for dims in hidden_dims):
            raise ValueError('hidden_dims must be at least 1 each, got '
                             f'{tuple(hidden_dims)}')
        if activation not in ACTIVATIONS:
            raise ValueError(
                f'activation must be one of {tuple(ACTIVATIONS)}, got '
                f'{activation!r}')
        self.num_genes = num_genes
        self.embed_dims = embed_dims
        sizes = [num_genes, *hidden_dims, embed_dims]
        self.layers = nn.Sequential(*(
            nn.Sequential(nn.Linear(before, after), ACTIVATIONS[activation](),
                          nn.AlphaDropout(drop_rate))
            for before, after in zip(sizes, sizes[1:], strict=False)))
        for layer, *_ in self.layers:
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
            nn.init.zeros_(layer.bias)

    def forward(self, genes: torch.Tensor) -> torch.Tensor:
        """Encode patients.

        Args:
            genes: Scaled expression, shape (B, G).

        Returns:
            Shape (B, d).

        Raises:
            ValueError: If the shape is another.
        """
        check_genes(genes, self.num_genes)
        return self.layers(genes)
