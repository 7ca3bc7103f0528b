"""tools/analysis_tools/gene_baselines.py as users run it."""

import csv

import numpy as np
import pytest
from commands import call
from sklearn.linear_model import LogisticRegression
from slide_omic_files import draw_fpkm

from mmmedmask.datasets.slides.cohort import read_cohort
from mmmedmask.datasets.slides.folds import draw_folds, write_folds
from mmmedmask.evaluation.patient_tables import read_patients
from mmmedmask.models.gimp import GroupMSA
from mmmedmask.phantoms.slide_files import draw_genes

TOOL = 'analysis_tools/gene_baselines.py'
GENES = draw_genes(15)
CONFIG = """
dataset = dict(type='mmmedmask.SlideOmicDataset', data_root={root!r},
               ann_file='cohort.csv', modalities=['genes'],
               expression=dict(path='rna.tsv', unit='fpkm'),
               missing_genes='keep', split_file='none.csv')
train_dataloader = dict(dataset=dict(split='train', **dataset))
test_dataloader = dict(
    dataset=dict(split='test', test_mode=True, **dataset))
"""


@pytest.fixture
def cohort(tmp_path):
    """30 patients, of whom one gene tells the class and one has none."""
    cases = [f'p{place}' for place in range(30)]
    labels = ['ab'[place % 2] for place in range(30)]
    values = draw_fpkm(29, len(GENES))
    values[:, 3] = [1 + 20 * (label == 'b') for label in labels[:29]]
    lines = ['\t'.join(['gene_id', *cases[:29]])]
    lines += ['\t'.join([gene, *map(str, column.tolist())])
              for gene, column in zip(GENES, values.T, strict=True)]
    (tmp_path / 'rna.tsv').write_text('\n'.join(lines) + '\n')
    (tmp_path / 'cohort.csv').write_text('\n'.join(
        ['case_id,slide_id,label',
         *(f'{case},,{label}' for case, label in
           zip(cases, labels, strict=True))]) + '\n')
    (tmp_path / 'config.py').write_text(CONFIG.format(root=str(tmp_path)))
    folds = draw_folds(read_cohort(tmp_path / 'cohort.csv'), 3)
    write_folds(tmp_path / 'splits', folds, {})
    return tmp_path, values, labels, folds


def set_clip(root, clip):
    """Have the config's hook cut scaled genes off."""
    with (root / 'config.py').open('a') as file:
        file.write("default_hooks = dict(logger=dict(), gene_stats=dict("
                   f"type='mmmedmask.GeneStatsHook', clip={clip}))\n")


@pytest.mark.parametrize('clip', [10, .5])
def test_fits_on_training_patients_and_tests_on_others(cohort, clip):
    root, values, labels, folds = cohort
    if clip != 10:
        set_clip(root, clip)
    said = call(TOOL, root / 'config.py', '--folds', root / 'splits', '--out',
                root / 'out')
    assert 'logistic_regression' in said
    assert 'random_forest' in said
    logs = np.log2(values.astype(np.float64) + 1)
    for fold, splits in enumerate(folds):
        rows = {split: [int(case[1:]) for case, other in splits.items()
                        if other == split and case != 'p29']
                for split in ('train', 'test')}
        train = logs[rows['train']]
        scaled = np.clip((logs - train.mean(axis=0)) / train.std(axis=0),
                         -clip, clip)
        truth = np.array([label == 'b' for label in labels])
        model = LogisticRegression(C=.01, max_iter=2000).fit(
            scaled[rows['train']], truth[rows['train']])
        got = read_patients(
            root / f'out/logistic_regression/fold_{fold}/test/patients.csv')
        assert list(got.case_ids) == [f'p{row}' for row in rows['test']]
        assert np.allclose(
            got.scores, model.predict_proba(scaled[rows['test']]), atol=1e-4)
        assert (got.labels == truth[rows['test']]).all()
    for name in ('logistic_regression', 'random_forest'):
        assert 'fold 2' in (root / f'out/{name}/results.md').read_text()
        assert (root / f'out/{name}/results.csv').is_file()
    said = call(TOOL, root / 'config.py', '--folds', root, status=1)
    assert said.startswith('gene_baselines.py: ')
    assert 'splits_0.csv' in said


def test_a_row_has_the_folds_of_one_call(cohort):
    root, *_ = cohort

    def folds_of(*options):
        call(TOOL, root / 'config.py', '--folds', root / 'splits', '--out',
             root / 'out', *options)
        row = root / 'out/logistic_regression'
        return sorted(str(path.relative_to(row)) for path in row.rglob('*')
                      if path.name.startswith(('seed', 'fold')))

    assert folds_of() == ['fold_0', 'fold_1', 'fold_2']
    (root / 'splits/splits_2.csv').unlink()
    # What another tool has written stays.
    (root / 'out/logistic_regression/fold_0/notes.md').touch()
    assert folds_of('--seeds', 0, 1) == ['fold_0', *(
        f'seed_{seed}{fold}' for seed in (0, 1)
        for fold in ('', '/fold_0', '/fold_1'))]
    (root / 'out/logistic_regression/fold_0/notes.md').unlink()
    assert folds_of() == ['fold_0', 'fold_1']


