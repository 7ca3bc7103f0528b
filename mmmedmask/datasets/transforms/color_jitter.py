"""Jitter the colours of images whose channels are red, green and blue."""

from collections.abc import Sequence

from mmcv.transforms import BaseTransform

from mmmedmask.registry import TRANSFORMS
from mmmedmask.util.checks import (
    check_ascending,
    check_choice,
    check_range,
    check_shape,
)

Strength = float | Sequence[float]


@TRANSFORMS.register_module()
class ColorJitter(BaseTransform):
    """mmpretrain's ColorJitter for images as ``mmmedmask.LoadTile`` reads.

    mmpretrain's takes channels for blue, green and red, whatever they are. Of
    an image in RGB it would turn the hue of another colour, and weigh red as
    blue in the gray of contrast and saturation. Arguments and random draws are
    the same.

    **Modified key**: ``img``, uint8 of shape (H, W, 3).

    Args:
        brightness: Factors are drawn from 1 - brightness to 1 + brightness,
            or from (least, largest). So for contrast and saturation.
        hue: Turns are drawn from -hue to hue, or from (least, largest), in
            parts of a full circle, at most 0.5.
        backend: ``'pillow'`` or ``'cv2'``.
    """

    def __init__(self, brightness: Strength = 0., contrast: Strength = 0.,
                 saturation: Strength = 0., hue: Strength = 0.,
                 backend: str = 'pillow') -> None:
        for name, strength in (('brightness', brightness),
                               ('contrast', contrast),
                               ('saturation', saturation), ('hue', hue)):
            if isinstance(strength, Sequence):
                check_ascending(name, strength, -.5 if name == 'hue' else 0)
            else:
                check_range(name, strength, 0)
        check_choice('backend', backend, ('pillow', 'cv2'))
        # By its name: the import of all of mmpretrain's data sets can wait.
        self.jitter_bgr = TRANSFORMS.build(
            dict(type='mmpretrain.ColorJitter', brightness=brightness,
                 contrast=contrast, saturation=saturation, hue=hue,
                 backend=backend))

    def transform(self, results: dict) -> dict:
        image = results['img']
        check_shape(f'{results.get("img_path")} for ColorJitter', image,
                    ('H', 'W', 3), 'it takes RGB')
        results['img'] = image[..., ::-1]
        results = self.jitter_bgr(results)
        results['img'] = results['img'][..., ::-1]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.jitter_bgr})'
