"""Probe encoders on labelled images, on images with masks, and on bags."""

import copy
import functools
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from mmengine import dist
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.logging import print_log
from torch import Tensor, nn
from torchvision.transforms.functional import center_crop

from mmmedmask.datasets.image_io import ImageFileError
from mmmedmask.datasets.probe_sets import (
    COLORS,
    ProbeSet,
    channel_statistics,
    load_image,
    read_probe_sets,
    resize_square,
)
from mmmedmask.engine.frozen_features import (
    FrozenFeatures,
    color_vectors,
    draw_points,
    sample_maps,
)
from mmmedmask.engine.rank_errors import gather_results, on_all_ranks
from mmmedmask.engine.wrapped_datasets import datasets_of
from mmmedmask.evaluation.probes import ProbeScore, probe_images, probe_pixels
from mmmedmask.functional.randomness import stream_seed
from mmmedmask.models.layers.feature_norm import FeatureNorm
from mmmedmask.util.checks import check_choice, check_integer
from mmmedmask.util.input_units import InputUnits, input_units
from mmmedmask.util.nested import innermost_datasets

REFERENCE_IMAGES = 100
"""Training images whose colours others are brought to, at most."""
STATISTICS_IMAGES = 1000
"""Training images on which BatchNorm statistics are measured, at most."""
STATISTICS_MIDDLES = 100
"""The same of images with masks, which are larger."""
MIDDLES_PER_BATCH = 8


def _share(items: Sequence) -> Sequence:
    """This rank's of some items."""
    return items[dist.get_rank()::dist.get_world_size()]


