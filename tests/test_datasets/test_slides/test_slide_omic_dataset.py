"""The data set of slides and genes, and its pipeline."""

import json
import pickle
import re
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from slide_omic_files import draw_bag, draw_fpkm
from torch.utils.data import DataLoader

from mmmedmask.datasets import SlideOmicDataset
from mmmedmask.datasets.slides.feature_files import SlideFeatureError
from mmmedmask.datasets.slides.slide_features import SlideBag, SlideFeatures
from mmmedmask.datasets.transforms import (
    ContiguousSubsequence,
    GenerateSequenceMask,
    LoadSlideFeatures,
    PackSlideOmicInputs,
    RandomSubsample,
)
from mmmedmask.datasets.transforms.slide_bags import read_rows
from mmmedmask.engine.hooks import TransformEpochHook
from mmmedmask.functional.bags import places_known, slide_lengths
from mmmedmask.models.slide_omic import GeneScale
from mmmedmask.phantoms.slide_files import draw_genes, write_features
from mmmedmask.registry import DATASETS

DIMS = 6
GENES = draw_genes(40)
PATCHES = {'s1': 50, 's2': 30, 's3': 9, 's4': 70, 's5': 20}
CASES = [('p1', 's1', 'LUAD', 'train'), ('p1', 's2', 'LUAD', 'train'),
         ('p2', 's3', 'LUSC', 'train'), ('p3', 's4', 'LUAD', 'train'),
         ('p4', 's5', 'LUSC', 'val')]
PIPELINE = [dict(type='mmmedmask.LoadSlideFeatures'),
            dict(type='mmmedmask.ContiguousSubsequence', length=12),
            dict(type='mmmedmask.GenerateSequenceMask'),
            dict(type='mmmedmask.LoadExpression'),
            dict(type='mmmedmask.PackSlideOmicInputs')]
WHOLE = [PIPELINE[0], PIPELINE[3], PIPELINE[4]]


class Cohort:
    """Files of a small cohort on disk."""

    def __init__(self, root):
        self.root = root
        self.bags, self.coords = {}, {}
        for number, (slide, count) in enumerate(PATCHES.items()):
            self.bags[slide], self.coords[slide] = draw_bag(
                count, DIMS, number)
            layout = ('clam-h5', 'trident-h5')[number % 2]
            write_features(root / f'features/{slide}.h5', layout,
                           self.bags[slide], self.coords[slide])
        self.write_csv(CASES)
        self.fpkm = draw_fpkm(4, len(GENES))
        self.write_genes(['p1', 'p2', 'p3', 'p4'], self.fpkm)

    def write_csv(self, rows, header='case_id,slide_id,label,split'):
        lines = [header, *(','.join(row) for row in rows)]
        (self.root / 'cohort.csv').write_text('\n'.join(lines) + '\n')

    def write_genes(self, cases, values, genes=GENES, name='rna.tsv'):
        lines = ['\t'.join(['gene_id', *cases])]
        lines += ['\t'.join([gene, *map(str, column.tolist())])
                  for gene, column in zip(genes, values.T, strict=True)]
        (self.root / name).write_text('\n'.join(lines) + '\n')

    def build(self, **changes):
        config = dict(
            type='mmmedmask.SlideOmicDataset', ann_file='cohort.csv',
            data_root=str(self.root), split='train',
            feature_root='features', dims=DIMS,
            expression=dict(path='rna.tsv', unit='fpkm'), pipeline=PIPELINE)
        return DATASETS.build({**config, **changes})


@pytest.fixture
def cohort(tmp_path):
    return Cohort(tmp_path)


@pytest.fixture
def log_lines(monkeypatch):
    """What the data set tells the log."""
    texts = []
    monkeypatch.setattr(
        'mmmedmask.datasets.slides.slide_omic_dataset.print_log',
        lambda text, logger, level=20: texts.append(text))
    return texts


def logged(log_lines, text):
    return any(text in line for line in log_lines)


def all_of(dataset, key):
    """A fact of each sample."""
    return [dataset.get_data_info(place)[key] for place in range(len(dataset))]


