"""DICOM images and slices of NIfTI volumes, for the one reader of pictures.

Of many in a file, ``scan.dcm#frame=3`` is the fourth frame of a DICOM, and
``brain.nii.gz#axial=57`` a slice of a volume, also ``sagittal`` or
``coronal``. Slices are counted from the left, from the back and from below.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from mmmedmask.util.extras import import_extra

SCAN_EXTENSIONS = ('.dcm', '.nii', '.nii.gz')
"""Ends of the names (lower case) of DICOM and NIfTI files."""
AXES = ('sagittal', 'coronal', 'axial')
"""Names of the slices across x, y and z, which go to the right, to the front
and up."""
HEADER_BYTES = 352
VOI_FUNCTIONS = ('LINEAR', 'LINEAR_EXACT', 'SIGMOID')

_PART = re.compile(rf'(.+)#(frame|{"|".join(AXES)})=(\d+)')
_EMPTY = (None, '')  # of an attribute that a header has without a value


class Window(NamedTuple):
    """A range of values that is shown, PS3.3 of DICOM, C.11.2.1.2.

    ``width`` is at least 1 for LINEAR, else more than 0; ``function`` is
    ``'LINEAR'``, ``'LINEAR_EXACT'`` or ``'SIGMOID'``.
    """

    center: float
    width: float
    function: str = 'LINEAR'

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Map values to [0, 1], float32."""
        least = 1 if self.function == 'LINEAR' else np.finfo(float).tiny
        if not (self.width >= least and np.isfinite(self.center)
                and self.function in VOI_FUNCTIONS):
            raise ValueError('a window has a center, a width of at least 1 '
                             '(more than 0 if its function is not LINEAR) and '
                             f'one of {VOI_FUNCTIONS}, got {tuple(self)}')
        values = values.astype(np.float64)
        if self.function == 'SIGMOID':
            steps = np.clip(4 * (values - self.center) / self.width, -99, 99)
            shown = 1 / (1 + np.exp(-steps))
        elif self.function == 'LINEAR' and self.width == 1:
            shown = values > self.center - .5
        elif self.function == 'LINEAR':
            shown = (values - self.center + .5) / (self.width - 1) + .5
        else:
            shown = (values - self.center) / self.width + .5
        return np.clip(shown, 0, 1).astype(np.float32)


class StoredImage(NamedTuple):
    """What a file holds, and the window of its header, if there is one.

    Attributes:
        values: Shape (H, W, C): uint8 or uint16 as stored, all else in the
            units of the header (HU in CT) as float32 or float64.
        inverted_sum: Least and largest possible value, added, if small
            values are bright (MONOCHROME1); else None.
    """

    values: np.ndarray
    window: Window | None = None
    inverted_sum: float | None = None

    def show(self, window: str | tuple | None) -> np.ndarray:
        """Values in which large is bright, or with a window in [0, 1].

        ``window`` is None, ``'header'`` or (center, width).
        """
        if window is None:
            if self.inverted_sum is None:
                return self.values
            turned = self.inverted_sum - self.values.astype(np.float64)
            return turned.astype(self.values.dtype)
        if self.values.shape[2] == 3:
            raise ValueError('a window is for gray values, and this image '
                             'has three channels')
        if window == 'header' and self.window is None:
            raise ValueError('its header has no window (center and width): '
                             'give one as window=(center, width)')
        chosen = self.window if window == 'header' else Window(*window)
        shown = chosen.apply(self.values)
        return shown if self.inverted_sum is None else 1 - shown


def split_part(path: str | Path) -> tuple[Path, tuple[str, int] | None]:
    """Take apart a file, ``'scan.dcm#frame=3'``, and its picture, if any."""
    match = _PART.fullmatch(str(path))
    return (Path(match[1]), (match[2], int(match[3]))) if match else (
        Path(path), None)


def is_scan(path: Path) -> bool:
    """Whether a file's name ends as a DICOM's or a NIfTI's."""
    return path.name.lower().endswith(SCAN_EXTENSIONS)


def pictures_of(path: Path, axis: str = 'axial') -> list[str]:
    """List the pictures of a DICOM, or of a NIfTI along an axis of `AXES`."""
    with _open_header(path) as stream:
        if path.suffix.lower() == SCAN_EXTENSIONS[0]:
            header = _read_header(stream)
            count = int(header.get('NumberOfFrames') or 1)
            return [str(path)] if count == 1 else [
                f'{path}#frame={index}' for index in range(count)]
        volume = _open_nifti(stream)
        place = _voxel_axes(volume)[AXES.index(axis)][0]
        return [f'{path}#{axis}={index}'
                for index in range(volume.shape[place])]


