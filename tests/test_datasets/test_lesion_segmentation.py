"""LesionSegmentation, its masks, its rotations, and BUSI's real files."""

import cv2
import numpy as np
import pytest
from PIL import Image

import mmmedmask  # noqa: F401
from mmmedmask.datasets import LesionSegmentation
from mmmedmask.datasets.image_io import ImageFileError
from mmmedmask.datasets.transforms import LoadLesionMask, RandomRotate90
from mmmedmask.phantoms.lesions import write_lesion_dataset
from mmmedmask.registry import DATASETS

LOAD = dict(type='mmmedmask.LoadTile', gray_to_rgb=True, drop_alpha=True)
MASK = dict(type='mmmedmask.LoadLesionMask')
META = ('img_path', 'sample_idx', 'ori_shape', 'img_shape', 'gt_label',
        'class_name', 'group')


def resize(width, height):
    return dict(type='mmseg.Resize', scale=(width, height), backend='pillow')


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """Six drawn images for training, of which two have no lesion."""
    return write_lesion_dataset(
        tmp_path_factory.mktemp('lesions'), 6, 3, (48, 64), normal=True)


def test_samples_have_label_class_and_mask(root):
    classes = ('normal', 'bright', 'dark', 'striped')
    data = LesionSegmentation(str(root), metainfo=dict(classes=classes))
    assert data.metainfo['classes'] == ('background', 'lesion')
    assert len(data.metainfo['palette']) == 2
    assert data.metainfo['image_classes'] == classes
    with pytest.raises(ValueError, match='metainfo has the classes'):
        LesionSegmentation(
            str(root), metainfo=dict(classes=('background', 'lesion')))
    samples = [data.get_data_info(index) for index in range(len(data))]
    assert [sample['class_name'] for sample in samples] == [
        'normal', 'bright', 'dark', 'striped', 'normal', 'bright']
    assert [sample['gt_label'] for sample in samples] == [0, 1, 2, 3, 0, 1]
    assert ['lesion_path' in sample for sample in samples] == [
        False, True, True, True, False, True]
    assert len(DATASETS.build(
        dict(type='mmmedmask.LesionSegmentation', data_root=str(root),
             split='val'))) == 3


def test_pipeline_for_mmseg(root):
    """Labels 0 and 1 where the file says so; all 0 without a file."""
    import mmseg.datasets.transforms  # noqa: F401
    train = LesionSegmentation(
        str(root),
        pipeline=[LOAD, MASK, resize(32, 24),
                  dict(type='mmseg.PackSegInputs', meta_keys=META)])
    test = LesionSegmentation(
        str(root),
        pipeline=[LOAD, resize(32, 24), MASK,
                  dict(type='mmseg.PackSegInputs', meta_keys=META)])
    for index in range(6):
        small, whole = train[index], test[index]
        for packed in (small, whole):
            assert packed['inputs'].shape == (3, 24, 32)
            sample = packed['data_samples']
            assert sample.class_name == train.metainfo['image_classes'][
                sample.gt_label]
            assert sample.ori_shape == (48, 64)
            assert sample.sample_idx == index
        label = whole['data_samples'].gt_sem_seg.data
        info = train.get_data_info(index)
        expected = np.zeros((48, 64))
        if 'lesion_path' in info:
            expected = np.array(Image.open(info['lesion_path'])) / 255
            assert expected.sum() > 10
        np.testing.assert_array_equal(label[0], expected)
        reduced = small['data_samples'].gt_sem_seg.data
        assert reduced.shape == (1, 24, 32)
        # A quarter of the pixels, from the middle of each 2 x 2 cell or
        # beside it, never from outside.
        cells = expected.reshape(24, 2, 32, 2)
        assert (reduced[0].numpy() <= cells.max((1, 3))).all()
        assert (reduced[0].numpy() >= cells.min((1, 3))).all()


