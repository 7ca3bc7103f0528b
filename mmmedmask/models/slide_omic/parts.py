"""Building the parts of models of slides and genes, so that they fit."""

from torch import nn

from mmmedmask.registry import MODELS


def build_part(part: dict | nn.Module | None,
               **filled_in: int) -> nn.Module | None:
    """Build a part with dimensions that follow from other parts.

    Args:
        part: Config, or the part itself; None stays.
        filled_in: Arguments that the config need not name. The part has
            attributes of these names.

    Returns:
        The part.

    Raises:
        ValueError: If the part has other dimensions than those.
    """
    if part is None:
        return None
    if not isinstance(part, nn.Module):
        part = MODELS.build({**filled_in, **part})
    for name, value in filled_in.items():
        found = getattr(part, name)
        if found != value:
            raise ValueError(
                f'{type(part).__name__} has {name}={found}, the parts before '
                f'it give {value}')
    return part


def build_preprocessor(
        config: dict | nn.Module | None) -> nn.Module:
    """Build a preprocessor, by default that of slides and genes.

    Args:
        config: Config, or the preprocessor itself. Without a type, or with
            None, it is ``mmmedmask.SlideOmicDataPreprocessor``.

    Returns:
        The preprocessor.
    """
    if isinstance(config, nn.Module):
        return config
    return MODELS.build(
        dict(type='mmmedmask.SlideOmicDataPreprocessor') | dict(config or {}))
