"""Load bags of slide features and genes; rows are read once chosen."""

from collections import OrderedDict

import numpy as np
import torch
from mmcv.transforms import BaseTransform

from mmmedmask.datasets.slides.slide_features import SlideBag, SlideFeatures
from mmmedmask.datasets.transforms.seeded import (
    SeededTransform,
    ShownTransform,
)
from mmmedmask.datasets.transforms.tile_loading import pack_sample
from mmmedmask.functional import bags
from mmmedmask.functional.patch_grid import hilbert_order
from mmmedmask.functional.randomness import sample_generator
from mmmedmask.registry import TRANSFORMS
from mmmedmask.util.checks import check_choice, check_integer, check_range

INPUT_KEYS = ('patches', 'coords', 'mask', 'genes')
META_KEYS = ('case_id', 'slide_ids', 'num_patches', 'sample_idx', 'rna_id')
OPTIONAL_META_KEYS = ('survival_months', 'censorship', 'slide_lengths',
                      'patch_size', 'coord_unit')


@TRANSFORMS.register_module()
class LoadSlideFeatures(ShownTransform):
    """Open the slides of a sample as one bag, and read it all or later.

    **Required keys**: ``slides``, a list of dicts with ``path``,
    ``num_patches`` and ``mpp``; empty for a patient without slides.
    **Optional key**: ``feature_cache``, folder for copies in fp16.
    **Added keys**: ``bag``, a :class:`~mmmedmask.datasets.slides.\
slide_features.SlideBag`
    or None; with ``slice='all'`` also ``patches`` float32 (N, D) and
    ``coords`` int64 (N, 2), see :func:`read_rows`.

    Args:
        slice: ``'all'`` reads the whole bag at once, ``'lazy'`` leaves it to
            the transform that chooses rows, or to ``PackSlideOmicInputs``.
        max_open: Slides to keep open in each worker, at least 1.
    """

    def __init__(self, slice: str = 'lazy', max_open: int = 16) -> None:
        self.slice = check_choice('slice', slice, ('lazy', 'all'))
        self.max_open = check_integer('max_open', max_open)
        self._slides: OrderedDict[tuple, SlideFeatures] = OrderedDict()

    def __getstate__(self) -> dict:
        return {**self.__dict__, '_slides': OrderedDict()}

    def transform(self, results: dict) -> dict:
        """Open the slides of one sample.

        Raises:
            SlideFeatureError: If a file cannot be used.
            ValueError: If a file was written anew since the set up.
        """
        slides = [self._open(slide, results.get('feature_cache'))
                  for slide in results['slides']]
        results['bag'] = SlideBag(slides) if slides else None
        if slides and self.slice == 'all':
            read_rows(results)
        return results

    def _open(self, slide: dict, cache: str | None) -> SlideFeatures:
        key = (slide['path'], slide.get('mpp'), cache)
        if key in self._slides:
            self._slides.move_to_end(key)
            return self._slides[key]
        opened = SlideFeatures(
            slide['path'], mpp=slide.get('mpp'), cache_dir=cache)
        if len(opened) != slide['num_patches']:
            raise ValueError(f'{slide["path"]} has {len(opened)} patches, it '
                             f'had {slide["num_patches"]} when the data set '
                             'was set up: it was written anew')
        self._slides[key] = opened
        while len(self._slides) > self.max_open:
            self._slides.popitem(last=False)[1].close()
        return opened


def read_rows(results: dict, rows: torch.Tensor | None = None) -> None:
    """Put rows, int64 (R, ), or all, of the bag into ``patches``, ``coords``.

    If there are ``patches`` already, rows are taken from these. Coordinates
    are those of :func:`~mmmedmask.functional.bags.lay_slides_apart`, so that
    no model takes patches of two slides for neighbours, whichever are left.
    """
    if 'patches' in results:
        if rows is not None:
            for key in ('patches', 'coords'):
                results[key] = results[key][rows]
        return
    bag = results['bag']
    if rows is None:
        rows = torch.arange(len(bag))
    results['patches'] = bag.take(rows)
    results['coords'] = bags.lay_slides_apart(
        bag.coords() if bag.has_coords else
        [len(slide) for slide in bag.slides])[rows]


