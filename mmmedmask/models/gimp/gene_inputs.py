"""What all gene encoders check."""

import torch


def check_gene_encoder(num_genes: int, embed_dims: int,
                       **rates: float) -> None:
    """Raise a ValueError unless sizes and dropout rates are in range.

    Args:
        num_genes: At least 1.
        embed_dims: At least 1.
        rates: Dropout rates by name, in [0, 1).
    """
    for name, value in (('num_genes', num_genes), ('embed_dims', embed_dims)):
        if value < 1:
            raise ValueError(f'{name} must be at least 1, got {value}')
    for name, value in rates.items():
        if not 0 <= value < 1:
            raise ValueError(f'{name} must be in [0, 1), got {value}')


def check_genes(genes: torch.Tensor, num_genes: int) -> None:
    """Raise a ValueError unless genes have the shape (B, num_genes)."""
    if genes.ndim != 2 or genes.shape[1] != num_genes:
        raise ValueError(
            f'genes must have the shape (B, {num_genes}), got '
            f'{tuple(genes.shape)}: num_genes of the gene encoder is the '
            "length of the data set's gene list")
