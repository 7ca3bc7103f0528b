"""Make the model of a config with the weights of a checkpoint."""

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmmedmask.engine.checkpoint.reading import get_state_dict, read_checkpoint


def build_trained_model(config: Config,
                        checkpoint: str,
                        device: str | torch.device = 'cpu') -> nn.Module:
    """Build a config's model with the weights of a checkpoint.

    Args:
        config: The config; its ``default_scope`` is used from here on.
        checkpoint: The file; every tensor has to fit.
        device: Where the model goes.

    Returns:
        The model in evaluation mode.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read safely, or the weights do not fit
            the model.

    Example:
        >>> _ = MODELS.register_module('ExampleModel', True, nn.Linear)
        >>> torch.save(nn.Linear(2, 1).state_dict(), 'linear.pth')
        >>> config = Config(dict(model=dict(
        ...     type='ExampleModel', in_features=2, out_features=1)))
        >>> build_trained_model(config, 'linear.pth').training
        False
    """
    init_default_scope(config.get('default_scope') or 'mmengine')
    weights = get_state_dict(read_checkpoint(checkpoint))
    model = MODELS.build(config.model)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(
            f'the weights do not fit the config: {error}') from None
    return model.to(device).eval()
