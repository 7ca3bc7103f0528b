"""Splits have the paper's sizes, and groups stay on one side."""

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mmmedmask.datasets.conversion import busi, ham10000, messidor2
from mmmedmask.datasets.conversion.label_splits import (
    LabelledImage,
    draw_by_group,
    draw_by_image,
    val_targets,
)


def make_images(counts, group_of=None):
    group_of = group_of or '{}{}'.format
    images = [
        LabelledImage(Path(f'{label}{index}'), f'{label}/{index:05d}', label,
                      group_of(label, index))
        for label, count in counts.items() for index in range(count)]
    random.Random(0).shuffle(images)
    return images


@pytest.mark.parametrize(('module', 'train', 'val'), [
    (messidor2, 1222, 522), (ham10000, 7014, 3001), (busi, 547, 233)])
def test_sizes_are_those_of_the_paper(module, train, val):
    images = make_images(module.OFFICIAL_COUNTS)
    split = draw_by_image(images, 0)
    assert (len(split.train), len(split.val)) == (train, val)
    # 58.43 % is what the paper's collapsed models reach on Messidor-2.
    if module is messidor2:
        assert Counter(one.label for one in split.val)['no_dr'] == 305


@pytest.mark.parametrize('draw', [draw_by_image, draw_by_group])
def test_split_is_exact_and_depends_on_the_seed_alone(draw):
    counts = {'b': 37, 'a': 10, 'c': 3, 'd': 101}
    images = make_images(counts)
    split = draw(images, 7)
    # Of a group per image, both draw the same numbers.
    assert Counter(one.label for one in split.val) == {
        'a': 3, 'b': 11, 'd': 30}
    assert val_targets(images) == {'a': 3, 'b': 11, 'c': 0, 'd': 30}
    assert sorted(one.path for one in split.train + split.val) == sorted(
        one.path for one in images)
    assert not {one.path for one in split.train} & {
        one.path for one in split.val}
    for part in (split.train, split.val):
        assert [one.path for one in part] == sorted(one.path for one in part)
    # The order in which files are listed does not matter.
    assert draw(images[::-1], 7) == split
    assert draw(images, 8) != split


def test_images_are_drawn_uniformly():
    images = make_images({'a': 20})
    times = Counter()
    for seed in range(400):
        times.update(one.path for one in draw_by_image(images, seed).val)
    # 6 of 20 are drawn: 120 of 400 times each, deviation 9.
    assert len(times) == 20
    assert all(abs(count - 120) < 5 * 9.2 for count in times.values())


def test_groups_are_whole_and_classes_near_their_share():
    # Lesions of one to four images, and patients whose eyes differ.
    def group_of(label, index):
        return f'{label}{index // 4}' if label != 'x' else f'p{index}'

    images = make_images({'a': 203, 'b': 61, 'x': 40}, group_of)
    images += [
        LabelledImage(Path(f'y{index}'), f'y/{index:05d}', 'y', f'p{index}')
        for index in range(40)]
    for seed in range(20):
        split = draw_by_group(images, seed)
        assert not {one.group for one in split.train} & {
            one.group for one in split.val}
        assert len(split.train) + len(split.val) == len(images)
        found = Counter(one.label for one in split.val)
        for label, target in val_targets(images).items():
            # At most half a group of four is lacking or too much.
            assert abs(found[label] - target) <= 2


def test_by_group_against_a_naive_loop():
    images = make_images(
        {'a': 30, 'b': 15}, lambda label, index: f'g{index // 3}')
    split = draw_by_group(images, 3)
    target = {'a': 9, 'b': 4}
    names = sorted({one.group for one in images})
    chosen, have = [], {'a': 0, 'b': 0}
    for index in np.random.default_rng(3).permutation(len(names)):
        members = [one for one in images if one.group == names[index]]
        after = dict(have)
        for one in members:
            after[one.label] += 1
        if (sum(abs(target[key] - after[key]) for key in target)
                < sum(abs(target[key] - have[key]) for key in target)):
            have, chosen = after, chosen + members
    assert sorted(one.path for one in chosen) == [
        one.path for one in split.val]
