"""Load image tiles and pack them for a data preprocessor on the device."""

from collections.abc import Sequence
from io import BytesIO

import cv2
import numpy as np
import torch
from mmpretrain.structures import DataSample

from mmmedmask.datasets.image_io import (
    ImageFileError,
    decode_image,
    read_image,
)
from mmmedmask.datasets.radiology import StoredImage
from mmmedmask.datasets.transforms.seeded import ShownTransform
from mmmedmask.registry import TRANSFORMS
from mmmedmask.util.checks import (
    check_choice,
    check_integer,
    check_positive,
    check_range,
)

DTYPE_CHOICES = ('uint8', 'uint16', 'float32')


@TRANSFORMS.register_module()
class LoadTile(ShownTransform):
    """Read a tile and check that it is what the config declares.

    Nothing is converted unless asked: a file with another number of
    channels or another bit depth is an error that names the file, since a
    normalisation made for one is wrong for the other.

    **Required key**: ``img_path``, with ``img_bytes`` if the file is read
    already, or ``img`` as mmcv reads it (BGR, gray as three equal channels),
    which mmpretrain's inferencers give.
    **Added keys**: ``img``, an array of shape (H, W, C) in RGB order;
    ``img_shape`` and ``ori_shape``, (h, w).

    Args:
        in_channels: Number of channels that the tile must have.
        dtype: Stored type: ``'uint8'``, ``'uint16'``, or ``'float32'``
            (TIFF, DICOM and NIfTI only; files with 16 or 64 bit floats are
            converted).
        gray_to_rgb: Repeat a gray file's channel for ``in_channels=3``.
        drop_alpha: Drop the fourth channel of an RGBA file, if
            ``in_channels`` is 3, and the second of gray with alpha, if it
            is 1, or with ``gray_to_rgb``. Where it hides pixels, of any
            colour, the file is an error.
        window: Range of gray values that is spread over the dtype (floats:
            over [0, 1]), such as (40, 400) HU for soft tissue: (center,
            width), or ``'header'`` for that of a DICOM or NIfTI file. None
            leaves values as they are; what a DICOM or NIfTI has signed or
            scaled is then float32.
        data_range: Largest value of a tile, of values from 0 on, for what
            shows images of 8 bits to the network, such as probes; a tile
            with others is an error. None takes that of the dtype or window;
            for other floats it is not known.
    """

    def __init__(self, in_channels: int = 3, dtype: str = 'uint8',
                 gray_to_rgb: bool = False, drop_alpha: bool = False,
                 window: str | Sequence[float] | None = None,
                 data_range: float | None = None) -> None:
        self.in_channels = check_integer('in_channels', in_channels)
        self.dtype = check_choice('dtype', dtype, DTYPE_CHOICES)
        if gray_to_rgb and in_channels != 3:
            raise ValueError('gray_to_rgb makes 3 channels, but in_channels '
                             f'is {in_channels}')
        if drop_alpha and in_channels not in (1, 3):
            raise ValueError('drop_alpha leaves 3 or 1 channels, but '
                             f'in_channels is {in_channels}')
        self.gray_to_rgb = gray_to_rgb
        self.drop_alpha = drop_alpha
        if window not in (None, 'header'):
            if isinstance(window, str) or len(window) != 2:
                raise ValueError("window is (center, width), 'header' or "
                                 f'None, got {window!r}')
            check_range('the center of window', window[0])
            check_positive('the width of window', window[1])
            window = tuple(map(float, window))
        self.window = window
        if data_range is not None:
            check_positive('data_range', data_range)
            if window is not None:
                raise ValueError('window spreads values over the whole range '
                                 f'of {dtype}, got data_range {data_range} '
                                 'beside it')
        self.data_range = data_range

    def transform(self, results: dict) -> dict:
        """Read the tile at ``results['img_path']``.

        Raises:
            ImageFileError: If the file is missing, broken, or has other
                channels or another type than declared.
        """
        path = results.get('img_path', 'in memory')
        if 'img_path' not in results:
            image = self._as_stored(results['img'])
            if self.window is not None:
                image = StoredImage(image).show(self.window)
            for key in ('img_path', 'sample_idx', 'group'):
                results.setdefault(key, None)
        elif 'img_bytes' in results:
            image = decode_image(
                BytesIO(results.pop('img_bytes')), path, window=self.window)
        else:
            image = read_image(path, self.window)
        if not image.size:
            raise ImageFileError(f'Image {path} has no pixels, its shape is '
                                 f'{image.shape}')
        image = self._match_dtype(self._match_channels(image, path), path)
        if self.data_range is not None and not (
                image.min() >= 0 and image.max() <= self.data_range):
            raise ImageFileError(
                f'Image {path} holds values from {image.min()} to '
                f'{image.max()}, expected 0 to data_range {self.data_range}')
        results['img'] = image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def _as_stored(self, image: np.ndarray) -> np.ndarray:
        """Undo what mmcv does to the channels of a file."""
        image = image[..., None] if image.ndim == 2 else image
        if image.shape[2] != 3:
            return image
        if self.in_channels == 1 and (image == image[..., :1]).all():
            return image[..., :1]
        return np.ascontiguousarray(image[..., ::-1])

    def _match_channels(self, image: np.ndarray, path: str) -> np.ndarray:
        channels = image.shape[2]
        if self.drop_alpha and (channels == self.in_channels + 1
                                or self.gray_to_rgb and channels == 2):
            alpha = image[..., -1]
            if alpha.dtype.kind == 'u' and (
                    alpha.min() < np.iinfo(alpha.dtype).max):
                raise ImageFileError(
                    f'Image {path} is transparent in places, its last channel '
                    f'is {alpha.min()} there: lay it over a background first')
            image = np.ascontiguousarray(image[..., :-1])
        if self.gray_to_rgb and image.shape[2] == 1:
            image = np.repeat(image, 3, axis=2)
        if image.shape[2] != self.in_channels:
            hint = ''
            if self.in_channels == 3 and channels == 1:
                hint = '; set gray_to_rgb=True to repeat the gray channel'
            elif channels == self.in_channels + 1 and channels in (2, 4):
                hint = '; set drop_alpha=True if the last one is alpha'
            raise ImageFileError(f'Image {path} has {channels} channels, '
                                 f'expected {self.in_channels}{hint}')
        return image

    def _match_dtype(self, image: np.ndarray, path: str) -> np.ndarray:
        if self.window is not None and self.dtype != 'float32':
            image = (image * np.iinfo(self.dtype).max).round().astype(
                self.dtype)
        if image.dtype == self.dtype:
            return image
        if self.dtype == 'float32' and image.dtype.kind == 'f':
            if (abs(image) <= np.finfo(np.float32).max).all():
                return image.astype(np.float32)
            raise ImageFileError(
                f'Image {path} holds values up to {abs(image).max():g}, '
                'which float32 cannot hold')
        raise ImageFileError(
            f'Image {path} holds {image.dtype}, expected {self.dtype}; '
            f'LoadTile(dtype=...) can be one of {DTYPE_CHOICES}, and '
            'LoadTile(window=...) spreads gray values over it')


