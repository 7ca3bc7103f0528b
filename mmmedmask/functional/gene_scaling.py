"""Bring gene expression to a common scale: log2(x + 1), z-scores, clipped.

The arithmetic alone: ``ExpressionTable.fit_scale`` fits it to training cases,
and ``GeneScale`` carries it in checkpoints.
"""

import torch

CONSTANT_BELOW = 1e-6
"""Genes of a smaller standard deviation count as constant."""

# Genes at a time, so that float64 takes little memory.
_BLOCK = 4096


def is_linear_unit(unit: str) -> bool:
    """Whether values of a unit are neither logarithms nor z-scores.

    Units are those of :mod:`mmmedmask.datasets.expression.units`.

    Example:
        >>> is_linear_unit('fpkm'), is_linear_unit('log2_tpm')
        (True, False)
    """
    return not unit.startswith('log2_') and unit != 'zscore'


def gene_statistics(values: torch.Tensor,
                    log2: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation (of the population) of each gene, (G, ).

    float32, computed in float64; 0 for genes that are missing in all samples.
    Expression is (S, G), NaN where missing, still linear if ``log2``.

    Example:
        >>> gene_statistics(torch.tensor([[1.], [3.]]), log2=True)
        (tensor([1.5000]), tensor([0.5000]))
    """
    means, deviations = [], []
    for block in values.split(_BLOCK, dim=1):
        block = block.double()
        if log2:
            block = torch.log2(block + 1)
        known = (~block.isnan()).sum(dim=0).clamp(min=1)
        mean = block.nansum(dim=0) / known
        square = (block - mean).square().nansum(dim=0)
        means.append(mean)
        deviations.append((square / known).sqrt())
    return torch.cat(means).float(), torch.cat(deviations).float()


def scale_genes(values: torch.Tensor, mean: torch.Tensor, std: torch.Tensor,
                log2: bool = True, clip: float = 10.0) -> torch.Tensor:
    """Take the logarithm and standardise each gene.

    ``clip((log2(x + 1) - mean) / std)``, without the logarithm if ``log2`` is
    off, for values (..., G). Genes that were constant when the scale was
    fitted and values that are NaN (missing) become 0, the mean.

    Args:
        mean: Mean per gene, after the logarithm, shape (G, ).
        std: Its standard deviation, shape (G, ).
        clip: Largest absolute value that is given out.

    Example:
        >>> one, two = torch.tensor([1.]), torch.tensor([2.])
        >>> scale_genes(torch.tensor([[7.], [torch.nan]]), one, two)
        tensor([[1.],
                [0.]])
    """
    if log2:
        values = torch.log2(values + 1)
    varies = std >= CONSTANT_BELOW
    scaled = (values - mean) / torch.where(varies, std, 1)
    scaled = scaled.clamp(-clip, clip).nan_to_num(nan=0.0)
    return torch.where(varies, scaled, 0).to(values.dtype)
