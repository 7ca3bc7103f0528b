"""COCO instances against naive loops, and as pycocotools sees them."""

import contextlib
import io
import json

import cv2
import numpy as np
import pytest
from pycocotools import mask as rle_tools
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from refusals import refuses
from scipy.ndimage import label

from mmmedmask.datasets.coco_instances import (
    CocoInstanceWriter,
    InstanceOptions,
    count_components,
    decode_masks,
    encode_mask,
    has_void,
    is_binary_mask,
    mask_to_labels,
    split_instances,
)


@pytest.fixture
def labels():
    """A map with all that makes instances hard."""
    labels = np.zeros((40, 50), np.int32)
    labels[5:15, 5:20] = 3  # touches number 7 along an edge
    labels[5:15, 20:30] = 7
    labels[8:11, 9:12] = 0  # a hole
    labels[30:40, 0:9] = 200  # cut by two borders
    labels[20, 25] = 201  # a single pixel
    labels[25:28, 30:33] = 900  # one number in two places
    labels[34:37, 40:50] = 900
    labels[28, 33] = 12  # touches 900 at a corner only
    return labels


def box_of(mask):
    """COCO's box."""
    rows, columns = np.nonzero(mask)
    return [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]


def written(tmp_path, writer):
    writer.write(tmp_path / 'deep' / 'train.json')
    return json.loads((tmp_path / 'deep' / 'train.json').read_text())


def test_annotations_are_exact(tmp_path, labels):
    writer = CocoInstanceWriter('gland')
    writer.add('images/a.png', labels)
    content = written(tmp_path, writer)
    assert content['categories'] == [{'id': 1, 'name': 'gland'}]
    assert content['images'] == [{
        'id': 1, 'file_name': 'images/a.png', 'height': 40, 'width': 50}]
    values = [3, 7, 12, 200, 201, 900]
    assert len(content['annotations']) == len(values)
    for number, (value, annotation) in enumerate(
            zip(values, content['annotations'], strict=True), start=1):
        expected = labels == value
        decoded = rle_tools.decode(annotation['segmentation'])
        np.testing.assert_array_equal(decoded, expected)
        assert annotation['bbox'] == box_of(expected)
        assert annotation['area'] == expected.sum()
        assert annotation['id'] == number
        assert annotation['image_id'] == annotation['category_id'] == 1
        assert annotation['iscrowd'] == 0
    assert writer.totals.instances == 6
    assert writer.totals.in_several_parts == 1
    # 200 has 90 pixels, 201 one, 900 two parts of 9 and 30, 12 one.
    assert writer.totals.tiny == 4


def test_split_components_and_min_area(labels):
    writer = CocoInstanceWriter(
        'gland', InstanceOptions(split_components=True, min_area=10))
    writer.add('a.png', labels)
    # 3, 7, 200 and the larger part of 900.
    assert writer.totals.instances == 4
    # The pixels 12 and 201, and the smaller part of 900.
    assert writer.totals.too_small == 3
    assert writer.totals.in_several_parts == 0


def test_binary_mask_becomes_connected_parts(labels):
    binary = np.where(labels > 0, 255, 0).astype(np.uint8)
    writer = CocoInstanceWriter('gland')
    writer.add('a.png', binary)
    # 3 and 7 merge, 900's first part and the pixel at its corner too.
    assert writer.totals.instances == 5
    assert writer.totals.binary_masks == ['a.png']


@pytest.mark.parametrize(('values', 'kind', 'number', 'binary'), [
    ([0, 255], 'auto', 2, True), ([0, 255], 'instances', 1, False),
    ([0, 1], 'auto', 1, False), ([0, 1], 'binary', 2, False)])
def test_mask_kinds(values, kind, number, binary):
    labels = np.full((6, 9), values[0], np.uint8)
    labels[1:3, 1:3] = labels[4:6, 5:9] = values[1]
    writer = CocoInstanceWriter('gland', InstanceOptions(mask_kind=kind))
    writer.add('a.png', labels)
    assert writer.totals.instances == number
    assert bool(writer.totals.binary_masks) == binary