def patient_of(path: Path) -> str:
    """Return who a DICOM shows: the patient's id, else the study's UID."""
    with _open_header(path) as stream:
        header = _read_header(stream)
    for name in ('PatientID', 'StudyInstanceUID'):
        value = str(header.get(name) or '').strip()
        if value:
            return value
    raise ValueError(f'{path} has neither a PatientID nor a '
                     'StudyInstanceUID in its header')


def stored_kind(head: bytes) -> str | None:
    """Say by :data:`HEADER_BYTES`: ``'DICOM'``, ``'NIfTI'`` or None."""
    if head[128:132] == b'DICM':
        return 'DICOM'
    if (head[344:348] == b'n+1\0' or head[4:8] == b'n+2\0'
            or head[:2] == b'\x1f\x8b'):
        return 'NIfTI'
    return None


def read_dicom(stream: BinaryIO, part: tuple[str, int] | None) -> StoredImage:
    """Read one image of a DICOM file, or its ``('frame', number)``."""
    pixels = import_extra('pydicom.pixels', 'radiology', 'a DICOM')
    pydicom = import_extra('pydicom', 'radiology', 'a DICOM')
    from mmmedmask.datasets.dicom_frames import register_decoders
    register_decoders()
    data = pydicom.dcmread(stream)
    if 'Rows' not in data:
        raise ValueError(f'the DICOM holds no image: it is a '
                         f'{data.get("Modality") or "file"} without Rows')
    frame = _number(part, 'frame', int(data.get('NumberOfFrames') or 1))
    colours = data.get('PhotometricInterpretation', '')
    if colours == 'PALETTE COLOR':
        raise ValueError('its colours are a palette: convert it to RGB first')
    values = pixels.pixel_array(data, index=frame)
    if values.ndim == 3:
        return StoredImage(values)
    groups = [data]
    for name, index in (('SharedFunctionalGroupsSequence', 0),
                        ('PerFrameFunctionalGroupsSequence', frame)):
        if data.get(name):
            group = data[name][index]
            groups[:0] = [group[inner][0] for inner in (
                'PixelValueTransformationSequence', 'FrameVOILUTSequence')
                          if group.get(inner)]

    def header(name: str, default: object = None) -> object:
        return next((group.get(name) for group in groups
                     if group.get(name) not in _EMPTY), default)

    ends = np.zeros(2)
    bits, signed = data.get('BitsStored', 0), data.get('PixelRepresentation')
    if values.dtype.kind in 'iu':
        ends[:] = (-2**(bits - 1), 2**(bits - 1) - 1) if signed else (
            0, 2**bits - 1)
    else:
        ends[:] = values.min(), values.max()
    if data.get('ModalityLUTSequence'):
        values = pixels.apply_modality_lut(values, data)
        ends[:] = values.min(), values.max()
    else:
        slope = float(header('RescaleSlope', 1))
        intercept = float(header('RescaleIntercept', 0))
        if (slope, intercept) != (1, 0):
            values = (values * slope + intercept).astype(
                np.float32 if values.dtype.itemsize < 3 else np.float64)
            ends = ends * slope + intercept
    window = None
    if None not in (header('WindowCenter'), header('WindowWidth')):
        # Several are alternatives, the first is the default.
        center, width = (float(np.atleast_1d(header(name))[0])
                         for name in ('WindowCenter', 'WindowWidth'))
        window = Window(center, width, header('VOILUTFunction', 'LINEAR'))
    return StoredImage(_plain_type(values)[..., None], window,
                       float(ends.sum()) if colours == 'MONOCHROME1' else None)