class TestList:
    def test_samples(self, cohort):
        dataset = cohort.build()
        assert isinstance(dataset, SlideOmicDataset)
        assert dataset.metainfo['classes'] == ('LUAD', 'LUSC')
        info = dataset.get_data_info(0)
        for key, value in dict(
                case_id='p1', slide_ids=['s1', 's2'], slide_lengths=[50, 30],
                num_patches=80, dims=DIMS, gt_label=0, encoder=None).items():
            assert info[key] == value
        assert np.array_equal(info['expression'], cohort.fpkm[0])
        assert dataset.get_gt_labels().tolist() == [0, 1, 0]
        assert dataset.get_num_patches().tolist() == [80, 9, 70]
        assert dataset.get_cat_ids(1) == [1]
        assert dataset.gene_ids == tuple(GENES)
        # The list itself holds no arrays.
        dataset = cohort.build(serialize_data=False)
        for sample in dataset.data_list:
            assert len(pickle.dumps(sample)) < 1500
            assert sample['gene_row'] in (0, 1, 2)
            assert 'expression' not in sample

    def test_subset_keeps_its_genes(self, cohort):
        dataset = cohort.build()
        subset = dataset.get_subset([2, 1])
        assert subset.expression is dataset.expression
        assert np.array_equal(subset.get_data_info(0)['expression'],
                              cohort.fpkm[2])
        assert subset[0]['data_samples'].case_id == 'p3'
        assert len(cohort.build(indices=2)) == 2

    def test_splits(self, cohort, log_lines):
        assert len(cohort.build(split=None)) == 4
        assert len(cohort.build(split='val')) == 1
        with pytest.raises(ValueError, match="no case is in the split "
                           "'test'; there are {'train': 3, 'val': 1}"):
            cohort.build(split='test')
        (cohort.root / 'splits_0.csv').write_text(
            ',train,val,test\n0,p4,p1,p2\n')
        dataset = cohort.build(split_file='splits_0.csv')
        assert dataset.get_data_info(0)['case_id'] == 'p4'
        assert logged(log_lines,
                      '1 of 4 cases are in no split of splits_0.csv: p3')
        cohort.write_csv([row[:3] for row in CASES], 'case_id,slide_id,label')
        with pytest.raises(ValueError, match='no column split'):
            cohort.build()

    @pytest.mark.parametrize('split_file', [None, 'splits_0.csv'])
    def test_one_patient_in_two_splits(self, cohort, split_file):
        names = [f'TCGA-AA-0001-{kind}A' for kind in ('01', '11')]
        cohort.write_csv([(names[0], 's1', 'tumour', 'train'),
                          (names[1], 's2', 'normal', 'test')])
        (cohort.root / 'splits_0.csv').write_text(
            f',train,test\n0,{",".join(names)}\n')
        with pytest.raises(ValueError, match=(
                f'{split_file or "cohort.csv"}: TCGA-AA-0001 is in train as '
                f'{names[0]} and in test as {names[1]}')):
            cohort.build(split_file=split_file)

    def test_classes(self, cohort, log_lines):
        order, one = dict(classes=('LUSC', 'LUAD')), dict(classes=('LUAD', ))
        assert cohort.build(
            metainfo=order).get_gt_labels().tolist() == [1, 0, 1]
        assert logged(log_lines, 'fewer than 2 cases of LUSC')
        with pytest.raises(ValueError, match=r"\('LUAD',\): {'LUSC': 2}"):
            cohort.build(metainfo=one)
        assert len(cohort.build(metainfo=one, unlisted_labels='drop')) == 2

    def test_slides_as_samples(self, cohort):
        dataset = cohort.build(case_agg='separate')
        assert all_of(dataset, 'slide_ids') == [['s1'], ['s2'], ['s3'], ['s4']]
        assert all_of(dataset, 'gene_row') == [0, 0, 1, 2]
        assert dataset.fit_gene_scale()['num_cases'] == 3

    def test_one_modality(self, cohort):
        slides = cohort.build(modalities=['slides'], expression=None)
        assert slides.expression is None
        assert slides.gene_ids == ()
        assert slides[0]['inputs']['genes'] is None
        genes = cohort.build(modalities=['genes'], feature_root=None)
        inputs = genes[0]['inputs']
        assert {inputs[key] for key in ('patches', 'coords', 'mask')} == {None}
        assert torch.equal(inputs['genes'], torch.from_numpy(cohort.fpkm[0]))
        assert genes[0]['data_samples'].num_patches == 0

    def test_named_files(self, cohort):
        cohort.write_csv([('p1', 'any', 'LUAD', 'train', 'features/s4.h5')],
                         'case_id,slide_id,label,split,features_path')
        dataset = cohort.build(feature_root=None)
        assert dataset.get_data_info(0)['num_patches'] == 70
        cohort.write_csv(CASES)
        with pytest.raises(ValueError, match='s1 has no features_path: give '
                           'feature_root'):
            cohort.build(feature_root=None)

    @pytest.mark.parametrize(('changes', 'message'), [
        (dict(missing_slides='skip'), "missing_slides .*'skip'"),
        (dict(missing_genes='skip'), "missing_genes .*'skip'"),
        (dict(case_agg='mean'), "case_agg .*'mean'"),
        (dict(metainfo=dict(classes=[0, 1])), r"write '0', '1', got \[0, 1"),
        (dict(unlisted_labels='x'), "unlisted_labels .*'x'"),
        (dict(modalities='slides'), "modalities must be .*'slides'"),
        (dict(modalities=[]), r'modalities must be .*\[\]'),
        (dict(expression=None), 'expression must tell'),
        (dict(modalities=['genes'], case_agg='separate'), 'needs .slides.'),
        (dict(expression=dict(unit='tpm')), r"key path, got \['unit'\]")])
    def test_bad_arguments(self, cohort, changes, message):
        with pytest.raises(ValueError, match=message):
            cohort.build(**changes)

    @pytest.mark.parametrize('link', [Path.symlink_to, Path.hardlink_to])
    def test_one_file_of_two_patients(self, cohort, link):
        """By a link, and though they are in different splits."""
        link(cohort.root / 'features/a.h5', cohort.root / 'features/s1.h5')
        cohort.write_csv([('p1', 's1', 'LUAD', 'train'),
                          ('p2', 'a', 'LUSC', 'test')])
        with pytest.raises(ValueError, match='slide s1 of case p1 and slide a '
                           'of case p2 share the features'):
            cohort.build()


