"""BinarySegMetric: closed forms, loops over pixels, groups and ranks."""

import csv

import numpy as np
import pytest
import torch
from processes import evaluate_on_ranks
from refusals import refuses

from mmmedmask.evaluation.binary_segmentation import (
    LESION_SCORES,
    BinarySegMetric,
    image_scores,
    official_scores,
)


def mask(*cells, size=(4, 5)):
    """A mask with ones at these (row, column)."""
    made = torch.zeros(size, dtype=torch.uint8)
    for row, column in cells:
        made[row, column] = 1
    return made


def sample(predicted, lesion, name='a.png', **others):
    return dict(pred_sem_seg=dict(data=predicted[None].float()),
                gt_sem_seg=dict(data=lesion[None].long()),
                img_path=f'/data/images/{name}', **others)


def evaluate(samples, **arguments):
    metric = BinarySegMetric(**arguments)
    metric.process(None, samples)
    return {name.removeprefix('lesion/'): value
            for name, value in metric.evaluate(len(samples)).items()}


def random_samples(count, seed=0):
    """Images of different sizes, some without lesion or prediction."""
    rng = np.random.default_rng(seed)
    made = []
    for index in range(count):
        size = tuple(rng.integers(3, 9, 2))
        both = rng.random((2, *size)) < rng.uniform(.1, .9, (2, 1, 1))
        both[0] &= index % 5 != 3
        both[1] &= index % 4 != 2
        predicted, lesion = torch.from_numpy(both)
        made.append(sample(predicted, lesion, f'{index}.png'))
    return made


def naive(samples):
    """Every score from sums over pixels."""
    shared, predicted, lesion, pixels = np.array([
        [(one['pred_sem_seg']['data'] * one['gt_sem_seg']['data']).sum(),
         one['pred_sem_seg']['data'].sum(), one['gt_sem_seg']['data'].sum(),
         one['gt_sem_seg']['data'].numel()] for one in samples]).T

    def scores(shared, predicted, lesion):
        return dict(iou=shared / (predicted + lesion - shared),
                    dice=2 * shared / (predicted + lesion),
                    f1=2 * shared / (predicted + lesion),
                    precision=shared / np.maximum(predicted, 1),
                    recall=shared / lesion)

    some = lesion > 0
    counts = shared, predicted, lesion
    false = predicted[~some] / pixels[~some]
    return dict(
        {name: value.mean() for name, value in scores(
            *(one[some] for one in counts)).items()},
        **{f'pooled_{name}': value for name, value in scores(
            *(one.sum() for one in counts)).items()},
        num_lesion=some.sum(), num_normal=(~some).sum(),
        normal_empty=(false == 0).mean(), normal_false_area=false.mean())


def test_equals_sums_over_pixels():
    samples = random_samples(40)
    values = evaluate(samples)
    expected = naive(samples)
    assert expected['num_normal'] >= 5
    assert 0 < expected['normal_empty'] < 1
    for name, value in expected.items():
        assert values.pop(name) == pytest.approx(value, abs=1e-12), name
    assert sorted(values) == ['official_f1', 'official_iou']


def test_a_large_lesion_hides_a_missed_one_in_a_batch_alone():
    """Numeric check 18 of the reference: .9890 against .5000."""
    large = torch.zeros(40, 40)
    large[:30, :30] = 1
    small = torch.zeros(40, 40)
    small[:2, :5] = 1
    values = evaluate([sample(large, large),
                       sample(torch.zeros(40, 40), small, 'b.png')])
    assert values['official_iou'] == pytest.approx(900 / 910, abs=1e-6)
    assert f'{values["official_iou"]:.4f}' == '0.9890'
    assert f'{values["iou"]:.4f}' == '0.5000'
    assert values['pooled_iou'] == pytest.approx(900 / 910)
    assert values['precision'] == .5  # Nothing predicted counts 0.


def test_nothing_there_and_nothing_predicted_is_right(warnings_logged):
    empty = mask()
    values = evaluate([sample(empty, empty)])
    undefined = {name: values.pop(name) for name in LESION_SCORES}
    assert np.isnan(list(undefined.values())).all()
    assert values == dict(num_lesion=0, num_normal=1, normal_empty=1,
                          normal_false_area=0, official_iou=1, official_f1=1)
    warning, = warnings_logged
    assert 'No image of the test set has a lesion' in warning


def test_a_prediction_without_lesion_counts_apart():
    lesion = mask((0, 0), (0, 1))
    values = evaluate([sample(lesion, lesion),
                       sample(mask((3, 3)), mask(), 'b.png'),
                       sample(mask(), mask(), 'c.png')])
    assert values['iou'] == values['dice'] == values['precision'] == 1
    assert values['pooled_precision'] == pytest.approx(2 / 3)
    assert (values['num_lesion'], values['num_normal']) == (1, 2)
    assert values['normal_empty'] == .5
    assert values['normal_false_area'] == pytest.approx(1 / 20 / 2)


