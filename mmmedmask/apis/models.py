"""Find models by name, and build them with or without trained weights."""

import copy
from fnmatch import fnmatch
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmmedmask.config_files import load_config, model_index, need_keys
from mmmedmask.engine.checkpoint.reading import (
    get_dataset_meta,
    get_state_dict,
    read_checkpoint,
    refuse_not_finite,
)
from mmmedmask.engine.frozen_features import build_untrained
from mmmedmask.util.nearest import did_you_mean
from mmmedmask.util.nested import nested_dicts, split_init


def list_models(pattern: str = '*') -> list[str]:
    """List the models that :func:`get_model` takes by name, sorted.

    The pattern is as in a shell; ``'cmim'`` alone means ``'cmim*'``.

    Example:
        >>> list_models('transmil_1xb8-coslr')
        ['transmil_1xb8-coslr-70e_tcga-nsclc']
    """
    return [name for name in model_index() if fnmatch(name, f'{pattern}*')]


def get_model(model: str | Path | Config, checkpoint: str | None = None,
              device: str | torch.device = 'cpu') -> nn.Module:
    """Build a model, with the weights of a checkpoint if there is one.

    Args:
        model: A name of :func:`list_models`, the path of a config, or a
            config; its ``default_scope`` is used from here on.
        checkpoint: The file; every tensor has to fit, and to be finite. None
            leaves random weights, others in each call; see
            :func:`untrained_model`.

    Returns:
        The model in evaluation mode. As mmpretrain's inferencers expect, it
        has the config as ``_config`` and what the checkpoint says of its
        classes as ``_dataset_meta``.

    Raises:
        FileNotFoundError: If there is no such config or checkpoint.
        ValueError: If the checkpoint cannot be read safely, or the weights
            do not fit the model or are not finite.

    Example:
        >>> get_model('abmil_1xb8-coslr-70e_tcga-nsclc').training
        False
    """
    built = build_model(_read_config(model))
    if checkpoint is not None:
        content = read_checkpoint(checkpoint)
        tensors = get_state_dict(content)
        refuse_not_finite(tensors, f'in {str(checkpoint)!r}')
        try:
            built.load_state_dict(tensors)
        except RuntimeError as error:
            raise ValueError(
                f'{checkpoint} does not fit the config: {error}') from None
        built._dataset_meta = get_dataset_meta(content)
    return built.to(device).eval()


def build_model(config: Config) -> nn.Module:
    """Build the model of a config without the weights that it starts from.

    It has its config, as a model of :func:`get_model`.

    Example:
        >>> _ = MODELS.register_module('ExampleModel', True, nn.Linear)
        >>> build_model(Config(dict(model=dict(
        ...     type='ExampleModel', in_features=2, out_features=1))))
        Linear(in_features=2, out_features=1, bias=True)
    """
    settings = _model_settings(config)
    # A teacher asks for its file; that is read by init_weights alone.
    parts = {name: part for name, part in settings.items()
             if name != 'target_generator'}
    for part in nested_dicts(parts):
        loaded, drawn = split_init(part.get('init_cfg'))
        if loaded:
            part['init_cfg'] = drawn or None
    built = MODELS.build(settings)
    built._config, built._dataset_meta = config, {}
    return built


def untrained_model(config: str | Path | Config, seed: int,
                    device: str | torch.device = 'cpu') -> nn.Module:
    """Build a model with the random weights that a run starts from.

    They follow the seed alone, and nothing is loaded from a file. Else the
    model is as :func:`get_model` gives it, of a name, a path or a config, but
    BEiT has no teacher.

    Example:
        >>> first, again = (untrained_model(
        ...     'abmil_1xb8-coslr-70e_tcga-nsclc', 0) for _ in range(2))
        >>> torch.equal(next(first.parameters()), next(again.parameters()))
        True
    """
    config = _read_config(config)
    built = build_untrained(_model_settings(config), seed)
    built._config, built._dataset_meta = config, {}
    return built.to(device).eval()


def _model_settings(config: Config) -> dict:
    """Copy what a run builds its model from, in the scope of the config."""
    need_keys(config, 'model')
    init_default_scope(config.get('default_scope') or 'mmengine')
    settings = copy.deepcopy(config.model)
    settings.setdefault('data_preprocessor', config.get('data_preprocessor'))
    if settings.data_preprocessor is None:
        del settings['data_preprocessor']
    return settings


def _read_config(model: str | Path | Config) -> Config:
    if isinstance(model, Config):
        return model
    if Path(model).suffix == '.py' or Path(model).is_file():
        return load_config(model)
    names = model_index()
    if str(model) not in names:
        raise FileNotFoundError(
            f'{str(model)!r} is neither a config file nor the name of a '
            f'model.{did_you_mean(str(model), names, count=3)} '
            'list_models() has all names')
    return load_config(names[str(model)])