@pytest.mark.parametrize(('values', 'expected'), [
    ([0, 255], True), ([255], True), ([0], False), ([0, 1], False),
    ([0, 1, 255], False), ([1, 255], False), ([0, 2], False)])
def test_is_binary_mask(values, expected):
    assert is_binary_mask(np.array([values], np.uint8)) is expected


@pytest.mark.parametrize(('dtype', 'number', 'binary'), [
    (np.uint8, 255, True), (np.uint16, 255, True), (np.uint16, 65535, True),
    (np.int32, 2**31 - 1, True), (bool, 1, True), (np.uint16, 257, False),
    (np.uint8, 128, False), (np.uint8, 1, False)])
def test_one_number_in_all_masks(dtype, number, binary):
    """The largest of a type says object; of others nobody can know."""
    labels = np.zeros((6, 9), dtype)
    labels[1:3, 1:3] = labels[4:6, 5:9] = number
    writer = CocoInstanceWriter('gland')
    for name in ('a.png', 'b.png'):
        writer.add(name, labels)
    totals = writer.totals
    assert totals.instances == (4 if binary else 2)
    assert len(totals.binary_masks) == 2 * binary
    warned = [line for line in totals.remarks() if 'no mask holds' in line]
    assert len(warned) == (not binary)
    assert all(f'a number but {number}. If' in line for line in warned)
    # Another number: they are counted.
    if not binary:
        writer.add('c.png', labels // number * 2)
        assert not any('no mask holds' in line for line in totals.remarks())


@pytest.mark.parametrize(('dtype', 'numbers', 'void'), [
    (np.uint8, (1, 255), True), (np.uint16, (1, 65535), True),
    (np.uint8, (254, 255), False), (np.uint16, (1, 255), False),
    (np.uint8, (255, 255), False), (np.int16, (1, 32767), False)])
def test_void(dtype, numbers, void):
    labels = np.zeros((6, 9), dtype)
    labels[1:3], labels[4:6] = numbers
    writer = CocoInstanceWriter('gland')
    writer.add('a.png', labels)
    assert has_void(labels) is void
    assert any('pixels without a label' in line
               for line in writer.totals.remarks()) == void


POLYGONS = [[2, 1, 6, 1, 6, 5, 2, 5], [0, 0, 2, 0, 2, 2, 0, 2]]


@pytest.mark.parametrize('segmentation', [
    POLYGONS, dict(size=[6, 9], counts=[0, 2, 4, 2, 5, 4, 2, 4, 2, 4, 2, 4, 19]
                   ), None])
def test_every_way_to_write_a_mask(segmentation):
    """Two squares, as polygons and as run lengths, column by column."""
    expected = np.zeros((6, 9), bool)
    expected[:2, :2] = expected[1:5, 2:6] = True
    if segmentation is None:
        segmentation = encode_mask(expected)
    (_, _, (mask, )), = decode_masks(dict(
        images=[dict(id=1, height=6, width=9)], annotations=[
            dict(id=7, image_id=1, segmentation=segmentation)]), 'a.json')
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize(('change', 'message'), [
    (dict(segmentation=[]), 'segmentation is empty'),
    (dict(segmentation=[[1, 1, 4, 4]]), 'three corners'),
    (dict(segmentation=dict(size=[9, 6], counts=[54])), r'\[9, 6\]'),
    (dict(segmentation=dict(size=[6, 9], counts=[10, 99])), 'do not cover'),
    (dict(segmentation=dict(encode_mask(np.ones((9, 9))), size=[6, 9])),
     'RLE'),
    (dict(segmentation='a'), 'no mask'), (dict(image_id=3), 'of image 3')])
def test_annotations_without_a_mask(change, message):
    with pytest.raises(ValueError, match=rf'a\.json: annotation 7.*{message}'):
        list(decode_masks(dict(
            images=[dict(id=1, height=6, width=9)], annotations=[dict(
                dict(id=7, image_id=1, segmentation=POLYGONS), **change)]),
            'a.json'))


def test_count_components_against_scipy():
    rng = np.random.default_rng(0)
    for density in (0.1, 0.3, 0.5):
        mask = rng.random((15, 17)) < density
        assert count_components(mask)[0] == label(mask, np.ones((3, 3)))[1]


def test_ids_continue_over_images(tmp_path, labels):
    writer = CocoInstanceWriter('gland')
    for name in ('a.png', 'b.png'):
        writer.add(name, labels)
    writer.add('empty.png', 0 * labels)
    assert writer.totals.empty_images == ['empty.png']
    content = written(tmp_path, writer)
    assert [image['id'] for image in content['images']] == [1, 2, 3]
    assert [one['id'] for one in content['annotations']] == list(range(1, 13))
    assert [one['image_id'] for one in content['annotations']] == (
        6 * [1] + 6 * [2])
    assert [(image['file_name'], len(masks))
            for image, _, masks in decode_masks(content, 'a')] == [
                ('a.png', 6), ('b.png', 6), ('empty.png', 0)]


def average_precision(truth, annotations, kind):
    evaluation = COCOeval(truth, truth.loadRes([
        {'image_id': one['image_id'], 'category_id': 1, 'score': 0.9,
         'bbox': one['bbox'], 'segmentation': one['segmentation']}
        for one in annotations]), kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats[0]


def test_truth_as_prediction_has_ap_1(tmp_path, labels):
    rng = np.random.default_rng(0)
    writer = CocoInstanceWriter('gland')
    writer.add('a.png', labels)
    writer.add('b.png', rng.permutation(labels))
    annotations = written(tmp_path, writer)['annotations']
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(tmp_path / 'deep' / 'train.json'))
        for kind in ('bbox', 'segm'):
            assert average_precision(truth, annotations, kind) == (
                pytest.approx(1.0))
            # The measure can fail: without an instance it drops.
            assert average_precision(truth, annotations[1:], kind) < 1


@pytest.mark.parametrize(('mask', 'expected'), [
    (np.array([[0, 2]], np.uint16), [[0, 2]]),
    (np.array([[[0], [2]]], np.uint8), [[0, 2]]),
    (np.array([[[3] * 3, [0] * 3]], np.uint8), [[3, 0]]),
    (np.array([[[3, 3, 3, 255], [0, 0, 0, 255]]], np.uint8), [[3, 0]]),
    (np.array([[True, False]]), [[1, 0]])])
def test_mask_to_labels(mask, expected):
    assert mask_to_labels(mask).astype(int).tolist() == expected


def jpeg(labels):
    encoded = cv2.imencode('.jpg', np.uint8(255 * (labels > 0)),
                           [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    return cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)


test_masks_that_are_none = refuses(mask_to_labels, [
    (np.array([[[255, 0, 0]]], np.uint8), '3 channels that differ'),
    (jpeg(np.kron(np.eye(3), np.ones((20, 27)))), 'compressed with loss'),
    (np.array([[0.5]]), 'float64'),
    (np.array([[-1, 0, 2]], np.int16), 'holds -1: .* at least 1'),
    (np.zeros((1, 2, 3, 4), np.uint8), r'\(1, 2, 3, 4\)')])


def test_bad_options():
    with pytest.raises(ValueError, match="'colour'"):
        InstanceOptions(mask_kind='colour')


def test_instances_of_all_options_cover_the_mask(labels):
    for split in (False, True):
        masks = split_instances(
            labels, InstanceOptions(split_components=split))
        np.testing.assert_array_equal(
            np.sum(masks, axis=0), (labels > 0).astype(int))
