"""Groups of copies, against a naive search; local fingerprints."""

import cv2
import numpy as np
import pytest

from mmmedmask.datasets.conversion.copies import connected, find_copies
from mmmedmask.datasets.conversion.duplicates import (
    local_fingerprint,
    make_record,
)
from mmmedmask.phantoms.labelled_downloads import draw_scan

COPIES = {
    'jpeg': lambda image: cv2.imdecode(
        cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], 1),
    'half': lambda image: cv2.resize(
        image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    'gamma': lambda image: (255 * (image / 255)**1.6).astype(np.uint8),
    'bright': lambda image: np.clip(1.8 * image, 0, 255).astype(np.uint8),
    'mirror': lambda image: image[:, ::-1],
    'half turn': lambda image: image[::-1, ::-1],
    'sharp': lambda image: cv2.addWeighted(
        image, 3, cv2.GaussianBlur(image, (0, 0), 4), -2, 0),
    '16 bit': lambda image: image.astype(np.uint16) * 257,
}


def record(name, image, encoded=None):
    return make_record(
        name, '', image.tobytes() if encoded is None else encoded, image,
        local_fingerprint)


def scan(seed):
    return draw_scan(seed, (160, 160))


@pytest.mark.parametrize('kind', COPIES)
def test_changed_copies_are_found(kind):
    records = [record(f'{seed}', scan(seed)) for seed in range(6)]
    copies = find_copies(
        [*records, record('copy', COPIES[kind](scan(3)))], 0.87)
    assert copies.groups == [('3', 'copy')]
    assert copies.identical == []


def test_fingerprint_against_a_naive_one():
    image = scan(0)
    gray = image.astype(np.float64).mean(axis=2) / 255
    small = cv2.resize(gray, (64, 64), interpolation=cv2.INTER_AREA)
    fine = small - cv2.GaussianBlur(small, (0, 0), 2)
    power = cv2.GaussianBlur(fine**2, (0, 0), 2)
    local = fine / (power + 0.02**2)**0.5
    local -= local.mean()
    local /= (local**2).sum()**0.5
    np.testing.assert_allclose(local_fingerprint(image), local, atol=1e-5)
    assert local_fingerprint(np.full((90, 90, 1), 90, np.uint8)) is None


def test_neighbouring_slices_are_no_copies():
    """Two mixtures of the same anatomy with different detail."""
    anatomy = cv2.GaussianBlur(scan(0), (0, 0), 6)
    first, second = (
        cv2.addWeighted(anatomy, 0.5, scan(seed), 0.5, 0)
        for seed in (1, 2))
    assert find_copies([record('a', first), record('b', second)],
                       0.87).groups == []


def test_groups_are_chains_of_identical_and_near_copies():
    image = scan(0)
    records = [
        record('d', image),
        record('b', image, b'other bytes'),
        record('a', image[:, ::-1]),
        record('c', scan(1)),
        record('e', scan(1)),
        record('f', scan(2)),
        record('g', np.full((90, 90, 3), 9, np.uint8)),
        record('h', np.full((90, 90, 3), 9, np.uint8)),
    ]
    copies = find_copies(records, 0.87)
    assert sorted(copies.identical) == [('b', 'd'), ('c', 'e'), ('g', 'h')]
    assert dict(zip(copies.identical, copies.same_bytes, strict=True)) == {
        ('b', 'd'): False, ('c', 'e'): True, ('g', 'h'): True}
    assert [pair[:2] for pair in copies.near] == [('a', 'b')]
    assert copies.near[0][2] > 0.999
    assert copies.groups == [('a', 'b', 'd'), ('c', 'e'), ('g', 'h')]
    assert copies.featureless == ['g', 'h']
    assert copies.first_of() == {
        'a': 'a', 'b': 'a', 'd': 'a', 'c': 'c', 'e': 'c', 'g': 'g',
        'h': 'g'}


def test_connected_against_a_naive_closure():
    rng = np.random.default_rng(0)
    for _ in range(20):
        pairs = [tuple(f'{number:02d}' for number in pair)
                 for pair in rng.integers(0, 30, (18, 2))]
        naive = {frozenset(pair) for pair in pairs}
        while True:
            joined = next(
                ((one, two) for one in naive for two in naive
                 if one != two and one & two), None)
            if joined is None:
                break
            naive = naive - set(joined) | {joined[0] | joined[1]}
        assert connected(pairs) == sorted(
            tuple(sorted(group)) for group in naive)
    assert connected([]) == []


@pytest.mark.parametrize('threshold', [0, -1, 1.5])
def test_bad_near_threshold(threshold):
    with pytest.raises(ValueError, match=str(threshold)):
        find_copies([], threshold)
