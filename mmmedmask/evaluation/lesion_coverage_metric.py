"""How much of the attention, and of the masking, falls on lesions."""

from collections.abc import Mapping, Sequence

import torch
from mmengine.evaluator import BaseMetric

from mmmedmask.functional.lesion_coverage import (
    image_coverage,
    summarize_coverage,
)
from mmmedmask.registry import METRICS


@METRICS.register_module()
class LesionCoverage(BaseMetric):
    """Measure attention maps and maskings against lesion masks.

    All values are means over images with a lesion, in which each image
    counts once: ``attention_share`` of the map's mass on the lesion,
    ``lesion_share`` of the image, their ratio ``attention_gain`` (1 for a
    uniform map), ``pointing``, the share of images in which the map's
    maximum hits the lesion, and ``pointing_chance``. With maskings also how
    many of the lesion's patches are ``masked``, ``thrown`` and ``visible``,
    each with its ``_chance``, and ``masked_gain``, which is ``masked`` over
    ``masked_chance``. ``num_without_lesion`` images count in none of these.

    Samples need ``attention_map`` (gh, gw) and ``lesion_mask`` (H, W), both
    of the whole image, the mask of any size. They may have
    ``partition_flags`` of shape (L,), or (D, L) for D maskings of the image,
    on the map's grid: 1 = masked, -1 = thrown, 0 = visible. To measure while
    a model trains, see :class:`mmmedmask.engine.hooks.LesionCoverageHook`.

    Args:
        tolerance: Pixels of the mask by which the maximum may miss.
        min_share: Share of a patch that must be lesion for the patch to
            count as lesion.
        collect_device: ``'cpu'`` or ``'gpu'``, where the results of several
            processes meet.
        prefix: First part of the names of the values.

    Raises:
        ValueError: If ``tolerance`` or ``min_share`` is out of range.
    """

    default_prefix = 'lesion_coverage'

    def __init__(self,
                 tolerance: float = 0.0,
                 min_share: float = 0.5,
                 collect_device: str = 'cpu',
                 prefix: str | None = None) -> None:
        check_coverage_arguments(tolerance, min_share)
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.tolerance = tolerance
        self.min_share = min_share

    def process(self, data_batch, data_samples: Sequence[Mapping]) -> None:
        """Measure one batch.

        Args:
            data_batch: Not used.
            data_samples: Samples as described above.

        Raises:
            ValueError: If a sample lacks something, or it does not fit.
        """
        for sample in data_samples:
            missing = [
                key for key in ('attention_map', 'lesion_mask')
                if sample.get(key) is None
            ]
            if missing:
                raise ValueError(
                    f'the sample {sample.get("img_path", "")} lacks '
                    f'{missing}, it has {sorted(sample)}')
            flags = sample.get('partition_flags')
            self.results.append(
                image_coverage(
                    torch.as_tensor(sample['attention_map']),
                    torch.as_tensor(sample['lesion_mask']).cpu(),
                    None if flags is None else torch.as_tensor(flags),
                    self.tolerance, self.min_share))

    def compute_metrics(
            self, results: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Average over the images.

        Args:
            results: What :meth:`process` stored, of all processes.

        Returns:
            The values described above.

        Raises:
            ValueError: If no image has a lesion.
        """
        return summarize_coverage(results)


def check_coverage_arguments(tolerance: float, min_share: float) -> None:
    """Refuse arguments that are out of range.

    Args:
        tolerance: Pixels, at least 0.
        min_share: In (0, 1].

    Raises:
        ValueError: If one is out of range.
    """
    if tolerance < 0:
        raise ValueError(f'tolerance must be at least 0, got {tolerance}')
    if not 0 < min_share <= 1:
        raise ValueError(f'min_share must be in (0, 1], got {min_share}')
