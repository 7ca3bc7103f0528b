"""From files on disk to batches: real files, and files that are wrong.

What each reader does by itself is tested beside it; here a whole cohort goes
through the data set, its pipeline and the workers of a loader.
"""

import gzip
import os
import re
import shutil

import h5py
import numpy as np
import pytest
from mmengine.dataset import pseudo_collate
from slide_omic_files import there
from torch.utils.data import DataLoader

from mmmedmask.datasets import SlideOmicDataset
from mmmedmask.functional.bags import places_known
from mmmedmask.phantoms.slide_omic_cohort import write_slide_omic_cohort

PIPELINE = [dict(type='mmmedmask.LoadSlideFeatures'),
            dict(type='mmmedmask.LoadExpression'),
            dict(type='mmmedmask.PackSlideOmicInputs')]
SLIDE = 'features/case_0002_slide_1.h5'


def build(root, **changes):
    config = dict(ann_file='cohort.csv', data_root=str(root), dims=8,
                  feature_root='features', pipeline=PIPELINE,
                  expression=dict(path='expression.tsv', unit='fpkm'))
    return SlideOmicDataset(**{**config, **changes})


def load(root, workers=0, **changes):
    """Go through all samples with a loader."""
    loader = DataLoader(build(root, **changes), batch_size=2,
                        num_workers=workers, collate_fn=pseudo_collate)
    return [sample for batch in loader for sample in batch['data_samples']]


@pytest.fixture
def cohort(tmp_path):
    return write_slide_omic_cohort(
        tmp_path / 'cohort', 6, patches=(20, 30), dims=8, num_genes=60)


class TestBadInput:
    def test_truncated_while_it_is_used(self, cohort):
        dataset = build(cohort)
        assert len(dataset) == 6
        os.truncate(cohort / SLIDE, 900)
        with pytest.raises(ValueError, match='case_0002_slide_1.h5 is trunc'):
            dataset[2]

    def test_nan_in_a_feature(self, cohort):
        with h5py.File(cohort / SLIDE, 'a') as file:
            file['features'][7, 3] = np.nan
        with pytest.raises(ValueError, match='case_0002_slide_1.h5 has NaN '
                           r'or infinite features in 1 of \d+ rows read, '
                           'the first are rows 7'):
            load(cohort, workers=1)

    @pytest.mark.parametrize(('listed', 'written'), [
        ('{}', '{}.F6E9A5DF-D8FB'), ('{}.F6E9A5DF-D8FB.svs', '{}'),
        ('{}-b', '{} B')])
    def test_long_id_or_sign_on_one_side_alone(self, cohort, listed, written):
        """TCGA's names of slides, as tables and tools have them."""
        name = 'case_0002_slide_1'
        path = cohort / 'cohort.csv'
        path.write_text(path.read_text().replace(name, listed.format(name)))
        (cohort / SLIDE).rename(
            cohort / 'features' / f'{written.format(name)}.h5')
        with pytest.raises(ValueError, match='1 slides have no file of '
                           r'features: .*; .*features has '
                           rf'{re.escape(written.format(name))}: is it'):
            load(cohort)


class TestRealFiles:
    def test_genes_and_folds_of_porpoise(self, data_root):
        root = there(data_root / 'tcga_porpoise')
        table = str(root / 'datasets_csv_mutsig/tcga_brca_all_clean.csv.zip')
        counts, cases = {}, set()
        for split in ('train', 'val'):
            dataset = SlideOmicDataset(
                table, split=split, modalities=['genes'],
                split_file=str(root / 'splits/5foldcv/tcga_brca/splits_0.csv'),
                label_column='oncotree_code', unlisted_labels='drop',
                metainfo=dict(classes=('IDC', 'ILC')),
                expression=dict(path=table), pipeline=PIPELINE)
            counts[split] = np.bincount(dataset.get_gt_labels()).tolist()
            assert dataset[0]['inputs']['genes'].shape == (1558, )
            cases |= {dataset.get_data_info(place)['case_id']
                      for place in range(len(dataset))}
            if split == 'train':
                assert dataset.fit_gene_scale()['num_cases'] == 717
        assert counts == {'train': [590, 127], 'val': [147, 31]}
        assert len(cases) == 895

    def test_cohorts_scored_apart_are_refused(self, data_root):
        """LUAD against LUSC would be a question of constants."""
        folder = there(data_root / 'tcga_porpoise') / 'datasets_csv_mutsig'
        tables = [str(folder / f'tcga_{name}_all_clean.csv.zip')
                  for name in ('luad', 'lusc')]
        with pytest.raises(ValueError, match='z-scored each by itself'):
            SlideOmicDataset(
                tables[0], label_column='oncotree_code',
                modalities=['genes'], expression=dict(path=tables))

    def test_classes_from_several_tables(self, data_root, tmp_path):
        kinds = ('CHOL', 'UCS')
        tables = [there(data_root / f'tcga_counts/TCGA_{kind}_Counts.exp.gz')
                  for kind in kinds]
        rows = ['case_id,slide_id,label']
        for kind, table in zip(kinds, tables, strict=True):
            with gzip.open(table, 'rt') as file:
                names = next(file).rstrip('\n').split('\t')
            rows += [f'{name[:12]},,{kind}' for name in names
                     if name.startswith('TCGA')]
        (tmp_path / 'cohort.csv').write_text('\n'.join(rows) + '\n')
        dataset = build(
            tmp_path, modalities=['genes'], feature_root=None,
            expression=dict(path=list(map(str, tables)), convert='cpm'))
        assert np.bincount(dataset.get_gt_labels()).tolist() == [36, 56]
        genes = dataset[40]['inputs']['genes']
        assert genes.shape == (56_537, )
        assert float(genes.double().sum()) == pytest.approx(1e6)

    def test_two_patients_one_without_genes(self, data_root, tmp_path):
        """One has real features and counts, the other features alone."""
        counts = there(data_root / 'tcga_counts/TCGA_CHOL_Counts.exp.gz')
        with gzip.open(counts, 'rt') as file:
            lines = [next(file) for _ in range(801)]
        (tmp_path / 'rna.tsv').write_text(''.join(lines))
        rows = ['case_id,slide_id,label']
        for case, label in (('TCGA-3X-AAVA', 'CHOL'),
                            ('TCGA-AD-6964', 'COAD')):
            slide = f'{case}-01Z-00-DX1'
            rows.append(f'{case},{slide}.svs,{label}')
            (tmp_path / 'features').mkdir(exist_ok=True)
            shutil.copy(
                there(data_root / 'wsi/mopadi_example_data' / slide
                       / 'features.h5'),
                tmp_path / f'features/{slide}.h5')
        (tmp_path / 'cohort.csv').write_text('\n'.join(rows) + '\n')
        source = dict(dims=512, expression=dict(path='rna.tsv', unit='counts'))
        with pytest.raises(ValueError, match='1 of 2 cases have no '
                           'expression: TCGA-AD-6964'):
            build(tmp_path, **source).full_init()
        dataset = build(tmp_path, missing_genes='keep', **source)
        both, alone = dataset[0]['inputs'], dataset[1]['inputs']
        assert both['patches'].shape == (180, 512)
        column = lines[0].split('\t').index(next(
            name for name in lines[0].split('\t')
            if name.startswith('TCGA-3X-AAVA')))
        assert both['genes'].tolist() == [
            float(line.split('\t')[column]) for line in lines[1:]]
        assert not places_known(both['coords'])
        assert alone['patches'].shape == (777, 512)
        assert alone['coords'].shape == (777, 2)
        assert alone['genes'] is None