class TestMissing:
    def test_slides(self, cohort, log_lines):
        (cohort.root / 'features/s2.h5').unlink()
        (cohort.root / 'features/s3.h5').unlink()
        with pytest.raises(ValueError, match='2 slides have no file of '
                           'features: s2, s3; missing_slides='):
            cohort.build()
        dropped = cohort.build(missing_slides='drop')
        assert all_of(dropped, 'slide_ids') == [['s1'], ['s4']]
        assert logged(log_lines, '2 slides have no file of features: s2, s3')
        kept = cohort.build(missing_slides='keep')
        inputs = kept[1]['inputs']
        assert inputs['patches'] is None
        assert inputs['mask'] is None
        assert len(inputs['genes']) == 40

    @pytest.mark.parametrize(('size', 'places'), [
        ((0, DIMS), (0, 2)), ((0, DIMS), (0, )), ((0, 0), (0, 2)),
        ((0, ), (0, ))])
    def test_empty_slide(self, cohort, log_lines, size, places):
        """It is left out; a patient with no other one has none."""
        for slide in ('s2', 's3'):
            path = cohort.root / f'features/{slide}.h5'
            with h5py.File(path, 'w') as file:
                file.update(features=np.zeros(size, np.float32),
                            coords=np.zeros(places))
        assert SlideFeatures(path, dims=DIMS).read().shape == (0, DIMS)
        bag = SlideBag(list(map(SlideFeatures, (
            path, cohort.root / 'features/s1.h5'))))
        assert torch.equal(bag.take(torch.arange(50)),
                           torch.from_numpy(cohort.bags['s1']))
        assert list(map(len, bag.coords())) == [0, 50]
        with pytest.raises(ValueError, match='1 slides have no patch: s3; '
                           'missing_slides='):
            cohort.build()
        assert logged(log_lines, '1 slides have no patch, left out beside '
                      'others of their cases: s2')
        assert all_of(cohort.build(missing_slides='drop'),
                      'slide_lengths') == [[50], [70]]
        assert all_of(cohort.build(missing_slides='keep'),
                      'slide_lengths') == [[50], [], [70]]

    def test_case_without_slide_in_the_csv(self, cohort):
        cohort.write_csv([*CASES, ('p5', '', 'LUAD', 'train')])
        cohort.write_genes(['p1', 'p2', 'p3', 'p5'], cohort.fpkm)
        with pytest.raises(ValueError, match=r'p5 \(no slide in the csv\)'):
            cohort.build()

    def test_genes(self, cohort, log_lines):
        cohort.write_genes(['p1', 'p3', 'p4'], cohort.fpkm[[0, 2, 3]])
        with pytest.raises(ValueError, match='1 of 3 cases have no '
                           'expression: p2; .* has samples such as p1, p3, '
                           'p4; missing_genes='):
            cohort.build()
        dropped = cohort.build(missing_genes='drop')
        assert all_of(dropped, 'case_id') == ['p1', 'p3']
        assert logged(log_lines, '1 cases have no sample: p2')
        kept = cohort.build(missing_genes='keep')
        assert kept[1]['inputs']['genes'] is None
        assert kept[1]['inputs']['patches'] is not None
        assert np.array_equal(kept.get_data_info(2)['expression'],
                              cohort.fpkm[2])
        assert kept.fit_gene_scale()['num_cases'] == 2
        cohort.write_genes(['q1', 'p3', 'p4', 'q2', 'q3', 'q4', 'P 2'],
                           cohort.fpkm[[0, 2, 3, 1, 1, 1, 1]])
        with pytest.raises(ValueError, match='no expression: p1, p2; .* has '
                           'samples such as P 2; missing_genes='):
            cohort.build()

    def test_case_with_nothing(self, cohort, log_lines):
        cohort.write_genes(['p1', 'p3', 'p4'], cohort.fpkm[[0, 2, 3]])
        (cohort.root / 'features/s3.h5').unlink()
        dataset = cohort.build(missing_genes='keep', missing_slides='keep')
        assert len(dataset) == 2
        assert logged(log_lines,
                     'left out case p2, which has no slides and no genes')

    def test_scale_is_of_kept_training_cases(self, cohort):
        (cohort.root / 'features/s3.h5').unlink()
        dataset = cohort.build(missing_slides='drop')
        scale = dataset.fit_gene_scale()
        assert scale['num_cases'] == 2
        expected = np.log2(cohort.fpkm[[0, 2]].astype(np.float64) + 1)
        assert np.allclose(scale['mean'], expected.mean(0), atol=1e-5)
        with pytest.raises(ValueError, match="split 'val'.* test_mode"):
            cohort.build(split='val', test_mode=True).fit_gene_scale()
        with pytest.raises(ValueError, match='has no genes'):
            cohort.build(modalities=['slides'],
                         missing_slides='drop').fit_gene_scale()

    def test_gene_list(self, cohort):
        wanted = [*GENES[::-1][:20], 'ENSG00009999999.4']
        (cohort.root / 'genes.txt').write_text('\n'.join(wanted))
        for gene_list in (wanted, 'genes.txt'):
            dataset = cohort.build(gene_list=gene_list)
            row = dataset.get_data_info(0)['expression']
            assert np.array_equal(row[:20], cohort.fpkm[0, ::-1][:20])
            assert np.isnan(row[20])
        scale = GeneScale()
        scale.set(dataset.fit_gene_scale())
        assert scale(torch.from_numpy(row[None].copy()))[0, 20] == 0
        with pytest.raises(ValueError, match='more than max_missing=0.01'):
            cohort.build(gene_list=wanted, max_missing=0.01)

    def test_a_path_that_does_not_count_from_data_root(
            self, cohort, tmp_path_factory, monkeypatch):
        monkeypatch.chdir(tmp_path_factory.mktemp('working'))
        run = Path.cwd() / 'run'
        run.mkdir()
        (run / 'genes.txt').write_text('\n'.join(GENES))
        for option in ('gene_list', 'split_file', 'feature_root'):
            path = 'run' if option == 'feature_root' else 'run/genes.txt'
            with pytest.raises(FileNotFoundError, match=re.escape(
                    f'without it: write {str(Path.cwd() / path)!r}')):
                cohort.build(**{option: path}, split='train')
        assert len(cohort.build(gene_list=str(run / 'genes.txt')))

    def test_samples_of_barcodes(self, cohort):
        samples = ['TCGA-AA-0001-11A', 'TCGA-AA-0001-01A', 'p2', 'other']
        cohort.write_genes(samples, cohort.fpkm)
        cohort.write_csv([('TCGA-AA-0001', 's1', 'LUAD', 'train', ''),
                          ('p2', 's2', 'LUSC', 'train', ''),
                          ('p3', 's3', 'LUSC', 'train', 'other')],
                         'case_id,slide_id,label,split,rna_id')
        dataset = cohort.build()
        assert np.array_equal(all_of(dataset, 'expression'), cohort.fpkm[1:])
        assert dataset.get_data_info(2)['rna_id'] == 'other'

    def test_one_sample_of_two_patients(self, cohort):
        """Though they are in different splits."""
        cohort.write_csv([('p1', 's1', 'LUAD', 'train', 'p2'),
                          ('p2', 's2', 'LUSC', 'test', '')],
                         'case_id,slide_id,label,split,rna_id')
        with pytest.raises(ValueError, match='the cases p1 and p2 share the '
                           'sample p2'):
            cohort.build()

    def test_bad_features(self, cohort):
        with pytest.raises(SlideFeatureError, match='expected 1024'):
            cohort.build(dims=1024)
        write_features(cohort.root / 'features/s3.h5', 'trident-h5',
                       *draw_bag(9, 4), encoder='uni_v2')
        with pytest.raises(ValueError, match=r'size 6 \(encoder None\), '
                           r".*s3.h5 of size 4 \(encoder 'uni_v2'\)"):
            cohort.build(dims=None)

    @pytest.mark.parametrize('split', ['train', 'test'])
    @pytest.mark.parametrize(('encoder', 'weights', 'message'), [
        ('uni', 'a', r"s2.h5 .*\(encoder 'drawn'\), .*s4.h5 .*'uni', "
         r"weights 'a'\): a model takes one encoder"),
        ('drawn', 'b', "s3.h5 .* weights 'a'.*s4.h5 .* weights 'b'")])
    def test_features_of_two_encoders(self, cohort, encoder, weights, message,
                                      split):
        """Of one size, of two patients, or splits; s1 tells nothing."""
        cohort.write_csv([*CASES[:3], ('p3', 's5', 'LUAD', split),
                          ('p3', 's4', 'LUAD', split)])
        write_features(cohort.root / 'features/s5.h5', 'trident-h5',
                       *draw_bag(0, DIMS))
        for slide, name, text in (('s3', 'drawn', 'a'),
                                  ('s4', encoder, weights)):
            write_features(cohort.root / f'features/{slide}.h5', 'trident-h5',
                           *draw_bag(9, DIMS), encoder=name)
            with h5py.File(cohort.root / f'features/{slide}.h5', 'a') as file:
                file.attrs['mmmedmask_settings'] = json.dumps({
                    'weights': text})
        with pytest.raises(ValueError, match=message):
            cohort.build()
        with pytest.raises(ValueError, match='a model takes one encoder'):
            SlideBag([SlideFeatures(cohort.root / f'features/{slide}.h5')
                      for slide in ('s3', 's4')])

    @pytest.mark.parametrize(('key', 'values'), [
        ('mpp', (.5, .504, 2)), ('target_magnification', (20, 19.8, 5))])
    def test_tiles_of_two_resolutions(self, cohort, log_lines, key, values):
        for slide, value in zip(('s2', 's3', 's4'), values, strict=True):
            cohort.build()
            assert not logged(log_lines, 'different resolutions')
            with h5py.File(cohort.root / f'features/{slide}.h5', 'a') as file:
                file['coords'].attrs[key] = value
        cohort.build()
        assert logged(log_lines, 'different resolutions: 0.5 µm per pixel in '
                      f'{cohort.root}/features/s2.h5, 2 in ')

    def test_files_written_anew(self, cohort, lock_folder):
        dataset = cohort.build()
        cohort.write_genes(['p1', 'p2', 'p3', 'p4'], cohort.fpkm + 1)
        row = cohort.build().get_data_info(0)['expression']
        assert np.allclose(row, cohort.fpkm[0] + 1)
        cohort.write_genes(['p1', 'p2', 'p3', 'p4'], cohort.fpkm, name='r.tsv')
        listed = cohort.root / 'genes.txt'
        for genes in (GENES[:3], GENES[:2]):
            listed.write_text('\n'.join(genes))
            assert cohort.build(expression=dict(
                path='r.tsv', unit='fpkm', gene_list='genes.txt')
                ).gene_ids == tuple(genes)
        rows = cohort.root / 'rows'
        rows.mkdir()
        for value in (1.5, 2.5):
            for case in ('p1', 'p2', 'p3'):
                np.save(rows / f'{case}.npy', np.full(2, value, np.float32))
            row = cohort.build(expression=dict(
                path='rows', unit='fpkm', gene_list='genes.txt')
                ).get_data_info(0)['expression']
            assert row.tolist() == [value, value]
        (rows / 'locked').mkdir()
        lock_folder(rows / 'locked')
        with pytest.raises(PermissionError, match='locked'):
            cohort.build(expression=dict(
                path='rows', unit='fpkm', gene_list='genes.txt'))
        write_features(cohort.root / 'features/s3.h5', 'clam-h5',
                       *draw_bag(8, DIMS))
        with pytest.raises(ValueError, match='has 8 patches, it had 9'):
            dataset[1]


