"""The converters of labelled images as users run them."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest
from commands import run

from mmmedmask.phantoms.labelled_downloads import (
    write_brain_download,
    write_busi_download,
    write_ham_download,
    write_messidor_download,
)

TOOLS = Path(__file__).resolve().parents[1] / 'tools' / 'dataset_converters'


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


def test_brain_tumor_mri_with_a_leak_fails_the_check(tmp_path):
    write_brain_download(tmp_path / 'in')
    shutil.copy(tmp_path / 'in/Training/glioma/Tr-gl_0000.jpg',
                tmp_path / 'in/Testing/glioma/Te-gl_0009.jpg')
    # From another folder, as users do.
    printed = run(
        sys.executable, TOOLS / 'brain_tumor_mri.py', 'in', 'out', '--check',
        cwd=tmp_path, status=1)
    assert 'Training/notumor 4 of 1595' in printed
    assert 'official/val: 9 images (glioma 3, meningioma 2' in printed
    assert 'clean/val: 8 images (glioma 2, meningioma 2' in printed
    assert 'clean-train/train: 15 images (glioma 3' in printed
    assert 'identical_across_splits (1)' in printed
    report = json.loads((tmp_path / 'out/check.json').read_text())
    assert report['problems'][0]['files'] == [
        'images/Testing/glioma/Te-gl_0009.jpg',
        'images/Training/glioma/Tr-gl_0000.jpg']
    train = [(tmp_path / f'out/splits/{name}/train.csv').read_text()
             for name in ('official', 'clean')]
    assert train[0] == train[1]


@pytest.mark.parametrize(('script', 'write', 'arguments', 'splits'), [
    ('ham10000.py', write_ham_download, ({'nv': 10, 'df': 4}, ),
     # Targets are 3 and 1, and lesions have two images here.
     {'paper': 4, 'lesion': 2}),
    ('busi.py', write_busi_download,
     ({'benign': 10, 'malignant': 4, 'normal': 4}, ),
     {'paper': 5, 'grouped': 5}),
    ('messidor2.py', write_messidor_download, ([10, 4, 4, 4, 4], ),
     {'paper': 7, 'patient': None}),
    ('brain_tumor_mri.py', write_brain_download, (),
     {'official': 8, 'clean': 8, 'clean-train': 8}),
])
def test_converter(tmp_path, call, script, write, arguments, splits):
    write(tmp_path / 'in', *arguments)
    out = tmp_path / 'out'
    status, printed = call(script, tmp_path / 'in', out, '--copy')
    assert (status, printed.err) == (0, '')
    assert 'copied' in printed.out
    assert 'NOTICE: This is not the complete' in printed.out
    assert not (out / 'check.txt').exists()
    assert sorted(path.name for path in (out / 'splits').iterdir()) == sorted(
        splits)
    for name, number in splits.items():
        text = (out / f'splits/{name}/val.csv').read_text()
        if number is not None:
            assert len(text.splitlines()) == 1 + number
    before = (out / 'splits' / next(iter(splits)) / 'val.csv').read_bytes()
    status, printed = call(
        script, tmp_path / 'in', out, '--seed', '3', '--check')
    assert status == 0, printed.out
    assert 'PROBLEMS: none' in printed.out
    assert f'The complete report: {out / "check.txt"}' in printed.out
    after = (out / 'splits' / next(iter(splits)) / 'val.csv').read_bytes()
    # Nothing is drawn for Brain Tumor MRI.
    assert (before == after) == (script == 'brain_tumor_mri.py')


def test_broken_image_is_named_and_nothing_is_written(tmp_path, call):
    write_brain_download(tmp_path / 'in')
    (tmp_path / 'in/Testing/glioma/Te-gl_0000.jpg').write_bytes(b'\xff\xd8')
    status, printed = call(
        'brain_tumor_mri.py', tmp_path / 'in', tmp_path / 'out')
    assert status == 1
    assert 'Te-gl_0000.jpg' in printed.err
    assert 'error: nothing was written' in printed.err
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('script', [
    'brain_tumor_mri.py', 'ham10000.py', 'busi.py', 'messidor2.py'])
def test_wrong_input_is_said_plainly(tmp_path, call, script):
    status, printed = call(script, tmp_path / 'nowhere', tmp_path / 'out')
    assert status == 1
    assert 'error: ' in printed.err
    assert 'nowhere does not exist' in printed.err
    status, printed = call(script, tmp_path)
    assert status == 2
    assert 'out' in printed.err


def test_wrong_threshold(tmp_path, call):
    write_brain_download(tmp_path / 'in', 2)
    status, printed = call(
        'brain_tumor_mri.py', tmp_path / 'in', tmp_path / 'out',
        '--near-threshold', '0')
    assert status == 1
    assert 'threshold must be in (0, 1], got 0.0' in printed.err
