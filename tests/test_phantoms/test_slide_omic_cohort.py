"""Cohort phantoms: the planted part tells the class, the rest does not."""

import csv
import math

import numpy as np
import pandas as pd
import pytest

from mmmedmask.datasets import SlideOmicDataset
from mmmedmask.datasets.slides.cohort import read_cohort
from mmmedmask.datasets.slides.slide_features import SlideFeatures
from mmmedmask.phantoms.slide_omic_cohort import (
    COHORT_CLASSES,
    read_cohort_truth,
    write_slide_omic_cohort,
)
from mmmedmask.phantoms.slide_omic_drawing import (
    PATCH_SIZE,
    draw_bag,
    draw_expression,
    draw_expression_style,
    draw_slide_style,
)

SEEDS = range(6)
STYLE = draw_slide_style(2, 16, np.random.default_rng(0))
GENES = draw_expression_style(100, 2, 4, 5, np.random.default_rng(0))


def rng(seed=0):
    return np.random.default_rng(seed)


def files(root):
    return {path.relative_to(root).as_posix(): path.read_bytes()
            for path in sorted(root.rglob('*')) if path.is_file()}


def read_rows(root):
    with open(root / 'cohort.csv', encoding='utf-8') as file:
        return list(csv.DictReader(file))


class TestSlide:
    def test_classes_differ_in_the_region_and_not_in_the_mean(self):
        for seed in SEEDS:
            first, second = (draw_bag(STYLE, label, 200, rng(seed))
                             for label in (0, 1))
            np.testing.assert_array_equal(first.region, second.region)
            np.testing.assert_array_equal(first.coords, second.coords)
            step = (first.features - second.features).astype(float)
            for slide in (first, second):
                np.testing.assert_allclose(
                    slide.features.mean(axis=0), 0, atol=1e-5)
            # What all patches have lost is the same.
            outside = step[~first.region]
            np.testing.assert_allclose(outside, outside[:1].repeat(190, 0),
                                       atol=1e-5)
            step = step[first.region] - outside[0]
            # By one vector, of 3 to 5 deviations along each direction.
            np.testing.assert_allclose(step, step[:1].repeat(10, 0), atol=1e-5)
            along = step[0] @ (STYLE.class_directions[0]
                               - STYLE.class_directions[1]) / 2
            assert 3 <= along <= 5
            assert np.linalg.norm(step[0]) == pytest.approx(
                along * 2**0.5, rel=1e-5)

    @pytest.mark.parametrize(('num_patches', 'share', 'expected'), [
        (200, 0.05, 10), (199, 0.05, 10), (300, 0.1, 30), (5, 0.05, 1)])
    def test_regions_are_compact_and_apart(self, num_patches, share, expected):
        for seed in SEEDS:
            slide = draw_bag(STYLE, 0, num_patches, rng(seed), share)
            assert slide.region.sum() == expected
            assert slide.distractor.sum() == expected
            assert not (slide.region & slide.distractor).any()
            cells = slide.coords[slide.region] / PATCH_SIZE
            # A disc of this area, with two cells to spare.
            widest = 2 * (expected / np.pi)**0.5 + 2
            assert np.ptp(cells, axis=0).max() <= widest

    def test_distractor_is_the_same_for_all_classes(self):
        moved = []
        for seed in range(40):
            slide = draw_bag(STYLE, seed % 2, 200, rng(seed), 0.05, 8.0)
            moved.append(slide.features[slide.distractor].mean(axis=0))
        mean = np.mean(moved, axis=0)
        assert mean @ STYLE.distractor == pytest.approx(8, abs=1)
        assert np.abs(STYLE.class_directions @ mean).max() < 1

    def test_coordinates_are_a_grid_row_by_row(self):
        slide = draw_bag(STYLE, 0, 150, rng())
        assert slide.coords.dtype == np.int64
        assert (slide.coords % PATCH_SIZE == 0).all()
        assert slide.coords.min(axis=0).tolist() == [0, 0]
        order = np.lexsort(slide.coords.T)
        np.testing.assert_array_equal(order, np.arange(150))
        assert len(np.unique(slide.coords, axis=0)) == 150

    @pytest.mark.parametrize('smoothness', [0.0, 0.6, 0.9])
    def test_neighbours_are_alike(self, smoothness):
        """The smooth part, 0.8 of the variance, is AR(1) on the grid."""
        beside, below = [], []
        for seed in range(30):
            slide = draw_bag(STYLE, 0, 400, rng(seed), 0.01, 0.0, smoothness)
            at = {tuple(cell): place for place, cell in enumerate(
                (slide.coords // PATCH_SIZE).tolist())}
            for steps, right, down in ((beside, 1, 0), (below, 0, 1)):
                pairs = np.array([(place, at[x + right, y + down])
                                  for (x, y), place in at.items()
                                  if (x + right, y + down) in at])
                steps.append(slide.features[pairs[:, 0]]
                             - slide.features[pairs[:, 1]])
        for steps in (beside, below):
            assert np.concatenate(steps).var() / 2 == pytest.approx(
                1 - 0.8 * smoothness, abs=0.12)

    @pytest.mark.parametrize(('changes', 'message'), [
        (dict(label=2), r'label must be in \[0, 1\], got 2'),
        (dict(num_patches=0), 'num_patches .* got 0'),
        (dict(share=0), r'share must be in \(0, 0.25\], got 0'),
        (dict(share=0.3), 'share .* got 0.3'),
        (dict(smoothness=1), 'smoothness .* got 1')])
    def test_bad_arguments(self, changes, message):
        with pytest.raises(ValueError, match=message):
            draw_bag(**{**dict(style=STYLE, label=0, num_patches=9,
                               rng=rng()), **changes})

    def test_bad_style(self):
        with pytest.raises(ValueError, match='num_classes .* got 1'):
            draw_slide_style(1, 8, rng())
        with pytest.raises(ValueError, match='dims must be at least 4, got 3'):
            draw_slide_style(3, 3, rng())


class TestExpression:
    def test_classes_differ_in_planted_genes_alone(self):
        planted = GENES.pathways[:4]
        for seed in SEEDS:
            first, second = (draw_expression(GENES, label, rng(seed))
                          for label in (0, 1))
            assert set((first != second).nonzero()[0]) <= set(planted.ravel())
            higher = first > second
            assert higher[planted[::2]].all()
            assert not higher[planted[1::2]].any()
        assert len(np.unique(GENES.pathways)) == 40

    def test_signal_and_modules(self):
        values = np.log2(1 + np.stack([
            draw_expression(GENES, 0, rng(seed), 1.5) for seed in range(400)]))
        means = values.mean(axis=0)
        shift = means - GENES.mean
        assert shift[GENES.pathways[:4:2]] == pytest.approx(1.5, abs=0.2)
        assert shift[GENES.pathways[1:4:2]] == pytest.approx(0, abs=0.2)
        inside = np.corrcoef(values[:, GENES.pathways[5]].T)
        across = np.corrcoef(values[:, GENES.pathways[4:, 0]].T)
        upper = np.triu_indices(4, 1)
        assert inside[np.triu_indices(5, 1)].mean() > 0.2
        assert np.abs(across[upper]).mean() < 0.1

    @pytest.mark.parametrize(('arguments', 'message'), [
        ((100, 3, 2, 5), 'num_pathways .* 3, got 2'),
        ((39, 2, 4, 5), 'num_genes .* 40, got 39'),
        ((39, 2, 4, 0), 'pathway_size must be .* got 0')])
    def test_bad_arguments(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            draw_expression_style(*arguments, rng())


class TestCohort:
    def test_same_seed_same_bytes(self, tmp_path):
        sizes = dict(num_cases=6, patches=(20, 30), num_genes=60)
        for name in ('one', 'two'):
            write_slide_omic_cohort(tmp_path / name, **sizes)
        write_slide_omic_cohort(tmp_path / 'other', **sizes, seed=1)
        first, two, other = (files(tmp_path / name)
                           for name in ('one', 'two', 'other'))
        assert first == two
        assert first.keys() == other.keys()
        assert not any(first[name] == other[name] for name in first)

    def test_larger_cohort_begins_with_the_smaller(self, tmp_path):
        for number in (5, 9):
            write_slide_omic_cohort(tmp_path / str(number), number,
                                    patches=(20, 30), num_genes=60)
        small, large = (files(tmp_path / name) for name in '59')
        slides = [name for name in small if name.startswith('features')]
        assert len(slides) == 5
        assert all(small[name] == large[name] for name in slides)
        rows = read_rows(tmp_path / '5')
        assert rows == read_rows(tmp_path / '9')[:5]
        tables = [pd.read_csv(tmp_path / name / 'expression.tsv', sep='\t')
                  for name in '59']
        assert tables[0].equals(tables[1].iloc[:, :6])

    @pytest.mark.parametrize('layout', ['clam-h5', 'trident-h5', 'npy'])
    def test_data_set_reads_it(self, tmp_path, layout):
        root = write_slide_omic_cohort(
            tmp_path, 10, patches=(20, 30), dims=8, num_genes=60,
            slides_per_case=(1, 3), layout=layout)
        truth = read_cohort_truth(root)
        lengths = {}
        for split, expected in (('train', 6), ('val', 2), ('test', 2)):
            dataset = SlideOmicDataset(
                'cohort.csv', str(root), split=split, dims=8,
                feature_root='features',
                expression=dict(path='expression.tsv', unit='fpkm'))
            assert len(dataset) == expected
            assert dataset.metainfo['classes'] == COHORT_CLASSES
            assert sorted(dataset.get_gt_labels()) == sorted(
                [0, 1] * (expected // 2))
            assert len(dataset.gene_ids) == 60
            assert set().union(*truth.pathways.values()) < set(
                dataset.gene_ids)
            for place in range(len(dataset)):
                info = dataset.get_data_info(place)
                assert truth.labels[info['case_id']] == COHORT_CLASSES[
                    info['gt_label']]
                lengths |= {slide['slide_id']: slide['num_patches']
                            for slide in info['slides']}
        assert lengths.keys() == truth.regions.keys()
        assert len(lengths) > 10
        assert all(20 <= length <= 30 for length in lengths.values())
        for slide, length in lengths.items():
            region = truth.region(slide, length)
            assert region.sum() == len(truth.regions[slide]) >= 1
            assert max(truth.distractors[slide]) < length

    def test_truth_is_where_the_features_say(self, tmp_path):
        root = write_slide_omic_cohort(
            tmp_path, 4, patches=(150, 200), slide_signal=40.0)
        truth = read_cohort_truth(root)
        means = {}
        for case in read_cohort(root / 'cohort.csv'):
            slide = case.slides[0].slide_id
            features = SlideFeatures(root / f'features/{slide}.h5').read()
            size = features.norm(dim=1).numpy()
            region = truth.region(slide, len(size))
            high = size > 15
            assert high[region].all()
            assert high.sum() == 2 * region.sum()
            assert high[truth.distractors[slide]].all()
            means.setdefault(case.label, []).append(
                features[region].mean(dim=0))
        (one, two), (three, four) = means.values()
        assert one @ two > 800
        assert three @ four > 800
        assert abs(one @ three) < 400

    def test_silent_slides_have_nothing_planted(self, tmp_path):
        sizes = dict(num_cases=60, patches=(30, 40), slide_signal=40.0,
                     num_genes=60)
        plain = files(write_slide_omic_cohort(tmp_path / 'plain', **sizes))
        root = write_slide_omic_cohort(
            tmp_path / 'silent', **sizes, silent_share=0.3)
        truth = read_cohort_truth(root)
        silent = {slide for slide, rows in truth.regions.items() if not rows}
        # A binomial's mean of 18 and three of its deviations of 3.5.
        assert 8 <= len(silent) <= 28
        for label in COHORT_CLASSES:
            # In all classes, not in one.
            assert sum(truth.labels[slide[:9]] == label
                       for slide in silent) >= 2
        assert not any(truth.distractors[slide] for slide in silent)
        for name, content in files(root).items():
            slide = name.removeprefix('features/').removesuffix('.h5')
            if slide in silent:
                features = SlideFeatures(root / name).read()
                assert features.norm(dim=1).max() < 15
            elif name != 'truth.json':
                assert content == plain[name], name

    def test_silent_share_outside_its_range_fails(self, tmp_path):
        with pytest.raises(ValueError, match=r'silent_share must be in '
                                             r'\[0, 1\], got 1.5'):
            write_slide_omic_cohort(tmp_path, silent_share=1.5)

    def test_options(self, tmp_path):
        root = write_slide_omic_cohort(
            tmp_path, 12, classes=('x', 'y', 'z'), patches=(5, 6),
            num_genes=60, cases_without_genes=3, cases_without_slides=2)
        rows = read_rows(root)
        assert [row['label'] for row in rows] == list('xyz' * 4)
        assert {row['site'] for row in rows} <= {
            f'site_{number}' for number in range(5)}
        blank = {row['case_id'] for row in rows if not row['slide_id']}
        with open(root / 'expression.tsv', encoding='utf-8') as file:
            present = set(file.readline().split()[1:])
        absent = {row['case_id'] for row in rows} - present
        assert len(blank) == 2
        assert len(absent) == 3
        assert not blank & absent
        assert len(list((root / 'features').iterdir())) == 10
        assert {row['split'] for row in rows if row['label'] == 'x'} == {
            'train', 'val', 'test'}

    def test_survival_follows_the_class(self, tmp_path):
        root = write_slide_omic_cohort(
            tmp_path, 200, patches=(1, 2), num_genes=40)
        cases = read_cohort(root / 'cohort.csv')
        rates = []
        for name in COHORT_CLASSES:
            group = [case for case in cases if case.label == name]
            deaths = sum(case.censorship == 0 for case in group)
            rates.append(deaths / sum(case.survival_months for case in group))
            assert 0.3 * len(group) < deaths < len(group)
        # Means of 20 and 40 months.
        assert 1.4 < rates[0] / rates[1] < 2.8

    def test_gene_sets_file(self, tmp_path):
        root = write_slide_omic_cohort(
            tmp_path, 4, patches=(2, 3), num_genes=60, num_pathways=3,
            pathway_size=4)
        truth = read_cohort_truth(root)
        sets = {}
        for line in (root / 'pathways.gmt').read_text().splitlines():
            name, _, *genes = line.split('\t')
            sets[name] = genes
        assert list(sets) == ['planted_0', 'planted_1', 'planted_2',
                              'other_0', 'other_1', 'other_2']
        assert truth.pathways == {name: sets[name] for name in list(sets)[:3]}
        assert truth.pathway_classes == {
            'planted_0': 'class_a', 'planted_1': 'class_b',
            'planted_2': 'class_a'}
        assert len(set().union(*truth.pathways.values())) == 12

    @pytest.mark.parametrize(('changes', 'message'), [
        (dict(num_cases=1), 'num_cases must be at least 2, got 1'),
        (dict(classes=('a', )), r"two different names, got \('a',\)"),
        (dict(classes=('a', 'a')), 'two different names'),
        (dict(patches=(0, 4)), r'patches \(0, 4\) must be .* got 0'),
        (dict(slides_per_case=(2, 1)), r'slides_per_case .* \(2, 1\)'),
        (dict(cases_without_genes=3, cases_without_slides=2),
         'at most 4, got 3 and 2'),
        (dict(cases_without_genes=-1), 'got -1 and 0'),
        (dict(split_shares=(0.5, 0.5)), r'3 numbers, got \(0.5, 0.5\)'),
        (dict(split_shares=(0.5, 0.5, math.nan)), 'at least 0, got nan'),
        (dict(split_shares=(0.5, 0.5, 0.5)), 'the sum 1')])
    def test_bad_arguments(self, tmp_path, changes, message):
        with pytest.raises(ValueError, match=message):
            write_slide_omic_cohort(tmp_path, **{'num_cases': 4, **changes})
        assert not list(tmp_path.iterdir())
