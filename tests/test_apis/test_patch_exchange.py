"""Exchanged patches show which places of a file a model reads."""

import weakref

import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample
from torch import nn

from mmmedmask.apis.patch_exchange import _draw_others, exchange_patches
from mmmedmask.models.slide_omic import SlideOmicDataPreprocessor


class ReadsPlaces(nn.Module):
    """Answers by the mean of some rows of the bag."""

    def __init__(self, rows):
        super().__init__()
        self.rows = rows
        self.aggregator = nn.Identity()
        self.data_preprocessor = SlideOmicDataPreprocessor()

    def predict(self, inputs):
        score = (10 * inputs['patches'][0, self.rows].mean()).sigmoid()
        sample = DataSample()
        sample.set_pred_score(torch.stack([1 - score, score]))
        return [sample]


def patients(counts=(40, 60, 44, 52)):
    """The class is in all patches, as a sign."""
    return [dict(inputs=dict(patches=torch.full((count, 2), 2. * (i % 2) - 1),
                             coords=None),
                 data_samples=DataSample(
                     metainfo=dict(case_id=f'p{i}')).set_gt_label(i % 2))
            for i, count in enumerate(counts)]


def test_only_the_place_that_is_read_turns_the_answer():
    curve = exchange_patches(
        ReadsPlaces(slice(0, 8)), patients(), block=8, places=5)
    assert curve.places.tolist() == [0, .25, .5, .75, 1]
    assert curve.untouched_auc == 1
    assert curve.auc.tolist() == [0, 1, 1, 1, 1]
    np.testing.assert_allclose(curve.change, [-1, 0, 0, 0, 0], atol=1e-3)


def test_a_model_that_reads_all_patches_has_a_flat_curve():
    curve = exchange_patches(
        ReadsPlaces(slice(None)), patients(), block=8, places=5)
    assert curve.auc.tolist() == [1] * 5
    assert np.ptp(curve.change) < 1e-6


def test_few_bags_are_in_memory_at_once():
    class Cohort:
        bags, most = [], 0

        def __len__(self):
            return 12

        def __getitem__(self, place):
            sample = patients([40 + place] * (place + 1))[-1]
            self.bags.append(weakref.ref(sample['inputs']['patches']))
            self.most = max(self.most, sum(
                bag() is not None for bag in self.bags))
            return sample

    cohort = Cohort()
    curve = exchange_patches(ReadsPlaces(slice(0, 8)), cohort, 8, 5)
    assert curve.auc.tolist() == [0, 1, 1, 1, 1]
    assert cohort.most <= 3


def test_a_list_sorted_by_class_has_many_givers():
    labels = np.array([0] * 4 + [1] * 8)
    others = _draw_others(labels, seed=0)
    assert (labels[others] != labels).all()
    assert sorted(np.bincount(others[4:], minlength=4)) == [2] * 4
    assert len(set(others[:4])) == 4


def test_a_model_in_training_mode_answers_as_one_at_rest():
    class Drops(ReadsPlaces):
        def predict(self, inputs):
            dropped = nn.functional.dropout(
                inputs['patches'], training=self.training)
            return super().predict(dict(inputs, patches=dropped))

    curves = []
    for training in (True, False):
        model = Drops(slice(0, 8)).train(training)
        curves.append(exchange_patches(model, patients(), block=8, places=3))
        assert model.training == training
    np.testing.assert_array_equal(curves[0].change, curves[1].change)


@pytest.mark.parametrize(('change', 'message'), [
    (dict(block=0), 'block must be at least 1, got 0'),
    (dict(places=1), 'places must be at least 2, got 1'),
    (dict(block=41), 'block = 41 patches, p0 has 40'),
    (dict(samples=patients()[::2]), r'two classes are needed, got labels'),
    (dict(model=nn.Identity()), 'classifier of bags, .* Identity is not')])
def test_bad_input_is_refused_by_value(change, message):
    with pytest.raises(ValueError, match=message):
        exchange_patches(**dict(model=ReadsPlaces(slice(0, 8)),
                                samples=patients()) | change)
