"""Scores of lesion segmentation: per image, and over the data set.

Also those per batch of MSMAE's paper (arXiv 2305.05871, Table 2).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from mmmedmask.datasets.lesion_masks import read_lesion_mask
from mmmedmask.evaluation.base_metric import (
    SampleMetric,
    log_warning,
    require_keys,
)
from mmmedmask.evaluation.predictions import relative_path
from mmmedmask.registry import METRICS
from mmmedmask.util.atomic_files import write_csv
from mmmedmask.util.checks import check_integer, check_size

SCORES = ('iou', 'dice', 'precision', 'recall')
LESION_SCORES = tuple(f'{pooled}{name}' for pooled in ('', 'pooled_')
                      for name in (*SCORES, 'f1'))
COLUMNS = ('path', 'class', 'pixels', 'lesion', 'predicted', 'shared', *SCORES)
OFFICIAL_SMOOTH = 1e-5


@METRICS.register_module()
class BinarySegMetric(SampleMetric):
    """Dice, IoU, F1, precision and recall of a lesion against the rest.

    All are shares, not percent. Dice and F1 of pixels are the same number;
    both names are given.

    - ``iou, dice, f1, precision, recall``: mean over the images that have a
      lesion. Precision is 0 where nothing was predicted.
    - ``pooled_iou``, ...: of the pixels of all images together, those
      predicted in images without a lesion, too.
    - ``num_lesion`` and ``num_normal``: number of images with a lesion and
      without. Of the latter, ``normal_empty`` is the share in which nothing
      was predicted, ``normal_false_area`` the predicted share of the image,
      on average.
    - ``official_iou, official_f1``: as MSMAE's code counts, to compare with
      its paper only. IoU of all pixels of eight images in the order of the
      data set, with 1e-5 added to both areas; F1 is 2 IoU / (1 + IoU) of
      that; both are averaged over the groups, weighted by their size. Eight
      images without a lesion and prediction count 1.

    Without an image with a lesion the scores over such images are NaN, with
    a warning; without one without, those over the latter are left out.

    At every evaluation ``segmentation.csv`` replaces that of the last one:
    the path and class of each image, its number of pixels, of which how many
    are lesion, predicted, and both, and its scores, if it has a lesion.

    Samples need ``pred_sem_seg`` and ``gt_sem_seg`` of one size, with 0 and
    1, and ``img_path``, as mmseg's models and ``PackSegInputs`` give them
    if labels are loaded after the resizing. For the class in the csv, put
    ``class_name`` into the ``meta_keys`` of ``PackSegInputs``.

    Args:
        official_batch: Images per group of the official scores.
        official_size: Size (h, w) to which predictions and labels are brought
            (nearest pixel) for the official scores, in the released code that
            of the model's input; None leaves them at their size.
        data_root: Paths below this folder are written relative to it.
    """

    default_prefix = 'lesion'

    def __init__(self, official_batch: int = 8,
                 official_size: Sequence[int] | None = None,
                 data_root: str | None = None, out_dir: str | None = None,
                 collect_device: str = 'cpu',
                 prefix: str | None = None) -> None:
        super().__init__(out_dir, collect_device, prefix)
        self.official_batch = check_integer('official_batch', official_batch)
        self.official_size = None if official_size is None else check_size(
            'official_size', official_size)
        self.data_root = data_root

    def process(self, data_batch, data_samples: Sequence[Mapping]) -> None:
        for sample in data_samples:
            path = sample.get('img_path')
            require_keys(sample, ('pred_sem_seg', 'gt_sem_seg', 'img_path'),
                         path or 'an image')
            predicted = _as_bool(sample['pred_sem_seg']['data'],
                                 f'the prediction on {path}')
            lesion = _as_bool(sample['gt_sem_seg']['data'],
                              f'the label of {path}').to(predicted.device)
            if predicted.shape != lesion.shape:
                raise ValueError(
                    f'the prediction on {path} has the shape '
                    f'{tuple(predicted.shape)}, its label '
                    f'{tuple(lesion.shape)}; load the label after the '
                    'resizing, so that it has the size of the file')
            official = (predicted, lesion)
            if self.official_size is not None:
                official = (_resize(mask, self.official_size)
                            for mask in official)
            self.results.append(dict(
                path=str(path), class_name=str(sample.get('class_name', '')),
                pixels=lesion.numel(), counts=_count(predicted, lesion),
                official=_count(*official)))

    def undefined_scores(self, infos: Sequence[Mapping]) -> dict[str, str]:
        """Name the scores that lack an image with, or without, a lesion.

        Claims nothing where labels are files that mmseg reads later.
        """
        if any('seg_map_path' in info for info in infos):
            return {}
        kinds = {bool(info.get('lesion_path') and read_lesion_mask(
            info['lesion_path']).any()) for info in infos}
        return {name: f'no image is {which} a lesion'
                for has, which, names in (
                    (True, 'with', LESION_SCORES),
                    (False, 'without', ('normal_empty', 'normal_false_area')))
                if has not in kinds for name in names}

    def compute_metrics(self, results: Sequence[Mapping]) -> dict[str, float]:
        self.check_number(results)
        counts = np.array([result['counts'] for result in results])
        pixels = np.array([result['pixels'] for result in results])
        scores = image_scores(counts)
        self.write('segmentation.csv', write_csv, COLUMNS,
                   self._rows(results, scores))
        values = summarize(counts, scores, pixels)
        if not values['num_lesion']:
            log_warning('No image of the test set has a lesion: scores over '
                        'images with one are NaN.')
        official = np.array([result['official'] for result in results])
        iou, f1 = official_scores(official, self.official_batch)
        return {**values, 'official_iou': iou, 'official_f1': f1}

    def _rows(self, results: Sequence[Mapping],
              scores: Mapping[str, np.ndarray]) -> list[list]:
        rows = []
        for index, result in enumerate(results):
            shared, predicted, lesion = result['counts']
            rows.append(
                [relative_path(result['path'], self.data_root),
                 result['class_name'], result['pixels'], lesion, predicted,
                 shared, *(f'{scores[name][index]:.6f}' if lesion else ''
                           for name in SCORES)])
        return rows


def image_scores(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Score images, or any other sets of pixels.

    ``counts`` (N, 3) are the pixels in both the lesion and the prediction, in
    the prediction, and in the lesion. Gives ``iou``, ``dice``, ``precision``
    and ``recall``, (N,) each. 0 / 0 is 1 for IoU and Dice (nothing there,
    nothing predicted), and 0 for precision and recall.
    """
    shared, predicted, lesion = np.asarray(counts, np.float64).T
    quotients = dict(iou=(shared, predicted + lesion - shared, 1.0),
                     dice=(2 * shared, predicted + lesion, 1.0),
                     precision=(shared, predicted, 0.0),
                     recall=(shared, lesion, 0.0))
    return {name: np.divide(
                above, below, out=np.full_like(above, empty), where=below > 0)
            for name, (above, below, empty) in quotients.items()}