class TestWhole:
    @pytest.mark.parametrize('mode', ['lazy', 'all'])
    @pytest.mark.parametrize('cache', [None, 'cache'])
    def test_slides_one_behind_the_other(self, cohort, mode, cache):
        pipeline = [dict(WHOLE[0], slice=mode), *WHOLE[1:]]
        dataset = cohort.build(pipeline=pipeline,
                               cache_dir=cache and str(cohort.root / cache))
        packed = dataset[0]
        inputs = packed['inputs']
        patches = np.concatenate([cohort.bags['s1'], cohort.bags['s2']])
        if cache:
            patches = patches.astype(np.float16).astype(np.float32)
        assert np.array_equal(inputs['patches'], patches)
        assert inputs['coords'].dtype == torch.int64
        assert np.array_equal(inputs['coords'], np.concatenate(
            [cohort.coords['s1'], cohort.coords['s2'] + [1 << 32, 0]]))
        assert inputs['mask'] is None
        assert inputs['genes'].dtype == torch.float32
        sample = packed['data_samples']
        assert sample.gt_label.tolist() == [0]
        assert sample.slide_ids == ['s1', 's2']
        assert sample.slide_lengths == [50, 30]
        assert (sample.num_patches, sample.sample_idx) == (80, 0)
        assert sample.rna_id is None
        batch = pseudo_collate([packed, dataset[1]])['inputs']
        assert [len(bag) for bag in batch['patches']] == [80, 9]

    def test_no_coordinates_if_a_slide_has_none(self, cohort):
        """But where each slide ends."""
        write_features(cohort.root / 'features/s2.h5', 'npy',
                       cohort.bags['s2'])
        coords = cohort.build(pipeline=WHOLE)[0]['inputs']['coords']
        assert slide_lengths(coords) == [50, 30]
        assert not places_known(coords[:1])
        pipeline = [PIPELINE[0], dict(PIPELINE[1], order='hilbert'),
                    *PIPELINE[3:]]
        with pytest.raises(ValueError, match=r's2.h5 \(npy\) has no coord'):
            cohort.build(pipeline=pipeline)[0]

    def test_survival_goes_along(self, cohort):
        cohort.write_csv([('p1', 's1', 'LUAD', 'train', '3.5', '0')],
                         'case_id,slide_id,label,split,survival_months,'
                         'censorship')
        sample = cohort.build(pipeline=WHOLE)[0]['data_samples']
        assert (sample.survival_months, sample.censorship) == (3.5, 0)