def _draw(places: Sequence[int], count: int, seed: int) -> list[int]:
    """Draw up to ``count`` of some places, on all ranks the same."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(places), generator=generator)[:count]
    return [places[place] for place in order.tolist()]


def _batches_of_share(places: Sequence[int], size: int) -> Iterator[list[int]]:
    """Split this rank's share, as long and in as many parts on each.

    The parts are even: a last one of a single image would count as much.
    With more ranks than places each has all of them.
    """
    count = len(places) // dist.get_world_size()
    share = torch.tensor(_share(places)[:count] if count else list(places))
    count = len(share)
    for part in share.tensor_split(-(-count // size) or 1):
        yield part.tolist()


def _check_sizes(sizes: Iterable[tuple[int, ...]]) -> None:
    sizes = sorted(set(sizes))
    if len(sizes) > 1:
        raise ValueError('images to probe on have different sizes, such as '
                         f'{sizes[0]} and {sizes[-1]}: give the probe a size')


def _stack(images: Sequence[Tensor]) -> Tensor:
    if not images:
        # With more ranks than images one has none.
        return torch.empty(0)
    _check_sizes(tuple(image.shape[1:]) for image in images)
    return torch.stack(list(images))


def _join(vectors: Sequence[Tensor]) -> Tensor:
    """Join the rows of this rank, which may have none."""
    return torch.cat(list(vectors)) if vectors else torch.empty(0)


def _on_main(score: Callable[..., list[ProbeScore]], *arguments
             ) -> list[ProbeScore]:
    """Score in the main process; all get the scores."""
    return gather_results(
        lambda: score(*arguments) if dist.is_main_process() else None)[0]


def score_vectors(vectors: dict[str, Tensor], labels: dict[str, np.ndarray],
                  num_classes: int,
                  groups: Mapping[str, Sequence[str] | None] | None = None,
                  standardize: bool = False,
                  seed: int = 0) -> list[ProbeScore]:
    """Nearest neighbours and logistic regression on one vector per sample.

    ``vectors`` are this rank's rows (N, D) of ``'train'`` and ``'test'``, or
    empty ones of any shape where it has none;
    labels and groups are those of all samples of both. ``standardize`` brings
    the training vectors to mean 0 and deviation 1, and the test vectors
    alike. All ranks get the scores, each with the floor of chance.
    """
    whole = {which: _interleave(gather_results(rows.numpy))
             for which, rows in vectors.items()}
    if standardize:
        # Cosines of raw colours are all nearly 1.
        mean, std = whole['train'].mean(axis=0), whole['train'].std(axis=0)
        whole = {which: (rows - mean) / np.maximum(std, 1e-6)
                 for which, rows in whole.items()}
    groups = groups or {}
    return _on_main(probe_images, whole['train'], labels['train'],
                    whole['test'], labels['test'], num_classes,
                    groups.get('train'), groups.get('test'), seed)


@dataclass
class ImageProbe:
    """Probes of whole images; ``floor_name`` is scored without an encoder.

    ``size`` and ``color`` are as of
    :func:`~mmmedmask.datasets.probe_sets.load_image`; without a size all
    images must have one. The seed is that of the jitter and of the probe's
    folds. Images are standardized to those of the training split, of which
    up to 100 are measured.
    """

    train: ProbeSet
    test: ProbeSet
    size: int | None = None
    color: str = 'rgb'
    batch_size: int = 64
    seed: int = 0
    _images: dict = field(default_factory=dict, repr=False)

    floor_name = 'colour'

    @functools.cached_property
    def reference(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation that images are standardized to."""
        return channel_statistics(
            load_image(path, self.size)
            for path in self.train.thin(REFERENCE_IMAGES).paths)

    def batches(self, which: str) -> Iterator[Tensor]:
        """Give this rank's share of a split, uint8 (B, 3, h, w), if any."""
        images = self._load(which)
        if len(images):
            yield from images.split(self.batch_size)

    def training_batches(self) -> Iterator[Tensor]:
        """Give up to 1,000 training images at random, as many on each rank."""
        drawn = _draw(range(len(self.train.paths)), STATISTICS_IMAGES,
                      self.seed)
        for places in _batches_of_share(drawn, self.batch_size):
            # SyncBN meets the other ranks in each batch.
            yield self._load('train')[places] if dist.get_world_size() == 1 \
                else on_all_ranks(self._read, 'train', places)

    def places(self, which: str) -> Sequence[int]:
        """Places of the images of a split."""
        return range(len(getattr(self, which).paths))

    def read(self, which: str, index: int) -> None:
        """Read an image, to see whether it can be used."""
        load_image(getattr(self, which).paths[index])

    def _image(self, which: str, index: int) -> Tensor:
        path = getattr(self, which).paths[index]
        # Not by the place: it would name the class, in lists sorted by class.
        seed = stream_seed(
            self.seed, f'{which}/{path.parent.name}/{path.name}')
        reference = self.reference if self.color == 'standardized' else None
        return load_image(path, self.size, self.color, seed, reference)

    def _read(self, which: str, places: Sequence[int]) -> Tensor:
        return _stack([self._image(which, place) for place in places])

    def _load(self, which: str) -> Tensor:
        if which not in self._images:
            images = on_all_ranks(self._read, which,
                                  _share(self.places(which)))
            _check_sizes(filter(None, gather_results(
                lambda: tuple(images.shape[2:]))))
            self._images[which] = images
        return self._images[which]

    def run(self, features: FrozenFeatures) -> list[ProbeScore]:
        """Score an encoder."""
        return self._score(lambda batch: features.vectors(batch).cpu())

    def plain_floor(self) -> list[ProbeScore]:
        """Score the colour of the images alone, on a common scale."""
        return self._score(color_vectors, standardize=True)

    def _score(self, encode, standardize: bool = False) -> list[ProbeScore]:
        sets = dict(train=self.train, test=self.test)
        vectors = on_all_ranks(lambda: {
            which: _join([encode(batch) for batch in self.batches(which)])
            for which in sets})
        return score_vectors(
            vectors, {which: part.labels for which, part in sets.items()},
            len(self.train.classes),
            {which: part.groups for which, part in sets.items()},
            standardize, self.seed)