class BagTransform(SeededTransform):
    """Base of random transforms that :meth:`change` samples with a bag."""

    def transform(self, results: dict) -> dict:
        if 'bag' not in results:
            raise KeyError(
                f'{type(self).__name__} needs LoadSlideFeatures before it')
        if results['bag'] is not None:
            self.change(results)
        return results

    def change(self, results: dict) -> None:
        """Change a sample that has a bag, in place."""
        raise NotImplementedError


def _slide_counts(results: dict) -> list[int]:
    """Patches of each slide, of those that are left."""
    if 'patches' in results:
        return bags.slide_lengths(results['coords'])
    return [len(slide) for slide in results['bag'].slides]


def _num_rows(results: dict) -> int:
    return len(results['patches'] if 'patches' in results else results['bag'])


@TRANSFORMS.register_module()
class ContiguousSubsequence(BagTransform):
    """Take a run of L patches, at a random place (GiMP, section 2.3).

    A run never goes from one slide of a patient to the next: a slide is drawn
    in proportion to its patches, then a place on it. Slides of fewer patches
    are repeated in order up to L.
    Needs ``mmmedmask.TransformEpochHook``, as all seeded transforms.

    **Required keys**: ``bag``, ``sample_idx``.
    **Added keys**: ``patches`` (L, D), ``coords`` (L, 2),
    ``unique_patches``, the number of different patches among them.

    Args:
        length: L, the number of patches, at least 1.
        order: ``'file'`` takes neighbours in the file; ``'hilbert'`` along a
            Hilbert curve over each slide, so that they are neighbours on the
            slide too. It needs coordinates.
        seed: Seed of the draw; None takes the run's.
    """

    def __init__(self, length: int = 6000, order: str = 'file',
                 seed: int | None = None) -> None:
        super().__init__(seed)
        self.length = check_integer('length', length)
        self.order = check_choice('order', order, ('file', 'hilbert'))

    def change(self, results: dict) -> None:
        counts = _slide_counts(results)
        place = float(self.draw(results, 1, 'subsequence')) * sum(counts)
        first = 0
        while place >= counts[0]:
            first += counts[0]
            place -= counts.pop(0)
        start, stop = bags.contiguous_run(counts[0], self.length,
                                          place / counts[0])
        rows = torch.arange(first + start, first + stop)
        if self.order == 'hilbert':
            rows = self._along_curve(results)[rows]
        results['unique_patches'] = len(rows)
        if len(rows) < self.length:
            rows = rows[torch.arange(self.length) % len(rows)]
        read_rows(results, rows)

    def _along_curve(self, results: dict) -> torch.Tensor:
        """Rows in the order of the curve, slide after slide."""
        if 'patches' in results:
            if not bags.places_known(results['coords']):
                raise ValueError(f'case {results.get("case_id")}: the Hilbert '
                                 'order needs coordinates')
            slides = results['coords'].split(_slide_counts(results))
        else:
            slides = results['bag'].coords()
        ordered, start = [], 0
        for coords in slides:
            ordered.append(hilbert_order(coords) + start)
            start += len(coords)
        return torch.cat(ordered)


@TRANSFORMS.register_module()
class RandomSubsample(BagTransform):
    """Take patches at random without replacement, in their order.

    Bags with no more than ``max_patches`` stay whole.
    Needs ``mmmedmask.TransformEpochHook``, as all seeded transforms.

    **Required keys**: ``bag``, ``sample_idx``.
    **Added keys**: ``patches`` (N, D), ``coords`` (N, 2).

    Args:
        max_patches: Largest number of patches to keep, at least 1.
        seed: Seed of the draw; None takes the run's.
    """

    def __init__(self, max_patches: int, seed: int | None = None) -> None:
        super().__init__(seed)
        self.max_patches = check_integer('max_patches', max_patches)

    def change(self, results: dict) -> None:
        if 'unique_patches' in results:
            raise ValueError('RandomSubsample must come before '
                             'ContiguousSubsequence, whose run it would break')
        count = _num_rows(results)
        if count <= self.max_patches:
            read_rows(results)
            return
        noise = self.draw(results, count, 'subsample')[0]
        kept = noise.argsort(stable=True)[:self.max_patches]
        read_rows(results, kept.sort().values)


