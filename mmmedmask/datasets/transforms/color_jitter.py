"""Jitter the colours of images whose channels are red, green and blue."""

from mmpretrain.datasets import ColorJitter as BGRColorJitter

from mmmedmask.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ColorJitter(BGRColorJitter):
    """mmpretrain's ColorJitter for images as ``mmmedmask.LoadTile`` reads.

    mmpretrain's takes channels for blue, green and red, whatever they are. Of
    an image in RGB it would turn the hue of another colour, and weigh red as
    blue in the gray of contrast and saturation. Arguments and random draws are
    the same.

    **Modified key**: ``img``, uint8 of shape (H, W, 3).

    Args:
        brightness: Factors are drawn from 1 - brightness to 1 + brightness,
            or from (least, largest).
        contrast: Likewise.
        saturation: Likewise.
        hue: Turns are drawn from -hue to hue, or from (least, largest), in
            parts of a full circle, at most 0.5.
        backend: ``'pillow'`` or ``'cv2'``.
    """

    def transform(self, results: dict) -> dict:
        """Change the colours of an image.

        Args:
            results: Sample with ``img``.

        Returns:
            The same dict.

        Raises:
            ValueError: If the image has not three channels.
        """
        image = results['img']
        if image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(
                'ColorJitter needs an image of shape (H, W, 3) in RGB, got '
                f'{image.shape} of {results.get("img_path")}')
        results['img'] = image[..., ::-1]
        results = super().transform(results)
        results['img'] = results['img'][..., ::-1]
        return results
