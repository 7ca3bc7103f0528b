"""Probes against naive references, chance, and planted classes."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import cosine_similarity

from mmmedmask.evaluation import probes
from mmmedmask.evaluation.classification_scores import bootstrap_scores


def planted(count, seed, strength, dims=12, classes=3):
    """Features whose first columns tell the class, and the classes."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    features = generator.normal(size=(count, dims))
    features[np.arange(count), labels] += strength
    return features, labels


def naive_votes(train, labels, test, classes, neighbors, temperature):
    rows = []
    for similar in cosine_similarity(test, train):
        nearest = np.argsort(-similar, kind='stable')[:neighbors]
        votes = np.bincount(labels[nearest], np.exp(
            similar[nearest] / temperature), classes)
        rows.append(votes / votes.sum())
    return np.array(rows)


@pytest.mark.parametrize('neighbors', [1, 5, 20, 500])
def test_neighbours_vote_as_a_loop_says(neighbors):
    train, labels = planted(40, 0, 1)
    test, _ = planted(9, 1, 1)
    scores = probes.knn_scores(train, labels, test, 3, neighbors, 0.07)
    naive = naive_votes(train, labels, test, 3, neighbors, 0.07)
    np.testing.assert_allclose(scores, naive, atol=1e-12)


def naive_shares(train, labels, test, classes, neighbors):
    """Walk down the distances; the last places are shared."""
    rows = []
    for similar in np.round(cosine_similarity(test, train), 6):
        votes, left = np.zeros(classes), neighbors
        for value in sorted(set(similar), reverse=True):
            tied = labels[similar == value]
            places = min(left, len(tied))
            for label in tied:
                votes[label] += np.exp(value / 0.07) * places / len(tied)
            left -= places
        rows.append(votes / votes.sum())
    return np.array(rows)