ENCODER = """
_base_ = './config.py'
model = dict(gene_encoder=dict(
    type='mmmedmask.LinearGeneEncoder', num_genes=15, embed_dims=8))
train_cfg = dict(max_epochs=20)
optim_wrapper = dict(optimizer=dict(lr=.03))
train_dataloader = dict(batch_size=8)
"""


def test_trains_encoders_with_seeds_and_clusters(cohort):
    root, _, _, folds = cohort
    (root / 'mine.py').write_text(ENCODER)
    (root / 'groups.py').write_text("""
_base_ = './mine.py'
model = dict(gene_encoder=dict(
    type='mmmedmask.GroupMSA', num_heads=2, num_fragments=5, num_groups=5))
train_cfg = dict(max_epochs=1)
""")
    twins = root / 'mine.py', root / 'other' / 'mine.py'
    assert f'{twins[0]} and {twins[1]} are both called mine' in call(
        TOOL, root / 'config.py', '--folds', root / 'splits', '--encoders',
        *twins, status=1)
    call(TOOL, root / 'config.py', '--folds', root / 'splits', '--encoders',
         root / 'mine.py', root / 'groups.py', '--seeds', 3, 0, '--clusters',
         4, '--out', root / 'out')
    table = list(csv.DictReader((root / 'out/table.csv').open()))
    scores = {(row['row'], row['seed'], row['run']): row for row in table}
    for name in ('mine', 'groups', 'groups_clusters', 'random_forest'):
        if 'groups' not in name:
            assert float(scores[name, '', 'mean']['auc']) > .6
        for seed in '30':
            pooled = [float(scores[name, seed, f'pooled{bound}']['auc'])
                      for bound in (' low', '', ' high')]
            assert pooled == sorted(pooled)
            got = read_patients(root / 'out' / name / f'seed_{seed}'
                                / 'fold_1/test/patients.csv')
            assert set(got.case_ids) == {
                case for case, split in folds[1].items()
                if split == 'test' and case != 'p29'}
    assert ('mine_clusters', '', 'mean') not in scores
    assert scores['groups', '3', 'pooled'] != {
        **scores['groups_clusters', '3', 'pooled'], 'row': 'groups'}


def test_writes_clusters_that_group_msa_reads(cohort):
    root, *_ = cohort
    tool = 'analysis_tools/cluster_genes.py', root / 'config.py'
    fold = ('--cfg-options', 'train_dataloader.dataset.split_file='
            f'{root}/splits/splits_0.csv')
    assert '4 sets of' in call(
        *tool, '--sets', 4, '--out', root / 'sets.gmt', *fold)
    model = GroupMSA(15, 8, num_fragments=5, num_groups=0, num_heads=2,
                     gene_sets=str(root / 'sets.gmt'),
                     gene_list=str(root / 'genes.txt'))
    assert model.num_groups == 4
    assert sorted(model.places[model.places >= 0].tolist()) == list(range(15))
    assert 'must end with .gmt, got sets.csv' in call(
        *tool, '--out', 'sets.csv', status=1)
    set_clip(root, .1)
    call(*tool, '--sets', 4, '--out', root / 'clipped.gmt', *fold)
    assert (root / 'clipped.gmt').read_text() != (
        root / 'sets.gmt').read_text()


def test_clusters_overwrite_nothing_of_the_cohort(cohort):
    root, *_ = cohort
    tool = ('analysis_tools/cluster_genes.py', root / 'config.py', '--sets', 4,
            '--cfg-options', 'train_dataloader.dataset.split_file='
            f'{root}/splits/splits_0.csv', '--out')
    with (root / 'config.py').open('a') as file:
        file.write(f"model = dict(gene_sets='{root}/sets.gmt')\n")
    inputs = {root / 'known.gmt': 'pathway\t\tTP53\n',
              root / 'genes.txt': 'TP53\n'}
    for file, text in inputs.items():
        file.write_text(text)
    for name, message in (('known.gmt', 'known.gmt has sets that this tool'),
                          ('sets.gmt', f'{root}/genes.txt lists other genes '
                           'than the 15 of the config')):
        assert message in call(*tool, root / name, status=1)
    assert {file: file.read_text() for file in inputs} == inputs
    assert not (root / 'sets.gmt').exists()
    # The list of these genes may be there, and sets of an earlier call.
    (root / 'genes.txt').unlink()
    for _ in range(2):
        call(*tool, root / 'sets.gmt')