@dataclass
class BagProbe:
    """Probes of whole bags: one vector per patient.

    ``train`` and ``test`` are data sets of whole bags such as
    ``mmmedmask.SlideOmicDataset``, of which patients without slides or
    without a class are left out; ``preprocessor`` makes a batch of one. Of
    patients with several bags (``case_agg='separate'``) each has a vector;
    folds and intervals keep a patient, by the ``case_id``, whole.
    """

    train: BaseDataset
    test: BaseDataset
    preprocessor: nn.Module
    seed: int = 0

    floor_name = 'mean and deviation'

    def run(self, aggregator: nn.Module) -> list[ProbeScore]:
        """Score the vectors that an aggregator gives, frozen.

        Statistics of features are measured again on the training bags: at
        random weights there are none.
        """
        frozen = copy.deepcopy(aggregator)
        frozen.eval()
        norms = [module for module in frozen.modules()
                 if isinstance(module, FeatureNorm)]
        for norm in norms:
            norm.reset()
            norm.train()
        if norms:
            places = self.usable('train')
            bags = self._bags('train', _share(places))
            with torch.no_grad():
                for _ in range(-(-len(places) // dist.get_world_size())):
                    inputs = on_all_ranks(next, bags, None)
                    if inputs is not None:
                        _vector(frozen, inputs)
                        continue
                    # Other ranks have a bag more, and meet this one in it.
                    for norm in norms:
                        norm(norm.running_mean[None][:0])
        frozen.eval()
        return self._score(lambda inputs: _vector(frozen, inputs))

    def plain_floor(self) -> list[ProbeScore]:
        """Score mean and deviation of each bag's patches, on one scale."""
        return self._score(lambda inputs: torch.cat([
            inputs['patches'].mean(dim=1),
            inputs['patches'].std(dim=1, correction=0)], dim=1),
            standardize=True)

    def usable(self, which: str) -> list[int]:
        """Places of the patients with slides and a class."""
        dataset = getattr(self, which)
        infos = map(dataset.get_data_info, range(len(dataset)))
        return [place for place, info in enumerate(infos)
                if info['num_patches'] and info['gt_label'] is not None]

    @torch.inference_mode()
    def _score(self, encode, standardize: bool = False) -> list[ProbeScore]:
        vectors, labels, groups = {}, {}, {}
        for which in ('train', 'test'):
            dataset, places = getattr(self, which), self.usable(which)
            if not places:
                raise ValueError(f'no patient of the {which} split has '
                                 'slides and a class to probe on')
            infos = [dataset.get_data_info(place) for place in places]
            labels[which] = np.array([info['gt_label'] for info in infos])
            cases = [info['case_id'] for info in infos]
            # Folds that keep nothing together are drawn in another way.
            groups[which] = cases if len(set(cases)) < len(cases) else None
            vectors[which] = on_all_ranks(lambda which, share: _join([
                encode(inputs).float().cpu()
                for inputs in self._bags(which, share)]),
                which, _share(places))
        return score_vectors(
            vectors, labels, len(self.train.metainfo['classes']), groups,
            standardize, self.seed)

    def _bags(self, which: str, places: Sequence[int]) -> Iterator[dict]:
        """Give the inputs of one patient after the other."""
        for place in places:
            batch = pseudo_collate([getattr(self, which)[place]])
            yield self.preprocessor(batch, False)['inputs']


def _vector(aggregator: nn.Module, inputs: dict) -> Tensor:
    """The vectors (B, D) of bags."""
    return aggregator(inputs['patches'], inputs['valid'],
                      coords=inputs['coords'])[0]


@dataclass
class DenseProbe:
    """Logistic regression on the pixels of images with masks.

    Attributes:
        few: Numbers of training images; None takes all.
        pixels: Pixels per image, drawn once.
        max_images: Images per split at most, the first ones.
        size: Side of the square that images are resized to; None keeps
            them. Labels are those of the masks as they are.
    """

    train: ProbeSet
    test: ProbeSet
    few: Sequence[int | None] = (1, 5, 20, None)
    pixels: int = 400
    max_images: int | None = None
    size: int | None = None
    seed: int = 0

    floor_name = 'colour'

    def samples(self, which: str
                ) -> Iterator[tuple[int, Tensor, Tensor, np.ndarray]]:
        """Give this rank's images: index, pixels, points and labels."""
        for index in _share(self.places(which)):
            image, mask = self.read(which, index)
            generator = torch.Generator().manual_seed(
                self.seed * 1_000_003 + index)
            places, points = draw_points(mask.shape, self.pixels, generator)
            image = resize_square(image, self.size)
            labels = mask[places[:, 0].numpy(), places[:, 1].numpy()]
            yield index, image[None], points[None], labels.astype(np.int64)

    def training_batches(self) -> Iterator[Tensor]:
        """Give the middles of training images, as many on each rank.

        Of up to 100 images; the smallest says how large a middle is.
        """
        drawn = _draw(self.places('train'), STATISTICS_MIDDLES, self.seed)
        images = {place: resize_square(load_image(self.train.paths[place]),
                                       self.size) for place in drawn}
        sides = [min(image.shape[axis] for image in images.values())
                 for axis in (1, 2)]
        for places in _batches_of_share(drawn, MIDDLES_PER_BATCH):
            yield torch.stack([center_crop(images[place], sides)
                               for place in places])

    def places(self, which: str) -> list[int]:
        """Places of the images with masks, those of all ranks."""
        images = getattr(self, which)
        return [index for index in range(len(images.paths)) if images.masks
                and images.masks[index] is not None][:self.max_images]

    def read(self, which: str, index: int) -> tuple[Tensor, np.ndarray]:
        """Read an image and its mask, which have one size."""
        images = getattr(self, which)
        image, mask = load_image(images.paths[index]), images.mask(index)
        if mask.shape != tuple(image.shape[1:]):
            raise ValueError(
                f'{images.paths[index]} has the size '
                f'{tuple(image.shape[1:])}, its mask {mask.shape}')
        return image, mask

    def run(self, features: FrozenFeatures) -> list[ProbeScore]:
        """Score an encoder: area under the ROC curve, a constant has .5."""
        return self._score(features.pixels)

    def plain_floor(self) -> list[ProbeScore]:
        """Score the colour of the pixels alone."""
        return self._score(
            lambda image, points: sample_maps([image.float()], points))

    def _score(self, pixels) -> list[ProbeScore]:
        parts = {}
        for which in ('train', 'test'):
            gathered = sum(gather_results(lambda which: [
                (index, pixels(image, points)[0].cpu().numpy(), labels)
                for index, image, points, labels in self.samples(which)],
                which), [])
            parts[which] = [row[1:] for row in
                            sorted(gathered, key=lambda row: row[0])]
        groups = self.test.groups and [self.test.groups[place]
                                       for place in self.places('test')]
        return _on_main(probe_pixels, parts['train'], parts['test'], self.few,
                        self.seed, groups)


Probe = ImageProbe | DenseProbe | BagProbe


def check_probe_options(colors: Sequence[str], size: int | None,
                        few: Sequence[int | None], max_images: int | None,
                        dense_size: int | None, seed: int) -> None:
    """Raise a ValueError unless :func:`build_probes` can use its numbers."""
    for color in colors:
        check_choice('colors', color, COLORS)
    if isinstance(few, str) or not isinstance(few, Sequence) or not few:
        raise ValueError('few must list at least one number of images, or '
                         f'None for all, got {few!r}')
    numbers = dict(size=size, dense_size=dense_size, max_images=max_images)
    for name, value in [*numbers.items(), *(('few', value) for value in few)]:
        if value is not None:
            check_integer(name, value)
    check_integer('seed', seed, 0)


def build_probes(
        data: str | None, dense: str | None, colors: Sequence[str] = ('rgb', ),
        size: int | None = None, few: Sequence[int | None] = (1, 5, 20, None),
        max_images: int | None = None, split_folder: str | None = None,
        dense_size: int | None = None, seed: int = 0,
        trained: Mapping[str | Path, str] | None = None
        ) -> dict[str, Probe]:
    """Make the probes of a data set with labels and of one with masks.

    Probes are named ``'rgb'``, ``'gray'``, ``'jitter'``, ``'standardized'``
    and ``'pixels'``.

    Args:
        data: Labelled images; None makes no probe of whole images.
        dense: Images with masks; None makes no probe of pixels.
        colors: One probe of whole images each.
        size: Side that whole images are resized to; None keeps them.
        few: See :class:`DenseProbe`, as for ``dense_size``.
        max_images: Images per split at most: for probes of whole images
            taken evenly from the list, for those of pixels the first ones.
        split_folder: See
            :func:`~mmmedmask.datasets.probe_sets.read_probe_sets`, as for
            ``trained``.

    Raises:
        ValueError: If an option cannot be used, see
            :func:`check_probe_options`, ``data`` has masks but no classes,
            or ``dense`` no masks.
        ImageFileError: If files cannot be used; it names them all.
    """
    check_probe_options(colors, size, few, max_images, dense_size, seed)
    probes = {}
    sets = {source: read_probe_sets(source, split_folder, trained)
            for source in (data, dense) if source is not None}
    if data is not None:
        train, test = (part.thin(max_images) for part in sets[data])
        if train.labels is None or test.labels is None:
            raise ValueError(f'{data} has masks but no classes: give it as '
                             'dense')
        for color in colors:
            probes[color] = ImageProbe(train, test, size, color, seed=seed)
    if dense is not None:
        train, test = sets[dense]
        if not any(mask is not None for mask in train.masks):
            raise ValueError(f'no training image of {dense} has a mask')
        probes['pixels'] = DenseProbe(train, test, few, max_images=max_images,
                                      size=dense_size, seed=seed)
    _check_images(probes)
    return probes


def _check_images(probes: Mapping[str, ImageProbe | DenseProbe]) -> None:
    """Read all images and masks once, parted among ranks.

    None is left out of a probe, and the first that cannot be used would end
    it half way, in silence about the others.
    """
    # Those of several colours once.
    reads = {(type(probe), getattr(probe, which).paths[place]):
             (probe.read, which, place) for probe in probes.values()
             for which in ('train', 'test') for place in probe.places(which)}
    errors = [*dict.fromkeys(filter(None, sum(gather_results(
        lambda: [*map(_reading_error, _share([*reads.values()]))]), [])))]
    if errors:
        count = len({path for _, path in reads})
        text = f'{len(errors)} of {count} images cannot be probed on'
        raise ImageFileError('\n'.join([f'{text}:', *errors])
                             if len(errors) < count else
                             f'{text}, the first: {errors[0]}')


def _reading_error(arguments: tuple[Callable, str, int]) -> str:
    read, which, place = arguments
    try:
        read(which, place)
    except (ImageFileError, ValueError) as error:
        return str(error)
    return ''


def trained_splits(config: Mapping) -> dict[str, str]:
    """Find the ``split_folder`` of each ``data_root`` a config trains on."""
    loader = config.get('train_dataloader') or {}
    return {inner['data_root']: inner['split_folder']
            for inner in innermost_datasets(loader.get('dataset') or {})
            if 'split_folder' in inner}


def warn_of_trained(train: object, probes: Mapping[str, Probe]) -> None:
    """Say which images that probes test on a training set has, if any."""
    tests = {os.path.realpath(path) for probe in probes.values()
             for path in probe.test.paths}
    names = set(map(os.path.basename, tests))
    shared = {}
    for dataset in datasets_of(train):
        if isinstance(dataset, BaseDataset):
            for place in range(len(dataset)):
                info = dataset.get_data_info(place)
                path = str(info.get('img_path', ''))
                # Links of many files would take long to follow.
                if os.path.basename(path) in names and (
                        file := os.path.realpath(path)) in tests:
                    shared[file] = shared.get(file) or 'gt_label' in info
    if shared:
        meaning = ('with their labels: scores say nothing about new ones'
                   if any(shared.values()) else
                   'without labels: new ones may score lower')
        print_log(f'{len(shared)} of {len(tests)} images that probes test on, '
                  f'such as {min(shared)}, are in the training set, {meaning}',
                  logger='current', level=logging.WARNING)


def score_encoder(encoder: nn.Module, units: nn.Module | InputUnits,
                  probes: Mapping[str, Probe], measure: bool = True
                  ) -> dict[str, ProbeScore]:
    """Run all probes, each on a frozen copy of an encoder.

    Each probe measures BatchNorm statistics again, on training images of its
    own: a score does not depend on what else is probed. Without ``measure``
    the encoder's statistics stay. ``units`` are those of
    the images, or what :func:`~mmmedmask.util.input_units.input_units` reads.
    Scores are named ``'rgb/knn'``, ``'pixels/dense_5'`` and so on. An encoder
    of values without a known range is a ValueError.
    """
    units = input_units(units)
    units.known_range('a probe, which shows images of 8 bits (switch it off '
                      'with default_hooks.probe=None),')
    return {f'{prefix}/{score.name}': score for prefix, probe in probes.items()
            for score in probe.run(
                FrozenFeatures(encoder, units.mean, units.std,
                               probe.training_batches() if measure else None,
                               data_range=units.data_range, bgr=units.bgr))}


def _interleave(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Undo the share of ranks: the first of each, the second of each, ..."""
    whole = np.empty((sum(map(len, parts)), *parts[0].shape[1:]),
                     parts[0].dtype)
    for rank, part in enumerate(parts):
        if len(part):
            whole[rank::len(parts)] = part
    return whole
