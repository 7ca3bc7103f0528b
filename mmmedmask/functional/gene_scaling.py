"""Bring gene expression to a common scale, gene by gene.

Shared by the data sets, which fit the scale, and the models, which carry it
in their checkpoints.
"""

import torch


def is_linear_unit(unit: str) -> bool:
    """Whether values of a unit are still to be taken the logarithm of.

    Args:
        unit: One of the units of :mod:`mmmedmask.datasets.expression.units`,
            such as ``'fpkm'``, ``'log2_tpm'`` or ``'zscore'``.

    Returns:
        False for logarithms and z-scores.
    """
    return not unit.startswith('log2_') and unit != 'zscore'


def scale_genes(values: torch.Tensor,
                mean: torch.Tensor,
                std: torch.Tensor,
                log2: bool = True,
                clip: float = 10.0,
                constant_below: float = 1e-6) -> torch.Tensor:
    """Take the logarithm and standardise each gene.

    ``clip((log2(x + 1) - mean) / std)``, without the logarithm if ``log2`` is
    off. Genes whose ``std`` is below ``constant_below`` (they were constant
    when the scale was fitted) and values that are NaN (missing) become 0,
    the mean.

    Args:
        values: Expression of shape (..., G), NaN where missing.
        mean: Mean per gene, after the logarithm, shape (G, ).
        std: Standard deviation per gene, after the logarithm, shape (G, ).
        log2: Whether ``values`` are still linear.
        clip: Largest absolute value that is given out.
        constant_below: Smallest standard deviation that counts.

    Returns:
        Shape (..., G), the dtype of ``values``, within [-clip, clip].
    """
    if log2:
        values = torch.log2(values + 1)
    varies = std >= constant_below
    scaled = (values - mean) / torch.where(varies, std, 1)
    scaled = scaled.clamp(-clip, clip).nan_to_num(nan=0.0)
    return torch.where(varies, scaled, 0).to(values.dtype)
