"""Pictures of segmentation: titled, and a small lesion is seen."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement, PixelData
from PIL import Image

from mmmedmask.visualization import SegmentationVisualizer, draw_grid
from mmmedmask.visualization.grid import Column
from mmmedmask.visualization.segmentation_visualizer import (
    FRAME,
    framed,
    labels_column,
)


@pytest.fixture
def sample():
    """A lesion of three pixels, of which one was found."""
    truth = torch.zeros(1, 40, 60, dtype=torch.int64)
    truth[0, 20, 30:33] = 1
    predicted = torch.zeros_like(truth)
    predicted[0, 20, 30] = 1
    return BaseDataElement(gt_sem_seg=PixelData(data=truth),
                           pred_sem_seg=PixelData(data=predicted))


def draw(tmp_path, sample, **options):
    visualizer = SegmentationVisualizer(f'pictures_{tmp_path.name}')
    visualizer.dataset_meta = dict(classes=('background', 'lesion'))
    image = np.full((40, 60, 3), 90, np.uint8)
    file = tmp_path / f'{len(options)}.png'
    visualizer.add_datasample(
        'a', image, sample, out_file=str(file), **options)
    return np.asarray(Image.open(file))


def test_three_titled_pictures(sample, tmp_path):
    image = framed(np.full((40, 60, 3), 90, np.uint8))
    picture = draw(tmp_path, sample)
    plain = draw_grid([Column('Image', '60 x 40 pixels', [image]),
                       Column('Truth', 'lesion: 3 pixels', [image]),
                       Column('Prediction', 'lesion: 1 pixels', [image])])
    # Titles and numbers are those; around the lesions is an outline.
    assert picture.shape == plain.shape
    differs = (picture != plain).any(axis=2)
    count, _, stats, _ = cv2.connectedComponentsWithStats(
        differs.astype(np.uint8))
    assert count - 1 == 2
    # Pixels are 6 wide now; the outline is 2, and leaves 1 beside them.
    outlines = stats[1:]
    assert outlines[:, cv2.CC_STAT_WIDTH].tolist() == [3 * 6 + 6, 6 + 6]
    assert outlines[:, cv2.CC_STAT_AREA].tolist() == [
        24 * 12 - 20 * 8, 12 * 12 - 8 * 8]


def test_a_lesion_is_not_covered():
    """Each of its pixels, and all around, is as in the image."""
    image = np.random.default_rng(0).integers(
        0, 255, (300, 400, 3), dtype=np.uint8)
    labels = np.zeros((300, 400), np.int64)
    labels[100, 200] = 1
    picture, = labels_column('Truth', image, labels, ('background', 'a')
                             ).pictures
    picture = picture[FRAME:-FRAME, FRAME:-FRAME]
    np.testing.assert_array_equal(picture[99:102, 199:202],
                                  image[99:102, 199:202])
    assert (picture != image).any()


def test_an_outline_is_closed_at_the_border():
    labels = np.zeros((300, 400), np.int64)
    labels[:20, :30] = 1
    picture, = labels_column('Truth', np.full((300, 400, 3), 90, np.uint8),
                             labels, ('background', 'a')).pictures
    edge = picture[0, :30 + 2 * FRAME]
    assert (edge == edge[0]).all()
    assert edge[0].tolist() not in ([255] * 3, [90] * 3)
    assert (picture[FRAME:20, FRAME:30] == 90).all()


def test_what_has_no_label_is_no_class():
    labels = np.array([[0, 1], [1, 255]], np.uint8)
    assert labels_column('Truth', np.zeros((2, 2, 3), np.uint8),
                         labels).subtitle == '0: 1 pixels, 1: 2 pixels'


@pytest.mark.parametrize('hidden', ['draw_gt', 'draw_pred'])
def test_one_of_them(sample, hidden, tmp_path):
    both, one = draw(tmp_path, sample), draw(
        tmp_path, sample, **{hidden: False})
    assert one.shape[1] < both.shape[1]


def test_labels_of_another_size(sample, tmp_path):
    sample.gt_sem_seg = PixelData(data=torch.zeros(1, 4, 6))
    with pytest.raises(ValueError, match='labels .* that of the image'):
        draw(tmp_path, sample)