@pytest.mark.parametrize('batch_size', [1, 3, 8])
def test_official_groups_equal_a_loop(batch_size):
    rng = np.random.default_rng(1)
    counts = np.sort(rng.integers(0, 50, (19, 3)), axis=1)
    counts[:, 1:] = rng.permuted(counts[:, 1:], axis=1)
    iou = f1 = images = 0
    for start in range(0, 19, batch_size):
        group = counts[start:start + batch_size]
        shared = sum(row[0] for row in group)
        union = sum(row[1] + row[2] - row[0] for row in group)
        one = (shared + 1e-5) / (union + 1e-5)
        iou += one * len(group)
        f1 += 2 * one / (one + 1) * len(group)
        images += len(group)
    assert official_scores(counts, batch_size) == pytest.approx(
        (iou / images, f1 / images))


def test_official_scores_depend_on_the_order_and_the_others_do_not():
    samples = random_samples(24, seed=3)
    values, turned = evaluate(samples), evaluate(samples[::2] + samples[1::2])
    for name in values:
        same = values[name] == pytest.approx(turned[name], abs=1e-12)
        assert same == (not name.startswith('official')), name


def test_official_size_lets_all_images_count_alike():
    """A large picture, right, and a small one, wrong."""
    right = torch.zeros(64, 64)
    right[:32] = 1
    wrong = torch.zeros(8, 8)
    wrong[:4] = 1
    samples = [sample(right, right), sample(1 - wrong, wrong, 'b.png')]
    at_size = evaluate(samples, official_size=(16, 16))
    # 128 of 128, and 0 of 256.
    assert at_size['official_iou'] == pytest.approx(128 / 384, abs=1e-6)
    assert evaluate(samples)['official_iou'] == pytest.approx(
        2048 / (2048 + 64), abs=1e-6)
    # The others are measured at the size of the file either way.
    assert at_size['pooled_iou'] == pytest.approx(2048 / (2048 + 64))


def test_quotients_of_nothing():
    scores = image_scores(np.array([[0, 0, 0], [0, 0, 3], [0, 3, 0]]))
    assert scores['iou'].tolist() == [1, 0, 0]
    assert scores['dice'].tolist() == [1, 0, 0]
    assert scores['precision'].tolist() == [0, 0, 0]
    assert scores['recall'].tolist() == [0, 0, 0]


def test_csv_has_one_line_per_image(tmp_path):
    lesion = mask((0, 0), (0, 1), (0, 2), (0, 3))
    samples = [
        sample(mask((0, 0), (1, 1)), lesion, 'a.png', class_name='benign'),
        sample(mask((2, 2)), mask(), 'b.png', class_name='normal')]
    evaluate(samples, data_root='/data', out_dir=str(tmp_path / 'out'))
    with open(tmp_path / 'out' / 'segmentation.csv', newline='') as file:
        first, second = csv.DictReader(file)
    assert first == {
        'path': 'images/a.png', 'class': 'benign', 'pixels': '20',
        'lesion': '4', 'predicted': '2', 'shared': '1', 'iou': '0.200000',
        'dice': '0.333333', 'precision': '0.500000', 'recall': '0.250000'}
    assert (second['class'], second['lesion'], second['predicted'],
            second['iou'], second['recall']) == ('normal', '0', '1', '', '')
    assert [path.name for path in (tmp_path / 'out').iterdir()
            ] == ['segmentation.csv']


@pytest.mark.parametrize(('change', 'message'), [
    (dict(pred_sem_seg=None), r'a.png lacks \[.pred_sem_seg'),
    (dict(gt_sem_seg=dict(data=mask(size=(4, 4))[None])),
     r'shape \(4, 5\), its label \(4, 4\)'),
    (dict(gt_sem_seg=dict(data=mask()[None] + 255)), r'0 and 1, got \[255'),
    (dict(pred_sem_seg=dict(data=torch.full((1, 4, 5), .5))), r'got \[0.5'),
    (dict(pred_sem_seg=dict(data=torch.zeros(2, 4, 5))), r'\(1, H, W\)')])
def test_bad_samples_are_named(change, message):
    bad = {**sample(mask(), mask()), **change}
    with pytest.raises(ValueError, match=message):
        BinarySegMetric().process(None, [bad])


test_bad_arguments = refuses(BinarySegMetric, [
    (dict(official_batch=0), 'at least 1, got 0'),
    (dict(official_size=(224, )), r'\(h, w\)'),
    (dict(official_size=(0, 224)), 'official_size .* got 0')])


def test_two_processes_equal_one(tmp_path):
    def evaluate_share(rank):
        samples = random_samples(7)
        # DefaultSampler's share of two processes, filled up with the first.
        metric = BinarySegMetric(official_batch=3)
        for index in [*range(rank, 7, 2), 0][:4]:
            metric.process(None, [samples[index]])
        return metric.evaluate(7)

    expected = evaluate(random_samples(7), official_batch=3)
    for values in evaluate_on_ranks(evaluate_share, tmp_path):
        assert {
            name.removeprefix('lesion/'): value
            for name, value in values.items()
        } == expected