def loaded_bag(tmp_path, num_patches, slides=1, sample_idx=0, dims=3):
    """A sample whose features tell their row."""
    opened = []
    for number in range(slides):
        path = tmp_path / f'{number}-{num_patches}.h5'
        if path.is_file():
            opened.append(SlideFeatures(path))
            continue
        rows = np.arange(num_patches) + number * num_patches
        features = np.repeat(rows[:, None], dims, 1).astype(np.float32)
        _, coords = draw_bag(num_patches, 1)
        opened.append(SlideFeatures(
            write_features(path, 'clam-h5', features, coords)))
    return dict(bag=SlideBag(opened), sample_idx=sample_idx, case_id='p')


def rows_of(results):
    return results['patches'][:, 0].long()


class TestSubsequence:
    """Check 20: runs of patches."""

    @pytest.mark.parametrize('slides', [1, 3])
    def test_contiguous_and_in_range(self, tmp_path, slides):
        transform = ContiguousSubsequence(length=20)
        starts = set()
        for sample_idx in range(60):
            results = transform(loaded_bag(tmp_path, 25, slides, sample_idx))
            rows = rows_of(results)
            assert len(rows) == results['unique_patches'] == 20
            assert (rows.diff() == 1).all()
            starts.add(int(rows[0]))
        # No run goes from one slide to the next.
        assert starts <= {25 * slide + start for slide in range(slides)
                          for start in range(6)}
        assert len(starts) > 2 * slides
        assert {start // 25 for start in starts} == set(range(slides))

    def test_short_bag_is_repeated_in_order(self, tmp_path):
        results = ContiguousSubsequence(length=23)(loaded_bag(tmp_path, 9))
        assert rows_of(results).tolist() == [*range(9), *range(9), *range(5)]
        assert results['unique_patches'] == 9
        assert torch.equal(results['coords'][:9], results['coords'][9:18])

    @pytest.mark.parametrize(('transform', 'key'), [
        (ContiguousSubsequence(length=5), 'patches'),
        (RandomSubsample(5), 'patches'), (GenerateSequenceMask(), 'mask')])
    def test_epoch_seed_and_sample(self, tmp_path, transform, key):
        def drawn(epoch, seed, sample_idx):
            transform.set_epoch(epoch, seed)
            results = transform(
                loaded_bag(tmp_path, 400, sample_idx=sample_idx))
            return tuple(results[key].flatten().tolist())

        assert len({drawn(*draw) for draw in (
            (0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0))}) == 4

    @pytest.mark.parametrize('mode', ['lazy', 'all'])
    def test_hilbert_runs_are_compact(self, tmp_path, mode):
        sample = loaded_bag(tmp_path, 1024)
        if mode == 'all':
            read_rows(sample)
        transform = ContiguousSubsequence(length=64, order='hilbert')
        results = transform(sample)
        cells = results['coords'] // 256
        # Neighbours in the run touch; a run in file order is two rows wide.
        assert (cells.diff(dim=0).abs().sum(1) == 1).all()
        extent = cells.max(0).values - cells.min(0).values + 1
        assert int(extent.max()) <= 24
        assert rows_of(results).unique().numel() == 64
        assert torch.equal(cells[:, 1] * 32 + cells[:, 0], rows_of(results))

    @pytest.mark.parametrize('mode', ['lazy', 'all'])
    def test_hilbert_stays_on_a_slide(self, tmp_path, mode):
        transform = ContiguousSubsequence(length=16, order='hilbert')
        drawn = set()
        for sample_idx in range(12):
            sample = loaded_bag(tmp_path, 16, 4, sample_idx)
            if mode == 'all':
                read_rows(sample)
            rows = rows_of(transform(sample))
            number = int(rows[0]) // 16
            assert sorted(rows.tolist()) == list(
                range(16 * number, 16 * number + 16))
            drawn.add(number)
        assert len(drawn) > 2

    def test_only_the_run_is_read(self, cohort):
        """Rows outside of the run are poisoned."""
        patches = cohort.build()[2]['inputs']['patches']
        features = cohort.bags['s4']
        start = int((features == patches[0].numpy()).all(1).argmax())
        with h5py.File(cohort.root / 'features/s4.h5', 'a') as file:
            file['features'][...] = np.nan
            file['features'][start:start + 12] = patches
        inputs = cohort.build()[2]['inputs']
        assert np.array_equal(inputs['patches'], features[start:start + 12])
        with pytest.raises(SlideFeatureError, match='58 of 70 rows'):
            cohort.build(pipeline=WHOLE)[2]

    @pytest.mark.parametrize(('make', 'message'), [
        (lambda: ContiguousSubsequence(length=0), 'length .* least 1, got 0'),
        (lambda: ContiguousSubsequence(order='z'), "order .*'z'"),
        (lambda: RandomSubsample(0), 'at least 1, got 0'),
        (lambda: LoadSlideFeatures(max_open=0), 'max_open .* got 0'),
        (lambda: LoadSlideFeatures('some'), "slice .*'some'")])
    def test_bad_arguments(self, make, message):
        with pytest.raises(ValueError, match=message):
            make()

    def test_needs_a_bag(self):
        with pytest.raises(KeyError, match='needs LoadSlideFeatures'):
            ContiguousSubsequence()(dict(sample_idx=0))


class TestMaskAndSubsample:
    def test_share_of_different_patches_is_exact(self, tmp_path):
        results = ContiguousSubsequence(length=100)(loaded_bag(tmp_path, 30))
        mask = GenerateSequenceMask(0.3)(results)['mask']
        assert (mask.dtype, mask.shape) == (torch.bool, (100, ))
        assert all(bool((mask[place::30] == mask[place]).all())
                   for place in range(30))
        assert int(mask[:30].sum()) == 9

    def test_mask_before_the_run_is_refused(self, cohort):
        pipeline = [PIPELINE[0], PIPELINE[2], PIPELINE[1], *PIPELINE[3:]]
        with pytest.raises(ValueError, match='mask is of 80 patches, there '
                           'are 12'):
            cohort.build(pipeline=pipeline)[0]

    def test_subsample(self, tmp_path):
        transform = RandomSubsample(12)
        results = transform(loaded_bag(tmp_path, 200))
        rows = rows_of(results)
        assert len(rows) == 12
        assert (rows.diff() > 0).all()
        assert torch.equal(results['coords'],
                           loaded_bag(tmp_path, 200)['bag'].coords()[0][rows])
        whole = transform(loaded_bag(tmp_path, 12))
        assert rows_of(whole).tolist() == list(range(12))
        with pytest.raises(ValueError, match='before ContiguousSubsequence'):
            transform(ContiguousSubsequence(9)(loaded_bag(tmp_path, 200)))

    def test_every_patch_is_as_likely(self, tmp_path):
        transform = RandomSubsample(5)
        counts = np.zeros(20)
        sample = loaded_bag(tmp_path, 20)
        for sample_idx in range(2000):
            sample['sample_idx'] = sample_idx
            counts[rows_of(transform(dict(sample)))] += 1
        # 500 each; the standard deviation is 19.4.
        assert np.abs(counts - 500).max() < 90


class TestWorkers:
    def test_same_for_0_2_and_4_workers(self, cohort):
        tensors = {}
        for workers in (0, 2, 4):
            dataset = cohort.build()
            loader = DataLoader(dataset, batch_size=2, num_workers=workers,
                                collate_fn=pseudo_collate,
                                persistent_workers=workers > 0)
            hook = TransformEpochHook()
            runs = []
            for epoch in range(2):
                hook.before_train_epoch(SimpleNamespace(
                    train_dataloader=loader, epoch=epoch, seed=5))
                for batch in loader:
                    runs += [tensor for key in ('patches', 'mask')
                             for tensor in batch['inputs'][key]]
            tensors[workers] = runs
        assert len(tensors[0]) == 12
        for workers in (2, 4):
            assert all(map(torch.equal, tensors[0], tensors[workers]))
        # The second epoch draws anew.
        assert not torch.equal(tensors[0][0], tensors[0][6])

    def test_pickles_without_handles(self, cohort):
        dataset = cohort.build()
        first = dataset[0]['inputs']['patches']
        loader = dataset.pipeline.transforms[0]
        assert len(loader._slides) == 2
        copy = pickle.loads(pickle.dumps(dataset))
        assert len(copy.pipeline.transforms[0]._slides) == 0
        assert torch.equal(copy[0]['inputs']['patches'], first)

    def test_few_files_stay_open(self, cohort):
        pipeline = [dict(PIPELINE[0], max_open=1), *PIPELINE[1:]]
        dataset = cohort.build(pipeline=pipeline)
        for _ in range(2):
            for place in range(3):
                dataset[place]
        assert len(dataset.pipeline.transforms[0]._slides) == 1


class TestPack:
    def test_meta_keys(self):
        with pytest.raises(KeyError, match=r"\['case_id', 'slide_ids', "):
            PackSlideOmicInputs()(dict(sample_idx=0))

    @pytest.mark.parametrize(('changes', 'loads'), [
        ({}, True), (dict(pipeline=WHOLE[1:]), False),
        (dict(modalities=['genes'], pipeline=WHOLE), False)])
    def test_it_tells_a_pipeline_without_slides(self, cohort, changes, loads):
        """From a patient who has none, such as the second one here."""
        (cohort.root / 'features/s3.h5').unlink()
        dataset = cohort.build(missing_slides='keep', **changes)
        samples = [dataset[place] for place in range(len(dataset))]
        assert samples[1]['inputs']['patches'] is None
        assert {sample['data_samples'].loads_slides
                for sample in samples} == {loads}

    def test_representations(self):
        for transform, shown in (
                (ContiguousSubsequence(), "length=6000, order='file', "
                 'seed=None'),
                (GenerateSequenceMask(seed=2), 'ratio=0.5, seed=2'),
                (LoadSlideFeatures(), "slice='lazy', max_open=16"),
                (RandomSubsample(3), 'max_patches=3, seed=None')):
            assert repr(transform) == f'{type(transform).__name__}({shown})'

    def test_genes_are_a_copy(self, cohort):
        dataset = cohort.build(pipeline=WHOLE)
        dataset[0]['inputs']['genes'].zero_()
        assert torch.equal(dataset[0]['inputs']['genes'],
                           torch.from_numpy(cohort.fpkm[0]))
