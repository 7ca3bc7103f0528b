"""What a data preprocessor makes of pictures before a network sees them."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace

from mmmedmask.util.nested import nested_dicts

# What reverses channels is called so, in configs and in preprocessors.
_REVERSED_BY = ('to_rgb', 'bgr_to_rgb', 'rgb_to_bgr', '_channel_conversion')
_RANGES = dict(uint8=255.0, uint16=65535.0)


@dataclass(frozen=True)
class InputUnits:
    """How pictures become the input of a network.

    The defaults are of ImageNet, which mmpretrain and timm take where
    nothing else is said.

    Attributes:
        mean: What is subtracted from each channel, in stored units and in the
            order of the network; ``std`` is what it is divided by.
        data_range: Largest stored value, of values from 0 on. None is not
            known: of floats whose loader names neither a range nor a window,
            and of means below 0.
        bgr: Whether the network sees the channels B, G, R.
    """

    mean: tuple[float, ...] = (123.675, 116.28, 103.53)
    std: tuple[float, ...] = (58.395, 57.12, 57.375)
    data_range: float | None = 255.0
    bgr: bool = False

    def known_range(self, purpose: str) -> float:
        """Give ``data_range``; a ValueError says what would need it.

        Example:
            >>> InputUnits().known_range('the export')
            255.0
        """
        if self.data_range is None:
            raise ValueError(
                f'{purpose} needs images of values from 0 to a largest one, '
                'and this network takes floats whose range is not known '
                f'(mean {self.mean}): LoadTile(data_range=...) names the '
                'largest value, and LoadTile(window=(center, width)) makes '
                'such images of gray values with others')
        return self.data_range


def input_units(preprocessor: object,
                config: Mapping | None = None) -> InputUnits:
    """Read the units from a data preprocessor.

    Args:
        preprocessor: Has ``mean`` and ``std``, or normalises nothing, and
            perhaps a ``data_range`` and a switch that reverses channels.
        config: Config of its data and model, whose loader says the order of
            channels and the type of images. Where it does not, networks see
            R, G, B, and images have 8 bits, or 16 if the mean is above 255;
            none is known if it is below 0.

    Raises:
        ValueError: If preprocessor and loader name different ranges.

    Example:
        >>> units = input_units(SimpleNamespace(mean=[900.], std=[300.]))
        >>> units.data_range, units.bgr
        (65535.0, False)
    """
    if isinstance(preprocessor, InputUnits):
        return preprocessor
    config = {} if config is None else config
    loader = _loader_of(config)
    mean, std = (_numbers(getattr(preprocessor, name, None))
                 for name in ('mean', 'std'))
    if mean is None:
        backbone = (config.get('model') or {}).get('backbone') or {}
        channels = backbone.get('in_channels') or loader.get('in_channels', 3)
        mean, std = (0.0, ) * channels, (1.0, ) * channels
    own = getattr(preprocessor, 'data_range', None)
    named = loader.get('data_range')
    if own and named and own != named:
        raise ValueError(
            f'the data preprocessor has data_range {own}, LoadTile has '
            f'{named}: both are the largest stored value, and colours would '
            'be drawn on another range than that of the tiles')
    data_range = own or _range_of(loader)
    if not data_range and loader.get('dtype') != 'float32' and min(mean) >= 0:
        data_range = _RANGES['uint8' if max(mean) <= 255 else 'uint16']
    bgr = getattr(preprocessor, 'bgr', None)
    if bgr is None:
        turned = any(getattr(preprocessor, name, False)
                     for name in _REVERSED_BY)
        bgr = len(mean) == 3 and bool(loader) and turned != (
            _kind_of(loader) == 'LoadImageFromFile')
    return InputUnits(mean, std, data_range and float(data_range), bgr)


def units_of_config(config: Mapping) -> InputUnits:
    """Read the units from a config, building nothing.

    One without a model says nothing of them.

    Example:
        >>> preprocessor = dict(mean=[9.] * 3, std=[2.] * 3, to_rgb=False)
        >>> loader = dict(type='LoadImageFromFile')
        >>> units_of_config(dict(
        ...     model=dict(data_preprocessor=preprocessor),
        ...     train_dataloader=dict(dataset=dict(pipeline=[loader])))).bgr
        True
    """
    model = config.get('model') or {}
    options = model.get('data_preprocessor') or config.get(
        'data_preprocessor') or {}
    if not model and not options:
        return InputUnits()
    if None in (options.get('mean'), options.get('std')):
        scope = config.get('default_scope')
        kind = options.get('type') or getattr(
            _find_class(model.get('type'), scope), 'default_preprocessor',
            None)
        if kind is not None:
            options = {**_defaults(kind, scope), **options}
    return input_units(SimpleNamespace(**options), config)


def _find_class(kind: object, scope: str | None) -> object:
    from mmengine.registry import MODELS
    if isinstance(kind, str):
        return MODELS.get(
            kind if '.' in kind or not scope else f'{scope}.{kind}')
    return kind


def _defaults(kind: object, scope: str | None) -> dict:
    """Mean and std that a type of data preprocessor has by itself."""
    kind = _find_class(kind, scope)
    if kind is None:
        return dict(mean=InputUnits.mean, std=InputUnits.std)
    defaults = {}
    for base in reversed(kind.__mro__):
        parameters = inspect.signature(base.__init__).parameters
        defaults |= {name: parameters[name].default for name in ('mean', 'std')
                  if name in parameters}
    return defaults


def _loader_of(config: Mapping) -> Mapping:
    """The transform of a config that loads images; {} if it is not known."""
    for split in ('train', 'val', 'test'):
        steps = list(nested_dicts(config.get(f'{split}_dataloader')))
        loader = next((step for step in steps if _kind_of(step) in (
            'LoadTile', 'LoadImageFromFile')), None)
        if loader is not None:
            return {} if any(step.get('to_rgb') or step.get('to_bgr')
                             for step in steps) else loader
    return {}


def _kind_of(step: Mapping) -> str:
    return str(step.get('type')).rpartition('.')[2].strip("'>")


def _range_of(loader: Mapping) -> float | None:
    if _kind_of(loader) == 'LoadImageFromFile':
        # mmcv's leaves values as they are if it is told to.
        return _RANGES['uint8'] if loader.get(
            'color_type', 'color') == 'color' else None
    dtype = loader.get('dtype', 'uint8' if loader else None)
    if loader.get('data_range'):
        return loader['data_range']
    if dtype == 'float32' and loader.get('window') is not None:
        return 1.0
    return _RANGES.get(dtype)


def _numbers(values: object) -> tuple[float, ...] | None:
    if hasattr(values, 'flatten'):
        values = values.flatten().tolist()
    return None if values is None else tuple(map(float, values))