def read_nifti(stream: BinaryIO, part: tuple[str, int] | None) -> StoredImage:
    """Read one slice of a NIfTI volume, oriented by its affine.

    Axial and coronal slices have the patient's right on the left, as
    radiologists look at them; sagittal ones have the front on the left. The
    front, or the head, is above. An oblique volume is cut along its own axes,
    each called as the nearest one of the body. Voxels are not resampled. The
    fourth axis of a volume is its channels.
    """
    volume = _open_nifti(stream)
    axes = _voxel_axes(volume)
    if part is None or part[0] not in AXES:
        ways = ', '.join(f'#{name}=0 to {volume.shape[place] - 1}'
                         for name, (place, _) in zip(AXES, axes, strict=True))
        raise ValueError(f'it is a volume {volume.shape}: name a slice '
                         f'behind the file, {ways}')
    across = AXES.index(part[0])
    place, step = axes[across]
    index = _number(part, part[0], volume.shape[place])
    if step < 0:
        index = volume.shape[place] - 1 - index
    values = np.asarray(volume.dataobj[(slice(None), ) * place + (index, )])
    # The two other axes of the body; columns come first of x, y and z.
    columns, rows = (other for other in range(3) if other != across)
    steps = [axes[rows][1], axes[columns][1]]
    if axes[columns][0] < axes[rows][0]:
        values = values.swapaxes(0, 1)
    # Rows go down and columns to the patient's left or back.
    values = values[::-steps[0], ::-steps[1]]
    if values.ndim == 2:
        values = values[..., None]
    limits = float(volume.header['cal_min']), float(volume.header['cal_max'])
    window = Window((limits[0] + limits[1]) / 2, limits[1] - limits[0],
                    'LINEAR_EXACT') if limits[1] > limits[0] else None
    return StoredImage(np.ascontiguousarray(_plain_type(values)), window)


@contextmanager
def _open_header(path: Path) -> Iterator[BinaryIO]:
    """Open a file; what fails with it becomes a ValueError that names it."""
    try:
        with path.open('rb') as stream:
            yield stream
    except ModuleNotFoundError:
        raise
    # A broken header can fail in any way.
    except Exception as error:
        raise ValueError(
            f'Cannot read the header of {path}: {error}') from error


def _read_header(stream: BinaryIO) -> object:
    pydicom = import_extra('pydicom', 'radiology', 'a DICOM')
    return pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=[
        'NumberOfFrames', 'PatientID', 'StudyInstanceUID'])


def _open_nifti(stream: BinaryIO) -> object:
    nibabel = import_extra('nibabel', 'radiology', 'a NIfTI volume')
    head = stream.read(HEADER_BYTES)
    stream.seek(0)
    if head[:2] == b'\x1f\x8b':
        stream = gzip.GzipFile(fileobj=stream)
        head = stream.read(HEADER_BYTES)
        stream.seek(0)
    if stored_kind(head) != 'NIfTI':
        raise ValueError('it is not a NIfTI volume in one file')
    kind = (nibabel.Nifti2Image
            if head[4:8] == b'n+2\0' else nibabel.Nifti1Image)
    volume = kind.from_stream(stream)
    if len(volume.shape) not in (3, 4) or volume.get_data_dtype().fields:
        raise ValueError(
            f'it is {volume.shape} of {volume.get_data_dtype()}: a volume '
            'has three axes, or four with its channels, of plain numbers')
    return volume


def _voxel_axes(volume: object) -> list[tuple[int, int]]:
    """For x, y and z: the axis of the voxels, and 1 or -1 if it is turned."""
    from nibabel.orientations import io_orientation
    if not (volume.header['qform_code'] or volume.header['sform_code']):
        raise ValueError('its header does not say how it lies: qform_code '
                         'and sform_code are 0')
    turned = io_orientation(volume.affine)
    if np.isnan(turned).any():
        raise ValueError(f'its affine {volume.affine.tolist()} leaves out '
                         'an axis')
    axes = {int(body): (voxel, int(step))
            for voxel, (body, step) in enumerate(turned)}
    return [axes[body] for body in range(3)]


def _number(part: tuple[str, int] | None, kind: str, count: int) -> int:
    """Return which of ``count`` pictures is meant, or say what can be."""
    if part is None and count == 1:
        return 0
    if part is None or part[0] != kind or part[1] >= count:
        got = 'none' if part is None else '#{}={}'.format(*part)
        raise ValueError(f'it holds {count} pictures: name one behind the '
                         f'file, #{kind}=0 to #{kind}={count - 1}, got {got}')
    return part[1]


def _plain_type(values: np.ndarray) -> np.ndarray:
    """Keep uint8 and uint16; what else float32 holds exactly becomes it."""
    values = values.astype(values.dtype.newbyteorder('='), copy=False)
    if values.dtype in (np.uint8, np.uint16):
        return values
    if values.dtype.kind == 'b':
        return values.astype(np.uint8)
    return values.astype(np.float32 if np.can_cast(values.dtype, np.float32)
                         else np.float64)