def summarize(counts: np.ndarray, scores: Mapping[str, np.ndarray],
              pixels: np.ndarray) -> dict[str, float]:
    """Compute the scores of :class:`BinarySegMetric` but the official ones.

    ``counts`` and ``scores`` are those of :func:`image_scores`, ``pixels`` the
    sizes of the images, (N,).
    """
    has_lesion = counts[:, 2] > 0
    values = dict.fromkeys(LESION_SCORES, np.nan)
    if has_lesion.any():
        pooled = image_scores(counts.sum(axis=0, keepdims=True))
        for name in SCORES:
            values[name] = float(scores[name][has_lesion].mean())
            values[f'pooled_{name}'] = float(pooled[name][0])
        values |= dict(f1=values['dice'], pooled_f1=values['pooled_dice'])
    values['num_lesion'] = int(has_lesion.sum())
    values['num_normal'] = int((~has_lesion).sum())
    if values['num_normal']:
        false = counts[~has_lesion, 1]
        values['normal_empty'] = float((false == 0).mean())
        values['normal_false_area'] = float(
            (false / pixels[~has_lesion]).mean())
    return values


def official_scores(counts: np.ndarray,
                    batch_size: int = 8) -> tuple[float, float]:
    """Score as MSMAE's released code does: IoU and F1 of groups of images.

    ``counts`` (N, 3), see :func:`image_scores`, are in order.
    """
    iou = f1 = 0.0
    for start in range(0, len(counts), batch_size):
        group = counts[start:start + batch_size]
        shared, predicted, lesion = group.sum(axis=0).tolist()
        overlap = (shared + OFFICIAL_SMOOTH) / (
            predicted + lesion - shared + OFFICIAL_SMOOTH)
        iou += overlap * len(group)
        f1 += 2 * overlap / (1 + overlap) * len(group)
    return iou / len(counts), f1 / len(counts)


def _as_bool(mask: torch.Tensor, what: str) -> torch.Tensor:
    """Check a mask (1, H, W) or (H, W) of 0 and 1; return it as (H, W)."""
    if mask.ndim == 3 and len(mask) == 1:
        mask = mask[0]
    if mask.ndim != 2:
        raise ValueError(f'{what} must have the shape (1, H, W), got '
                         f'{tuple(mask.shape)}')
    wrong = mask[(mask != 0) & (mask != 1)]
    if wrong.numel():
        raise ValueError(f'{what} must hold 0 and 1, got '
                         f'{wrong.unique().tolist()[:8]}')
    return mask.bool()


def _resize(mask: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    resized = F.interpolate(
        mask[None, None].float(), size=size, mode='nearest-exact')
    return resized[0, 0].bool()


def _count(predicted: torch.Tensor,
           lesion: torch.Tensor) -> tuple[int, int, int]:
    """Pixels in both, in the prediction, and in the lesion."""
    return (int((predicted & lesion).sum()), int(predicted.sum()),
            int(lesion.sum()))
