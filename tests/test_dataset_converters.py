"""tools/dataset_converters as users run them."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmmedmask.phantoms.glands import draw_gland_image

REPOSITORY = Path(__file__).resolve().parents[1]
TOOLS = REPOSITORY / 'tools' / 'dataset_converters'


def run(script, *arguments, cwd=REPOSITORY):
    return subprocess.run(
        [sys.executable, str(TOOLS / script),
         *(str(argument) for argument in arguments)],
        capture_output=True, text=True, cwd=cwd)


@pytest.fixture
def call(monkeypatch, capsys):
    """Run a script in this process, which spares the imports."""

    def run_in_process(script, *arguments):
        monkeypatch.syspath_prepend(str(TOOLS))
        monkeypatch.setattr(
            'sys.argv', [script, *(str(argument) for argument in arguments)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(TOOLS / script), run_name='__main__')
        return ended.value.code, capsys.readouterr()

    return run_in_process


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.astype(np.uint8)).save(path)


def test_glas_binary_masks_are_converted_with_a_warning(tmp_path):
    for seed, name in enumerate(('train_1', 'testA_1')):
        image, labels = draw_gland_image(96, seed)
        save(tmp_path / f'{name}.png', image)
        save(tmp_path / f'{name}_anno.png', 255 * (labels > 0))
    # From another folder, as users do.
    done = run('glas.py', '.', '--check', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'train.json: 1 images' in done.stdout
    assert 'WARNING: 1 of 1 masks are binary' in done.stdout
    assert 'train 1 of 85, testA 1 of 60, testB 0 of 20' in done.stdout
    assert 'PROBLEMS: none' in done.stdout
    content = json.loads((tmp_path / 'annotations/train.json').read_text())
    assert content['images'][0]['file_name'] == 'train_1.png'
    assert (tmp_path / 'annotations/check.txt').is_file()


def test_crag_with_copies_across_splits_fails_the_check(tmp_path):
    for name in ('train', 'valid'):
        image, labels = draw_gland_image(96, 0)
        save(tmp_path / f'CRAG/{name}/Images/1.png', image)
        save(tmp_path / f'CRAG/{name}/Annotation/1.png', labels)
    done = run('crag.py', tmp_path, '--out-dir', tmp_path / 'out', '--check')
    assert done.returncode == 1
    assert 'identical_across_splits (1)' in done.stdout
    assert 'train 1 of 173, test 1 of 40' in done.stdout
    report = json.loads((tmp_path / 'out/check.json').read_text())
    assert len(report['problems'][0]['files']) == 2
    content = json.loads((tmp_path / 'out/test.json').read_text())
    assert content['images'][0]['file_name'] == 'CRAG/valid/Images/1.png'


def test_broken_image_is_named_and_nothing_written(tmp_path, call):
    image, labels = draw_gland_image(96, 0)
    for name in ('train_1', 'testB_1'):
        save(tmp_path / f'{name}.bmp', image)
        save(tmp_path / f'{name}_anno.bmp', labels)
    (tmp_path / 'testB_1.bmp').write_bytes(b'BM')
    status, printed = call('glas.py', tmp_path)
    assert status == 1
    assert 'testB_1.bmp' in printed.err
    assert 'nothing was written' in printed.err
    assert not (tmp_path / 'annotations').exists()


@pytest.mark.parametrize(('script', 'arguments', 'message'), [
    ('glas.py', ['nowhere'], 'error: nowhere does not exist'),
    ('glas.py', ['.', '--min-area', '-3'], 'got -3'),
    ('crag.py', ['.', '--near-threshold', '2'], 'got 2.0'),
    ('crag.py', ['.'], 'no such folder'),
    ('nct_crc.py', ['nowhere'], 'does not exist'),
])
def test_bad_input_is_said_plainly(
        tmp_path, monkeypatch, call, script, arguments, message):
    monkeypatch.chdir(tmp_path)
    status, printed = call(script, *arguments)
    assert status == 1
    assert message in printed.err


@pytest.mark.parametrize(('script', 'arguments', 'message'), [
    ('glas.py', [], 'data_root'),
    ('glas.py', ['.', '--mask-kind', 'colour'], 'colour'),
    ('nct_crc.py', ['.', '--near-threshold', '0'], 'got 0.0'),
])
def test_bad_usage(call, script, arguments, message):
    status, printed = call(script, *arguments)
    assert status == 2
    assert message in printed.err


def test_options_reach_the_annotations(tmp_path, call):
    image, _ = draw_gland_image(96, 0)
    mask = np.zeros((96, 96))
    mask[:30, :30] = mask[60:, 60:] = 1
    mask[50, 5] = 2
    for name in ('train_1', 'testA_1'):
        save(tmp_path / f'{name}.png', image)
        save(tmp_path / f'{name}_anno.png', mask)

    def instances(*options):
        status, printed = call('glas.py', tmp_path, *options)
        assert status == 0
        content = json.loads(
            (tmp_path / 'annotations/train.json').read_text())
        return len(content['annotations']), printed.out

    number, printed = instances()
    assert number == 2
    assert '1 instances have fewer than 100 pixels' in printed
    assert '1 instances consist of several parts' in printed
    number, printed = instances('--split-components', '--min-area', '10')
    assert number == 2
    assert '1 instances left out' in printed
    assert instances('--mask-kind', 'binary')[0] == 3


def test_binary_masks_of_zeros_and_ones_are_suspected(tmp_path, call):
    image, _ = draw_gland_image(96, 0)
    mask = np.zeros((96, 96))
    mask[:30, :30] = mask[60:, 60:] = 1
    for name in ('train_1', 'train_2', 'testA_1'):
        save(tmp_path / f'{name}.png', image)
        save(tmp_path / f'{name}_anno.png', mask)
    _, printed = call('glas.py', tmp_path)
    assert 'WARNING: no mask holds a number above 1' in printed.out
    _, printed = call('glas.py', tmp_path, '--mask-kind', 'binary')
    assert 'WARNING' not in printed.out


def test_nct_crc(tmp_path, call):
    rng = np.random.default_rng(0)
    for name in ('ADI', 'BACK', 'DEB', 'LYM', 'MUC', 'MUS', 'NORM', 'STR',
                 'TUM'):
        coarse = rng.integers(0, 256, (28, 28, 3), np.uint8)
        save(tmp_path / 'data' / name / f'{name}-A.tif',
             np.kron(coarse, np.ones((8, 8, 1))))
    done = run('nct_crc.py', tmp_path, '--val-fraction', '0.34', '--check')
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'train: 6 tiles (ConCL: 80000)' in done.stdout
    assert 'TUM 1 of 14317' in done.stdout
    assert 'drew a split' in done.stdout
    before = (tmp_path / 'meta/train.txt').read_text()
    _, printed = call('nct_crc.py', tmp_path, '--seed', '5')
    assert 'list files that are there are used' in printed.out
    assert (tmp_path / 'meta/train.txt').read_text() == before
    status, printed = call(
        'nct_crc.py', tmp_path, '--lists', tmp_path / 'meta')
    assert status == 1
    assert '--overwrite' in printed.err
    status, _ = call('nct_crc.py', tmp_path, '--seed', '5', '--overwrite')
    assert status == 0
    assert (tmp_path / 'meta/train.txt').read_text() != before


def musk_table(path, num_molecules=9):
    """Molecules of one to three shapes, the odd ones are musk."""
    lines = [
        [molecule % 2, molecule, *(100 * molecule + shape for _ in range(166))]
        for molecule in range(1, num_molecules + 1)
        for shape in range(1 + molecule % 3)
    ]
    path.write_text(''.join(
        ','.join(map(str, line)) + '\n' for line in reversed(lines)))
    return path


def test_musk_bags_folds_and_cohort(tmp_path, call):
    from mmmedmask.datasets import SlideOmicDataset
    table = musk_table(tmp_path / 'musk.csv', 12)
    out = tmp_path / 'out'
    status, told = call('musk.py', table, out, '--folds', 3)
    assert status == 0, told.err
    assert ("12 molecules {'musk': 6, 'non-musk': 6} of 1 to 3 shapes, "
            '3 folds') in told.out
    tested = []
    for fold in range(3):
        sets = {
            split: SlideOmicDataset(
                'cohort.csv', str(out), split,
                split_file=f'folds/splits_{fold}.csv', modalities=['slides'],
                feature_root=str(out / 'features'))
            for split in ('train', 'test')
        }
        assert [len(one) for one in sets.values()] == [8, 4]
        assert sum(sets['test'].get_gt_labels()) == 2
        tested += [sets['test'].get_data_info(place)['case_id']
                   for place in range(4)]
    assert sorted(tested) == [f'molecule-{n:02d}' for n in range(1, 13)]
    # In angstrom, in the order of the table.
    shapes = np.load(out / 'features' / 'molecule-02.npy')
    assert shapes.shape == (3, 166)
    assert shapes[:, 0].tolist() == pytest.approx([2.02, 2.01, 2.0])


@pytest.mark.parametrize(('line', 'message'), [
    ('1,1,5', 'line 1 has 3 columns, expected label, molecule and 166'),
    ('2,1' + 166 * ',0', "line 1 has the label '2', expected one of"),
    ('1,1' + 165 * ',0' + ',nan', 'a feature that is not finite'),
    ('1,1' + 165 * ',0' + ',x', 'line 1: could not convert'),
    ('1,1' + 166 * ',0' + '\n0,1' + 166 * ',0',
     'line 2 gives molecule 1 another label'),
    ('', 'has no shape'),
    ('1,1' + 166 * ',0', "class 'musk' has 1 cases, 10 folds")])
def test_musk_tables_that_are_none(tmp_path, call, line, message):
    table = tmp_path / 'musk.csv'
    table.write_text(line and line + '\n')
    status, told = call('musk.py', table, tmp_path / 'out')
    assert status == 1
    assert message in told.err
    assert not (tmp_path / 'out').exists()