def test_image_and_mask_shrink_to_the_same_place():
    """The centre of a disc stays where it is, within .13 of a pixel."""
    from mmseg.datasets.transforms import Resize
    rows, columns = np.mgrid[:300, :400]
    disc = ((rows - 140)**2 + (columns - 170)**2 < 60**2).astype(np.uint8)
    results = Resize(scale=(100, 60), backend='pillow')(
            dict(img=np.repeat(disc[..., None] * 200, 3, axis=2),
                 gt_seg_map=disc, seg_fields=['gt_seg_map']))

    def centre(weights):
        grid = np.mgrid[:60, :100]
        return (grid * weights).sum((1, 2)) / weights.sum()

    mask = results['gt_seg_map']
    assert set(np.unique(mask)) == {0, 1}
    expected = (140.5 / 5 - .5, 170.5 / 4 - .5)
    np.testing.assert_allclose(centre(mask), expected, atol=.13)
    np.testing.assert_allclose(
        centre(results['img'][..., 0].astype(float)), expected, atol=.01)


def load(path):
    return LoadLesionMask()(
        dict(img_path='image.png', lesion_path=str(path), ori_shape=(4, 5)))


def test_a_mask_becomes_labels_of_0_and_1(tmp_path):
    """What is read, and what is refused, is in test_lesion_masks.py."""
    stored = np.resize(np.uint8([0, 255]), (4, 5))
    cv2.imwrite(str(tmp_path / 'mask.png'), stored)
    results = load(tmp_path / 'mask.png')
    assert results['gt_seg_map'].dtype == np.uint8
    np.testing.assert_array_equal(results['gt_seg_map'], stored > 0)
    assert results['seg_fields'] == ['gt_seg_map']
    cv2.imwrite(str(tmp_path / 'mask.png'), stored.T)
    with pytest.raises(ImageFileError, match=r'mask.png.*\(5, 4\).*image.png'):
        load(tmp_path / 'mask.png')


def test_broken_masks_follow_the_policy(tmp_path):
    root = write_lesion_dataset(tmp_path, 3, 1, 32)
    (root / 'masks' / 'train_0001.png').write_bytes(b'no image')
    pipeline = [LOAD, MASK]
    with pytest.raises(ImageFileError, match='train_0001'):
        LesionSegmentation(str(root), pipeline=pipeline)[1]
    skipping = LesionSegmentation(
        str(root), pipeline=pipeline, on_error='skip')
    assert skipping[1]['img_path'].endswith('train_0002.png')


def turned(transform, index=0, size=(3, 4)):
    """Rotate an image whose pixels are numbered; say by how many quarters."""
    label = np.arange(size[0] * size[1], dtype=np.uint8).reshape(size)
    image = np.repeat(label[..., None], 3, axis=2)
    results = transform(
        dict(img=image, gt_seg_map=label, seg_fields=['gt_seg_map'],
             sample_idx=index))
    for channel in range(3):
        np.testing.assert_array_equal(results['img'][..., channel],
                                      results['gt_seg_map'])
    assert results['img_shape'] == results['img'].shape[:2]
    found = [k for k in range(4)
             if np.array_equal(np.rot90(label, k), results['gt_seg_map'])]
    assert len(found) == 1
    return found[0]


def test_rotations_are_as_frequent_as_they_should_be():
    transform = RandomRotate90(prob=.5, seed=0)
    counts = np.bincount([turned(transform, i) for i in range(800)],
                         minlength=4)
    # .5 + .125 stay; standard deviations are 14 and 9.
    np.testing.assert_allclose(counts, [500, 100, 100, 100], atol=40)
    assert {turned(RandomRotate90(prob=0), i) for i in range(50)} == {0}
    always = [turned(RandomRotate90(prob=1), i) for i in range(400)]
    np.testing.assert_allclose(np.bincount(always), [100] * 4, atol=35)


def test_seed_epoch_and_sample_decide():
    def draws(transform):
        return [turned(transform, index) for index in range(60)]

    first, again = RandomRotate90(prob=1), RandomRotate90(prob=1)
    first.set_epoch(3, 7)
    again.set_epoch(3, 7)
    epoch_3 = draws(first)
    assert draws(again) == epoch_3 == draws(first)
    again.set_epoch(4, 7)
    assert draws(again) != epoch_3
    again.set_epoch(3, 8)
    assert draws(again) != epoch_3
    fixed = RandomRotate90(prob=1, seed=7)
    fixed.set_epoch(3, 99)
    assert draws(fixed) == epoch_3


@pytest.mark.parametrize('prob', [-.1, 1.5])
def test_bad_probability(prob):
    with pytest.raises(ValueError, match=r'prob must be in \[0, 1\]'):
        RandomRotate90(prob)