@TRANSFORMS.register_module()
class LoadImageFromFile(LoadTile):
    """Read an 8-bit image as mmcv's loader gives it, if nothing is wrong.

    For transforms of mmdet and mmpretrain, which expect BGR. It bears the
    name by which mmdet's inferencer finds the loader of a pipeline. Gray is
    repeated three times, and an alpha channel is dropped where it hides
    nothing. What mmcv would convert in silence is an error that names the
    file: damage, other colours, other types, pixels that are transparent.

    **Required key**: ``img_path``, or ``img`` in BGR.
    **Added keys**: ``img``, uint8 of shape (H, W, 3) in BGR order, upright;
    ``img_shape`` and ``ori_shape``, (h, w).
    """

    def __init__(self) -> None:
        super().__init__(gray_to_rgb=True, drop_alpha=True)

    def transform(self, results: dict) -> dict:
        results = super().transform(results)
        results['img'] = np.ascontiguousarray(results['img'][..., ::-1])
        return results


@TRANSFORMS.register_module()
class PackTile(ShownTransform):
    """Pack a tile, unprocessed, as the input of a self-supervised model.

    uint8 and float32 tiles keep their type. uint16 becomes int32, for which
    torch stacks, pads and reduces on every device.

    **Required keys**: ``img`` and every one of ``meta_keys``.
    **Returned keys**: ``inputs``, a tensor (C, H, W), of views (V, C, H, W);
    ``data_samples``, a :class:`mmpretrain.structures.DataSample` with the
    meta information and, if the sample has one, ``gt_label``.

    Args:
        meta_keys: Keys that go into the data sample's meta information.
    """

    def __init__(self, meta_keys: Sequence[str] = ('img_path', 'sample_idx',
                                                   'ori_shape')) -> None:
        if isinstance(meta_keys, str):
            raise ValueError(
                f'meta_keys must be a list of names, got {meta_keys!r}')
        self.meta_keys = tuple(meta_keys)

    def transform(self, results: dict) -> dict:
        pixels = results['img']
        # In this order: SelfSupDataPreprocessor unpacks the values.
        return {'inputs': channels_first(pixels) if pixels.ndim < 4
                else torch.stack(list(map(channels_first, pixels))),
                'data_samples': pack_sample(results, self.meta_keys)}


def pack_sample(results: dict, keys: Sequence[str]) -> DataSample:
    """Make a data sample of the label, if there is one, and meta ``keys``."""
    missing = [key for key in keys if key not in results]
    if missing:
        raise KeyError(f'The sample lacks the meta keys {missing}; it has '
                       f'{sorted(results)}')
    data_sample = DataSample()
    for key in keys:
        # A constructor or set_metainfo would copy each value deeply.
        data_sample.set_field(results[key], key, field_type='metainfo')
    if 'gt_label' in results:
        data_sample.set_gt_label(results['gt_label'])
    return data_sample


def channels_first(image: np.ndarray) -> torch.Tensor:
    """Turn (H, W, C) or (H, W) into (C, H, W), contiguous; uint16 to int32."""
    if image.ndim == 2:
        image = image[..., None]
    if image.dtype == np.uint16:
        image = image.astype(np.int32)
    if image.shape[2] > 4:
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    planes = np.empty((image.shape[2], *image.shape[:2]), image.dtype)
    # Three times as fast as a strided copy of numpy or torch, but OpenCV
    # limits the number of channels.
    cv2.split(image, list(planes))
    return torch.from_numpy(planes)
