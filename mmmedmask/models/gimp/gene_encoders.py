"""Gene encoders of the omics baselines: self-normalising, and linear."""

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmmedmask.registry import MODELS
from mmmedmask.util.checks import (
    check_choice,
    check_integer,
    check_rate,
    check_shape,
)

ACTIVATIONS = dict(elu=nn.ELU, selu=nn.SELU)


class GeneEncoder(BaseModule):
    """Base of gene encoders, from ``num_genes``, G, to ``embed_dims``, d.

    ``rates`` are dropout rates by name, in [0, 1).
    """

    def __init__(self, num_genes: int, embed_dims: int,
                 init_cfg: dict | list[dict] | None = None,
                 **rates: float) -> None:
        super().__init__(init_cfg)
        self.num_genes = check_integer('num_genes', num_genes)
        self.embed_dims = check_integer('embed_dims', embed_dims)
        for name, value in rates.items():
            check_rate(name, value)

    def check_genes(self, genes: Tensor) -> None:
        """Raise a ValueError unless genes have the shape (B, num_genes)."""
        check_shape('genes', genes, ('B', self.num_genes), 'num_genes of the '
                    "gene encoder is the length of the data set's gene list")


@MODELS.register_module()
class SNN(GeneEncoder):
    """Linear layers with ELU and alpha dropout.

    Klambauer et al., "Self-Normalizing Neural Networks", NeurIPS 2017;
    weights start with variance 1 / inputs, as they ask for. Theirs has SELU,
    the networks for expression and slides (PORPOISE, MCAT) have ELU.

    Args:
        hidden_dims: Dimensions of the layers before the last.
        drop_rate: Alpha dropout behind each layer.
        activation: ``'elu'`` or ``'selu'``.
        init_cfg: Initialisation; None is the one above.
    """

    def __init__(self, num_genes: int, embed_dims: int = 256,
                 hidden_dims: Sequence[int] = (256, ), drop_rate: float = 0.25,
                 activation: str = 'elu',
                 init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(num_genes, embed_dims, init_cfg, drop_rate=drop_rate)
        for dims in hidden_dims:
            check_integer('hidden_dims', dims)
        check_choice('activation', activation, ACTIVATIONS)
        sizes = [num_genes, *hidden_dims, embed_dims]
        self.layers = nn.Sequential(*(
            nn.Sequential(nn.Linear(before, after), ACTIVATIONS[activation](),
                          nn.AlphaDropout(drop_rate))
            for before, after in zip(sizes, sizes[1:], strict=False)))
        for layer, *_ in self.layers:
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
            nn.init.zeros_(layer.bias)

    def forward(self, genes: Tensor) -> Tensor:
        """Encode scaled expression, (B, G) to (B, d); checks the shape."""
        self.check_genes(genes)
        return self.layers(genes)


@MODELS.register_module()
class LinearGeneEncoder(GeneEncoder):
    """Dropout and a linear layer; with a linear head, logistic regression.

    Args:
        drop_rate: Dropout of the genes.
        init_cfg: Initialisation; None draws weights with deviation 0.02.
    """

    def __init__(self, num_genes: int, embed_dims: int = 512,
                 drop_rate: float = 0.0,
                 init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(
            num_genes, embed_dims,
            init_cfg or dict(type='TruncNormal', layer='Linear', std=0.02),
            drop_rate=drop_rate)
        self.drop = nn.Dropout(drop_rate)
        self.linear = nn.Linear(num_genes, embed_dims)

    def forward(self, genes: Tensor) -> Tensor:
        """Encode scaled expression, (B, G) to (B, d); checks the shape."""
        self.check_genes(genes)
        return self.linear(self.drop(genes))
