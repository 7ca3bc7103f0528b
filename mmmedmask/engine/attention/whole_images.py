"""The images behind a training set: each file once, uncropped."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath

import torch
from mmengine.dist import get_rank, get_world_size
from torch.utils.data import DataLoader, Dataset

from mmmedmask.compat.orphaned_workers import end_with_parent
from mmmedmask.datasets.image_io import ImageFileError
from mmmedmask.engine.wrapped_datasets import ImageSource, list_sources

WHOLE = (0., 0., 1., 1.)


class ImageIndex:
    """The files of a training set, sorted, each with a key.

    A key is the path relative to the root of the data set, so that it is the
    same on another machine. If different files have the same relative path,
    all keys get the number of their root in front, in the order of the data
    sets. Files outside their root keep their path.

    Attributes:
        sources: Where the files are described, in the order of ``keys``.
        rows: Position among the keys of every ``img_path`` of the samples.
    """

    def __init__(self, dataset: Dataset) -> None:
        numbers: dict[tuple[int, str], int] = {}
        roots: dict[int, list[str]] = {}
        files: dict[str, tuple[str, str, ImageSource]] = {}
        spellings: dict[str, str] = {}
        for source in list_sources(dataset):
            leaf = id(source.dataset)
            if leaf not in roots:
                roots[leaf] = roots_of(source.dataset)
            info = source.info
            if not info.get('img_path'):
                raise ValueError(f'sample {source.index} of '
                                 f'{type(source.dataset).__name__} has no '
                                 'img_path, by which images are told apart; '
                                 f'it has {sorted(info)}')
            path = str(info['img_path'])
            file = normalize_path(path)
            spellings[path] = file
            if file not in files:
                root, key = split_root(file, roots[leaf])
                number = numbers.setdefault((leaf, root), len(numbers))
                files[file] = key, f'{number}/{key}', source
        if not files:
            raise ValueError('the training set has no images')
        ambiguous = len({key for key, _, _ in files.values()}) < len(files)
        entries = sorted((numbered if ambiguous else key, file, source)
                         for file, (key, numbered, source) in files.items())
        self.keys = tuple(key for key, _, _ in entries)
        self.sources = [source for _, _, source in entries]
        rows = {file: row for row, (_, file, _) in enumerate(entries)}
        self.rows = {path: rows[file] for path, file in spellings.items()}

    @property
    def fingerprint(self) -> str:
        """Hash of the keys: what was made for them fits the same keys."""
        return hashlib.blake2b(
            '\0'.join(self.keys).encode(), digest_size=16).hexdigest()


def roots_of(dataset: Dataset) -> list[str]:
    """Find the folders of a data set's images, normalised; none if unknown."""
    prefix = getattr(dataset, 'data_prefix', None)
    prefix = prefix.get('img_path') if isinstance(prefix, Mapping) else None
    roots = getattr(dataset, 'roots', None) or [
        getattr(dataset, 'root', None)
        or getattr(dataset, 'data_root', None) or prefix]
    return [normalize_path(root) for root in roots if root]


def normalize_path(path: str) -> str:
    """Bring a path to one spelling; addresses such as s3:// stay."""
    path = str(path)
    if '://' in path:
        return path.rstrip('/')
    return PurePath(os.path.abspath(path)).as_posix()


def split_root(path: str, roots: Sequence[str]) -> tuple[str, str]:
    """Cut the first root that a path is in off it; no root leaves it whole."""
    for root in roots:
        prefix = f'{root.rstrip("/")}/'
        if path.startswith(prefix):
            return root, path[len(prefix):]
    return '', path


class WholeImages(Dataset):
    """Images of a training set through a pipeline that keeps them whole."""

    def __init__(self, sources: Sequence[ImageSource],
                 pipeline: Callable[[dict], dict]) -> None:
        self.sources = sources
        self.pipeline = pipeline

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, row: int) -> tuple[int, dict | None]:
        """Load the image of a row; None if it is broken and may be skipped."""
        source = self.sources[row]
        info = source.info
        path = info['img_path']
        try:
            packed = self.pipeline(info)
        except ImageFileError:
            if getattr(source.dataset, 'on_error', 'raise') != 'skip':
                raise
            return row, None
        if not isinstance(packed, Mapping) or 'inputs' not in packed:
            raise ValueError(
                'the pipeline for whole images must end with a transform '
                'that packs them, such as mmmedmask.PackTile; it gave '
                f'{type(packed).__name__} for {path}')
        sample = packed.get('data_samples') or {}
        box, flip = tuple(sample.get('crop_box', WHOLE)), sample.get('flip')
        if box != WHOLE or flip:
            raise ValueError(
                'the pipeline for whole images must neither crop nor mirror '
                f'them, but {path} has crop_box {box} and flip {bool(flip)}; '
                'use mmmedmask.ResizeImage')
        return row, packed


def collate_whole(
    items: Sequence[tuple[int, dict | None]]
) -> tuple[list[int], dict | None]:
    """Make a batch of whole images of one size.

    Returns the rows that could be read, and lists of inputs and samples for a
    data preprocessor, which would pad other sizes; None without an image.
    """
    readable = {row: packed for row, packed in items if packed is not None}
    if not readable:
        return [], None
    _check_one_size({packed['inputs'].shape for packed in readable.values()})
    return list(readable), {
        name: [packed[name] for packed in readable.values()]
        for name in next(iter(readable.values()))}


def _check_one_size(shapes: set[torch.Size]) -> None:
    if len(shapes) > 1:
        raise ValueError(
            'the pipeline for whole images must bring all to one size, got '
            f'{sorted(map(tuple, shapes))}; use mmmedmask.ResizeImage')


def run_whole_images(
        sources: Sequence[ImageSource], pipeline: Callable[[dict], dict],
        compute: Callable[[dict], torch.Tensor], batch_size: int,
        num_workers: int,
        everywhere: bool = False) -> tuple[list[int], list[torch.Tensor]]:
    """Run this process's part of the images, or all, through a function.

    No random number is drawn. ``compute`` makes of a batch, see
    :func:`collate_whole`, a tensor with one entry per image. Returns the
    positions of the images that could be read, and what was computed, a
    tensor on the CPU per batch.
    """
    start, step = (0, 1) if everywhere else (get_rank(), get_world_size())
    loader = DataLoader(
        WholeImages(sources, pipeline), batch_size=batch_size,
        sampler=range(start, len(sources), step), num_workers=num_workers,
        collate_fn=collate_whole, worker_init_fn=end_with_parent,
        # The loader draws a seed for its workers, from its own numbers.
        generator=torch.Generator())
    rows, parts, shapes = [], [], set()
    for batch_rows, batch in loader:
        if batch is None:
            continue
        shapes.add(batch['inputs'][0].shape)
        _check_one_size(shapes)
        rows += batch_rows
        parts.append(compute(batch).cpu())
    return rows, parts