@pytest.mark.parametrize('kind', [np.float32, np.float64])
@pytest.mark.parametrize('distinct', [1, 7, 40])
def test_neighbours_as_far_as_the_last_share_its_places(kind, distinct):
    """Equal images have similarities that differ by roundings."""
    generator = np.random.default_rng(0)
    train, _ = planted(distinct, 0, 1, dims=385)
    train = np.tile(train, (-(-101 // distinct), 1)).astype(kind)
    labels = generator.integers(0, 3, len(train))
    test = np.concatenate([planted(9, 1, 1, dims=385)[0], train[:2]]).astype(
        kind)
    scores = probes.knn_scores(train, labels, test, 3, 20)
    np.testing.assert_allclose(
        scores, naive_shares(train, labels, test, 3, 20), atol=1e-4)
    order = generator.permutation(len(train))
    np.testing.assert_allclose(scores, probes.knn_scores(
        train[order], labels[order], test, 3, 20), atol=1e-5)


def test_planted_classes_are_seen_and_noise_is_chance():
    test, test_labels = planted(600, 1, 3)
    seen = probes.probe_images(*planted(300, 0, 3), test, test_labels, 3)
    blind = probes.probe_images(*planted(300, 0, 0), *planted(600, 1, 0), 3)
    assert [score.name for score in seen] == ['knn', 'logistic']
    for good, chance in zip(seen, blind, strict=True):
        assert good.value > 0.85
        assert chance.low < chance.floor == pytest.approx(1 / 3)
        assert chance.floor < chance.high
        assert good.low < good.value < good.high


def test_the_scale_of_a_feature_does_not_matter_to_the_logistic_probe():
    train, labels = planted(90, 0, 2)
    test, _ = planted(30, 1, 2)
    scale = np.logspace(-3, 3, train.shape[1])
    np.testing.assert_allclose(
        probes.logistic_scores(train * scale, labels, test * scale, 3),
        probes.logistic_scores(train, labels, test, 3), atol=1e-4)


def test_groups_are_kept_whole_in_choice_and_interval():
    features, labels = planted(60, 0, 0.5)
    groups = [str(place // 6) for place in range(60)]
    test, test_labels = planted(120, 1, 0.5)
    scores = probes.logistic_scores(features, labels, test, 3, groups)
    alone = probes.score_probe('logistic', test_labels, scores)
    together = probes.score_probe('logistic', test_labels, scores,
                                  [str(place // 12) for place in range(120)])
    assert alone.value == together.value
    assert (alone.low, alone.high) != (together.low, together.high)


def test_one_class_has_no_score(monkeypatch):
    lines = []
    monkeypatch.setattr(probes, 'log_warning', lines.append)
    scores = np.array([[.9, .1], [.8, .2], [.7, .3]])
    score = probes.score_probe('knn', np.zeros(3, int), scores)
    assert np.isnan([score.value, score.low, score.high]).all()
    assert 'all samples of the test set are of class 0' in lines[0]


def test_a_class_without_training_images_gets_no_probability():
    features, labels = planted(30, 0, 2, classes=2)
    scores = probes.logistic_scores(features, labels, features, 3)
    assert scores.shape == (30, 3)
    assert (scores[:, 2] == 0).all()


def pixels(images, seed, strength):
    generator = np.random.default_rng(seed)
    parts = []
    for _ in range(images):
        labels = generator.integers(0, 2, 80)
        features = generator.normal(size=(80, 4))
        features[:, 0] += strength * labels
        parts.append((features, labels))
    return parts


def test_dense_probe_is_the_auc_of_all_pixels():
    train, test = pixels(6, 0, 1.5), pixels(8, 1, 1.5)
    answers, = probes.dense_scores(train, test)
    labels = np.concatenate([row for _, row in test])
    *few, everything = probes.probe_pixels(train, test, (1, 5, 50, None))
    assert [score.name for score in few] == ['dense_1', 'dense_5']
    assert everything.value == pytest.approx(roc_auc_score(labels, answers))
    assert everything.low < everything.value < everything.high
    assert everything.value > 0.8 > everything.floor
    blind = probes.probe_pixels(pixels(6, 0, 0), pixels(8, 1, 0), (None, ))[0]
    assert blind.low < 0.5 < blind.high


def test_images_of_one_label_are_not_drawn_for_a_few():
    train = pixels(2, 0, 1)
    train.append((train[0][0], np.zeros(80, int)))
    assert len(probes.dense_scores(train, pixels(1, 1, 1), 2, draws=3)) == 3
    with pytest.raises(ValueError, match='both labels'):
        probes.dense_scores(train, pixels(1, 1, 1), 3)


def test_pixels_without_both_labels_cannot_be_probed():
    bare = [(np.zeros((80, 4)), np.zeros(80, int))]
    with pytest.raises(ValueError, match=r'labels \[0\] in 1 images'):
        probes.probe_pixels(bare, pixels(1, 1, 1))
    broken = [(np.full((80, 4), np.nan), np.arange(80) % 2)]
    with pytest.raises(ValueError, match='of test pixel 0 are not finite'):
        probes.probe_pixels(pixels(2, 0, 1), broken, (None, ))
    with pytest.raises(ValueError, match='0 to test on'):
        probes.probe_pixels(pixels(2, 0, 1), [])
    # What is tested on may lack one: the score is NaN then.
    score, = probes.probe_pixels(pixels(2, 0, 1), bare, (None, ))
    assert np.isnan(score.value)


def test_differences_are_paired_by_image():
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], 60)
    groups = [str(place // 4) for place in range(120)]
    first, second = (np.eye(2)[np.where(random.random(120) < share, labels,
                                        1 - labels)] for share in (.9, .6))
    pair = [probes.score_probe('knn', labels, answers, groups)
            for answers in (first, second)]
    difference, low, high = pair[0].less(pair[1])
    assert difference == pair[0].value - pair[1].value
    # The same patients are drawn for both, by hand.
    draws = [bootstrap_scores(labels, answers, 1000, groups=groups)[
        'balanced_accuracy'] for answers in (first, second)]
    assert (low, high) == tuple(np.quantile(draws[0] - draws[1],
                                            [.025, .975]))
    assert 0 < low < difference < high
    assert pair[0].less(pair[0]) == (0, 0, 0)
    dense = [probes.probe_pixels(pixels(6, seed, 1), pixels(8, 5, 1), (2, ))[0]
             for seed in (0, 1)]
    difference, low, high = dense[0].less(dense[1])
    assert low <= difference <= high
    none = probes.ProbeScore('knn', np.nan, np.nan, np.nan, .5)
    assert np.isnan(pair[0].less(none)).all()


@pytest.mark.parametrize(('train', 'labels', 'test', 'message'), [
    (np.zeros((3, 2)), np.zeros(3, int), np.zeros((1, 3)), 'shape'),
    (np.zeros((3, 2)), np.zeros(2, int), np.zeros((1, 2)), 'shape'),
    (np.zeros((0, 2)), np.zeros(0, int), np.zeros((1, 2)), 'shape'),
    (np.full((3, 2), np.nan), np.zeros(3, int), np.zeros((1, 2)),
     'training image 0'),
    (np.zeros((3, 2)), np.zeros(3, int), np.full((1, 2), np.inf),
     'test image 0')])
def test_what_cannot_be_probed_is_named(train, labels, test, message):
    for probe in (probes.knn_scores, probes.logistic_scores):
        with pytest.raises(ValueError, match=message):
            probe(train, labels, test, 2)
    with pytest.raises(ValueError, match='all 3 are of class 0'):
        probes.logistic_scores(
            np.ones((3, 2)), np.zeros(3, int), np.ones((1, 2)), 2)
