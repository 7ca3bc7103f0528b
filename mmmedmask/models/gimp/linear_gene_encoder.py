"""The plainest gene encoder: one linear layer."""

import torch
from mmengine.model import BaseModule
from torch import nn

from mmmedmask.models.gimp.gene_inputs import check_gene_encoder, check_genes
from mmmedmask.registry import MODELS


@MODELS.register_module()
class LinearGeneEncoder(BaseModule):
    """Dropout and a linear layer; with a linear head, logistic regression.

    Args:
        num_genes: Genes, G.
        embed_dims: Dimensions of the output, d.
        drop_rate: Dropout of the genes.
        init_cfg: Initialisation.

    Raises:
        ValueError: If an argument is outside its range.
    """

    def __init__(self,
                 num_genes: int,
                 embed_dims: int = 512,
                 drop_rate: float = 0.0,
                 init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(
            init_cfg or dict(type='TruncNormal', layer='Linear', std=0.02))
        check_gene_encoder(num_genes, embed_dims, drop_rate=drop_rate)
        self.num_genes = num_genes
        self.embed_dims = embed_dims
        self.drop = nn.Dropout(drop_rate)
        self.linear = nn.Linear(num_genes, embed_dims)

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
        return self.linear(self.drop(genes))
