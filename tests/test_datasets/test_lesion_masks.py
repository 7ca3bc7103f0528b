"""Reading lesion masks: what counts as lesion, and what is refused."""

import cv2
import numpy as np
import pytest

from mmmedmask.datasets.image_io import ImageFileError
from mmmedmask.datasets.lesion_masks import mask_to_binary, read_lesion_mask

LESION = np.zeros((6, 9), bool)
LESION[2:5, 3:8] = True


def write(path, pixels):
    if not cv2.imwrite(str(path), pixels):
        raise OSError(path)
    return path


@pytest.mark.parametrize('white', [255, 1])
@pytest.mark.parametrize('channels', [1, 3, 4])
def test_black_and_white(tmp_path, white, channels):
    pixels = np.repeat(
        (LESION * white).astype(np.uint8)[..., None], channels, axis=2)
    if channels == 4:
        pixels[..., 3] = 255
    found = read_lesion_mask(write(tmp_path / 'mask.png', pixels))
    assert found.dtype == bool
    np.testing.assert_array_equal(found, LESION)


@pytest.mark.parametrize(('value', 'lesion'), [(0, 0), (1, 1), (255, 1)])
def test_of_one_value(tmp_path, value, lesion):
    path = write(tmp_path / 'mask.png', np.full((4, 5), value, np.uint8))
    assert read_lesion_mask(path).mean() == lesion


@pytest.mark.parametrize(('change', 'message'), [
    (lambda mask: mask // 2, '127'),
    (lambda mask: np.where(mask == 255, 3, mask), 'such as 3'),
    (lambda mask: np.where(np.arange(9) < 1, 128, mask), '11.1%.*such as 128'),
    (lambda mask: np.where(np.arange(9) < 1, 1, mask), 'such as 1'),
    (lambda mask: np.full_like(mask, 7), 'such as 7')])
def test_other_values_are_refused(tmp_path, change, message):
    pixels = change((LESION * 255).astype(np.uint8)).astype(np.uint8)
    path = write(tmp_path / 'mask.png', pixels)
    with pytest.raises(ImageFileError, match=f'{path}.*{message}'):
        read_lesion_mask(path)


COLOURS = np.dstack([LESION, ~LESION, LESION]).astype(np.uint8)
# Black all over, and the shape in its transparency.
SHAPE = np.dstack([0 * LESION] * 3 + [LESION]).astype(np.uint8)


@pytest.mark.parametrize(('pixels', 'message'), [
    (COLOURS, 'has colours'), (SHAPE, 'shape in its alpha'),
    (np.full((4, 5), 65535, np.uint16), 'holds uint16'),
    (None, 'No such file')])
def test_other_images_are_refused(tmp_path, pixels, message):
    path = tmp_path / 'mask.png'
    if pixels is not None:
        write(path, pixels)
        with pytest.raises(ValueError, match=message):
            mask_to_binary(np.atleast_3d(pixels))
    with pytest.raises(ImageFileError, match=f'mask.png.*{message}'):
        read_lesion_mask(path)


def test_masks_of_breast_ultrasound(data_root):
    """The real ones are gray, RGB or RGBA; all are black and white."""
    paths = sorted(
        (data_root / 'busi/Dataset_BUSI_with_GT').rglob('*_mask*.png'))
    if not paths:
        pytest.skip(f'no BUSI masks below {data_root}')
    for path in paths:
        lesion = read_lesion_mask(path)
        assert lesion.any() == ('normal' not in path.name), path
