"""Load lesion masks as segmentation labels, and turn them with the image."""

import numpy as np

from mmmedmask.datasets.image_io import ImageFileError
from mmmedmask.datasets.lesion_masks import read_lesion_mask
from mmmedmask.datasets.transforms.recorded_crops import pixel_keys
from mmmedmask.datasets.transforms.seeded import (
    SeededTransform,
    ShownTransform,
)
from mmmedmask.registry import TRANSFORMS
from mmmedmask.util.checks import check_range


@TRANSFORMS.register_module()
class LoadLesionMask(ShownTransform):
    """Read a lesion mask of 0 and 255, or 0 and 1, as labels 0 and 1.

    In training it follows the loading of the image. In testing it stands
    behind the resizing: predictions are measured at the loaded image's size.

    **Required key**: ``ori_shape``, (h, w) of the loaded image.
    **Optional key**: ``lesion_path``; a sample without one has no lesion.
    **Added keys**: ``gt_seg_map``, uint8 of shape (H, W), 1 on the lesion;
    ``seg_fields``, where mmseg's transforms look for it.
    """

    def transform(self, results: dict) -> dict:
        """Read the mask of one sample.

        Raises:
            ImageFileError: If the mask is missing, broken, of another size
                than the image, or holds other values.
        """
        shape = tuple(results['ori_shape'])
        path = results.get('lesion_path')
        mask = (np.zeros(shape, np.uint8) if path is None
                else read_lesion_mask(path).astype(np.uint8))
        if mask.shape != shape:
            raise ImageFileError(
                f'The lesion mask {path} has the size (h, w) {mask.shape}, '
                f'its image {results.get("img_path")} has {shape}')
        results['gt_seg_map'] = mask
        fields = results.setdefault('seg_fields', [])
        if 'gt_seg_map' not in fields:
            fields.append('gt_seg_map')
        return results


@TRANSFORMS.register_module()
class RandomRotate90(SeededTransform):
    """Turn an image and its labels by a random number of right angles.

    With probability ``prob`` by 0, 90, 180 or 270 degrees, each as likely as
    the others, so that with the default 5 of 8 images stay as they are. It is
    the random rotation of MSMAE's segmentation (arXiv 2305.05871, Table 6).
    Needs ``mmmedmask.TransformEpochHook``, as all seeded transforms.

    **Required keys**: ``img`` (H, W, C), ``sample_idx``.
    **Modified keys**: ``img``, ``img_shape`` (h, w), and the arrays (H, W)
    that ``seg_fields`` names.

    Args:
        prob: Probability in [0, 1].
        seed: Seed of the draw; None takes the run's.
    """

    def __init__(self, prob: float = 0.5, seed: int | None = None) -> None:
        super().__init__(seed)
        self.prob = check_range('prob', prob, 0, 1)

    def transform(self, results: dict) -> dict:
        """Turn one sample, counter-clockwise."""
        turn, angle = self.draw(results, 2, 'rotation')[0].tolist()
        quarters = int(4 * angle) if turn < self.prob else 0
        for key in pixel_keys(results):
            results[key] = np.ascontiguousarray(
                np.rot90(results[key], quarters))
        results['img_shape'] = results['img'].shape[:2]
        return results
