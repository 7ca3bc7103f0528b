"""Slides and genes of different patients, paired within classes."""

import csv
import os
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import run
from PIL import Image

from mmmedmask.datasets.conversion.pairing import pair_within_classes
from mmmedmask.datasets.slides.slide_omic_dataset import SlideOmicDataset

TOOL = Path(__file__).resolve().parents[3] / 'tools' / \
    'dataset_converters' / 'pair_tiles_and_genes.py'
CASES = {'a1': 'a', 'a2': 'a', 'a3': 'a', 'b1': 'b', 'b2': 'b'}
SAMPLES = {'a': [f'sa{number}' for number in range(9)],
           'b': ['sb0', 'sb1'], 'c': []}


def test_pairs_are_of_one_class_and_no_sample_comes_twice():
    draws = [pair_within_classes(CASES, SAMPLES, seed) for seed in range(20)]
    for pairs in draws:
        assert set(pairs) == set(CASES)
        assert len(set(pairs.values())) == len(CASES)
        for case, sample in pairs.items():
            assert sample in SAMPLES[CASES[case]]
    assert len({tuple(sorted(pairs.items())) for pairs in draws}) > 10
    assert pair_within_classes(dict(reversed(CASES.items())), SAMPLES,
                               3) == draws[3]


@pytest.mark.parametrize(('samples', 'said'), [
    ({'a': SAMPLES['a']}, "no samples of the class 'b', only of"),
    (dict(SAMPLES, b=['sb0', 'sb0']), "'b' has 2 cases, but 1 samples")])
def test_too_few_samples_are_refused(samples, said):
    with pytest.raises(ValueError, match=said):
        pair_within_classes(CASES, samples)


def _draw(folder):
    """Six tiles and four samples of two classes."""
    random = np.random.default_rng(0)
    for label in ('bright', 'dark'):
        (folder / label).mkdir(parents=True)
        for number in range(6):
            tile = random.integers(0, 100, (32, 32, 3), np.uint8)
            Image.fromarray(tile + 150 * (label == 'bright')).save(
                folder / label / f'{number}.png')
        genes = [f'ENSG{number:011d}' for number in range(20)]
        values = random.integers(1, 900, (20, 4)) + .5
        lines = ['\t'.join(['', *(f'{label}-{n}' for n in range(4))])]
        lines += ['\t'.join([gene, *map(str, row)])
                  for gene, row in zip(genes, values, strict=True)]
        (folder / f'{label}_tpm.tsv').write_text('\n'.join(lines) + '\n')


def test_the_tool_writes_a_cohort_that_says_what_it_is(
        tmp_path, monkeypatch, capsys):
    _draw(tmp_path)
    out = tmp_path / 'out'
    arguments = [
        TOOL, '--tiles', tmp_path / 'bright',
        tmp_path / 'dark', '--genes', tmp_path / 'bright_tpm.tsv',
        tmp_path / 'dark_tpm.tsv', '--unit', 'tpm', '--bag-size', 2,
        '--tile-size', 32, '--split', .34, .33, .33]
    # In this process: starting another takes ten times as long.
    monkeypatch.setattr(sys, 'argv', [*map(str, arguments), '--out',
                                      str(out)])
    runpy.run_path(str(TOOL), run_name='__main__')
    said = capsys.readouterr().out
    # 4 x 4 patches of each of two tiles.
    assert '6 bags of 32 to 32 patches' in said
    assert 'synthetic pairing' in said
    assert (out / 'README.txt').read_text().startswith('SYNTHETIC PAIRING')
    with (out / 'cohort.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert len({row['rna_id'] for row in rows}) == len(rows) == 6
    for row in rows:
        assert row['rna_id'].startswith(row['label'])
    dataset = SlideOmicDataset(
        'cohort.csv', data_root=str(out), split='train',
        feature_root='features',
        expression=dict(path=['expression/bright.npz',
                              'expression/dark.npz']),
        pipeline=[dict(type='mmmedmask.LoadSlideFeatures'),
                  dict(type='mmmedmask.LoadExpression'),
                  dict(type='mmmedmask.PackSlideOmicInputs')])
    assert len(dataset) == 2
    inputs = dataset[0]['inputs']
    assert inputs['patches'].shape == (32, 128)
    assert inputs['patches'].isfinite().all()
    assert inputs['genes'].shape == (20, )
    places = inputs['coords']
    # Two tiles side by side, row by row inside each.
    assert places[:5].tolist() == [[0, 0], [8, 0], [16, 0], [24, 0], [0, 8]]
    assert places[16].tolist() == [32, 0]
    assert len(np.unique(places, axis=0)) == 32


def test_too_few_files_of_genes_are_refused(tmp_path):
    said = run(sys.executable, TOOL, '--tiles', 'a', 'b', '--genes', 'c',
               '--out', tmp_path / 'out', status=2)
    assert '2 folders of tiles need as many files of genes, got 1' in said
    assert not os.listdir(tmp_path)
