"""Lesion phantoms: only the lesion tells the class, and masks are exact."""

import csv

import cv2
import numpy as np
import pytest
from refusals import refuses

from mmmedmask.datasets.image_io import read_image
from mmmedmask.phantoms.lesions import (
    LESION_CLASSES,
    NORMAL_CLASS,
    draw_lesion_image,
    draw_lesions_on,
    write_lesion_dataset,
)

SEEDS = range(12)


@pytest.mark.parametrize('gray', [False, True])
@pytest.mark.parametrize('size', [64, (96, 80)])
def test_classes_differ_where_the_lesion_is_and_nowhere_else(size, gray):
    shape = (size, size) if isinstance(size, int) else size
    for seed in SEEDS:
        normal, empty = draw_lesion_image(NORMAL_CLASS, size, seed, gray)
        assert normal.shape == shape + (() if gray else (3, ))
        assert normal.dtype == np.uint8
        assert not empty.any()
        masks, images = [], []
        for lesion in LESION_CLASSES:
            image, mask = draw_lesion_image(lesion, size, seed, gray)
            differs = image != normal
            differs = differs if gray else differs.any(axis=2)
            rows, columns = differs.nonzero()
            assert 1 < np.ptp(rows) < 8
            assert 1 < np.ptp(columns) < 8
            # Of the pixels that the lesion touches, the mask holds those
            # that it covers by more than half.
            assert not (mask & ~differs).sum() > 0.25 * mask.sum()
            masks.append(mask)
            images.append(image.astype(float))
        assert all((mask == masks[0]).all() for mask in masks)
        bright, dark, striped = (image[masks[0]] for image in images)
        assert bright.mean() > normal[masks[0]].mean() + 20
        assert dark.mean() < normal[masks[0]].mean() - 20
        assert dark.mean() + 20 < striped.mean() < bright.mean() - 20
        assert striped.std(axis=0).mean() > 2 * bright.std(axis=0).mean()


@pytest.mark.parametrize('lesion_size', [8, 16])
def test_an_aligned_lesion_lies_in_one_patch(lesion_size):
    places = set()
    for seed in range(60):
        _, mask = draw_lesion_image(
            'bright', 64, seed, lesion_size=lesion_size, align=lesion_size)
        assert 0.55 < mask.sum() / lesion_size**2 < 0.85
        cells = 64 // lesion_size
        patches = mask.reshape(cells, lesion_size, cells, lesion_size)
        row, column = patches.any(axis=(1, 3)).nonzero()
        assert len(row) == 1
        places.add((int(row[0]), int(column[0])))
    # All over the image.
    assert len(places) > (12 if lesion_size == 16 else 30)
    assert {row for row, _ in places} == set(range(cells))


def test_unaligned_lesions_lie_anywhere():
    corners = []
    for seed in range(40):
        _, mask = draw_lesion_image('bright', 64, seed)
        rows, columns = mask.nonzero()
        corners.append((rows.min() % 8, columns.min() % 8))
    assert len({row for row, _ in corners}) > 5


def test_the_rest_is_not_flat():
    """Reconstruction has something to do, and images vary."""
    images = np.stack(
        [draw_lesion_image(NORMAL_CLASS, 64, seed)[0] for seed in SEEDS])
    inside = images.reshape(len(images), -1, 3).astype(float).std(axis=1)
    assert inside.min() > 8
    patches = images.reshape(len(images), 8, 8, 8, 8, 3).astype(float)
    assert np.median(patches.std(axis=(2, 4)).mean(axis=-1)) > 5
    assert images.mean(axis=(1, 2)).std(axis=0).min() > 8


test_bad_arguments_of_a_lesion = refuses(draw_lesion_image, [
    ({'lesion': 'green'}, "'green'"), ({'size': 31}, '31'),
    ({'size': (64, 16)}, '16'), ({'lesion_size': 3}, r'\[4, 32\], got 3'),
    ({'lesion_size': 33}, '33'), ({'align': 0}, 'align')])


@pytest.mark.parametrize('normal', [False, True])
def test_written_lesions(tmp_path, normal):
    root = write_lesion_dataset(
        tmp_path / 'lesions', 9, 4, size=(40, 48), seed=5, normal=normal)
    classes = (root / 'classes.txt').read_text().split()
    assert classes == [*([NORMAL_CLASS] if normal else []), *LESION_CLASSES]
    groups, files = [], []
    for position, (split, number) in enumerate((('train', 9), ('val', 4))):
        with open(root / 'splits' / 'paper' / f'{split}.csv') as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == number
        for index, row in enumerate(rows):
            expected = classes[index % len(classes)]
            assert row['label'] == expected
            image, mask = draw_lesion_image(
                expected, (40, 48), (5, position, index))
            np.testing.assert_array_equal(
                read_image(root / row['path']), image)
            assert bool(row['mask']) == (expected != NORMAL_CLASS)
            if row['mask']:
                np.testing.assert_array_equal(
                    read_image(root / row['mask'])[..., 0], 255 * mask)
                files.append(root / row['mask'])
            files.append(root / row['path'])
            groups.append(row['group'])
    assert len(set(groups)) == 13
    assert set(root.rglob('*.png')) == set(files)


def test_written_gray_lesions(tmp_path):
    root = write_lesion_dataset(tmp_path, 1, 1, gray=True)
    assert read_image(root / 'images' / 'val_0000.png').shape == (64, 64, 1)


@pytest.mark.parametrize('numbers', [(0, 1), (1, -2)])
def test_lesions_to_write(tmp_path, numbers):
    with pytest.raises(ValueError, match='at least 1, got'):
        write_lesion_dataset(tmp_path, *numbers)
    assert not list(tmp_path.iterdir())


def test_lesions_on_a_picture():
    picture = np.random.default_rng(0).integers(90, 130, (60, 80, 3), np.uint8)
    before = picture.copy()
    image, mask = draw_lesions_on(picture, ('dark', 'bright', 'dark'), 1)
    assert (picture == before).all()
    changed = (image != picture).any(axis=2)
    # All of them apart, each of the size of a lesion.
    number, labels = cv2.connectedComponents(changed.astype(np.uint8))
    assert number == 4
    means = []
    for label in (1, 2, 3):
        place = labels == label
        assert 30 < place.sum() <= 64
        assert (mask & place).sum() > 0.7 * place.sum()
        means.append(image[place & mask].mean())
    assert sorted(mean > 150 for mean in means) == [False, False, True]
    assert not (mask & ~changed).any()
    again, _ = draw_lesions_on(picture, ('dark', 'bright', 'dark'), 1)
    np.testing.assert_array_equal(again, image)


def test_lesions_that_cannot_be_drawn():
    picture = np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(ValueError, match="lesions .* got 'normal'"):
        draw_lesions_on(picture, ['bright', 'normal'])
    with pytest.raises(ValueError, match='20 lesions of 8 .* room for'):
        draw_lesions_on(picture, ['bright'] * 20)