@TRANSFORMS.register_module()
class GenerateSequenceMask(BagTransform):
    """Draw which patches are masked (GiMP, section 2.3).

    Needs ``mmmedmask.TransformEpochHook``, as all seeded transforms.

    **Required keys**: ``bag``, ``sample_idx``.
    **Optional key**: ``unique_patches``, of ``ContiguousSubsequence``.
    **Added key**: ``mask``, bool of shape (N, ), True = masked: exactly
    floor(ratio * N), of different patches: copies of a patch are masked
    together, so that none gives another away.

    Args:
        ratio: Share to mask, in [0, 1].
        seed: Seed of the draw; None takes the run's.
    """

    def __init__(self, ratio: float = 0.5, seed: int | None = None) -> None:
        super().__init__(seed)
        self.ratio = check_range('ratio', ratio, 0, 1)

    def change(self, results: dict) -> None:
        generator = sample_generator(
            self.current_seed('sequence mask'), int(self._state[0]),
            results['sample_idx'])
        results['mask'] = bags.draw_sequence_mask(
            _num_rows(results), self.ratio, generator,
            results.get('unique_patches'))


@TRANSFORMS.register_module()
class LoadExpression(BaseTransform):
    """Take the gene expression of a sample, as it is in the table.

    The scale of the genes is the data preprocessor's, which carries it in
    the checkpoint. Missing genes are NaN, which it makes the mean.

    **Optional key**: ``expression``, array (G, ); absent or None for a
    patient without expression.
    **Added key**: ``genes``, float32 tensor (G, ) or None.
    """

    def transform(self, results: dict) -> dict:
        row = results.get('expression')
        results['genes'] = None if row is None else torch.from_numpy(
            np.array(row, np.float32))
        return results


@TRANSFORMS.register_module()
class PackSlideOmicInputs(BaseTransform):
    """Pack a bag and genes as the input of a model.

    **Required keys**: ``case_id``, ``slide_ids``, ``num_patches``,
    ``sample_idx`` and ``rna_id``, the meta information.
    **Optional keys**: ``bag``, ``patches``, ``coords``, ``mask``, ``genes``,
    ``modalities``, ``gt_label``, and more meta information:
    ``survival_months``, ``censorship``, ``slide_lengths``, ``patch_size``,
    ``coord_unit``. A bag
    that no transform has read is read whole.
    **Returned keys**: ``inputs``, a dict with ``patches`` float32 (N, D),
    ``coords`` int64 (N, 2), see :func:`read_rows`, ``mask`` bool (N, ) and
    ``genes`` float32 (G, ), each of them None if there is none;
    ``data_samples``, a :class:`mmpretrain.structures.DataSample` with
    ``gt_label`` and the meta information, of which ``loads_slides`` tells a
    pipeline without slides from a patient without.
    """

    def transform(self, results: dict) -> dict:
        if results.get('bag') is not None:
            read_rows(results)
            mask = results.get('mask')
            if mask is not None and len(mask) != len(results['patches']):
                raise ValueError(
                    f'the mask is of {len(mask)} patches, there are '
                    f'{len(results["patches"])}: GenerateSequenceMask must '
                    'come after the transforms that choose patches')
        known = [key for key in OPTIONAL_META_KEYS
                 if results.get(key) is not None]
        loads_slides = 'bag' in results and 'slides' in results.get(
            'modalities', ('slides', ))
        return {'inputs': {key: results.get(key) for key in INPUT_KEYS},
                'data_samples': pack_sample(
                    dict(results, loads_slides=loads_slides),
                    (*META_KEYS, 'loads_slides', *known))}
