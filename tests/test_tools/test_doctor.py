"""doctor.py: what is missing or broken is red, and the report goes on."""

import argparse
import json
import os
import sys
from pathlib import Path

import pytest
from commands import call, load, run

TOOL = (Path(__file__).resolve().parents[2] / 'tools' / 'misc' / 'doctor.py')


doctor = load(TOOL)


def diagnose(folder, status, site=None):
    """Run the tool, or a process with packages that hide the real ones."""
    file = folder / 'report.json'
    options = ('--data-root', folder / 'data', '--json', file)
    if site is None:
        output = call(TOOL, *options, status=status, cwd=folder)
    else:
        output = run(sys.executable, TOOL, *options, status=status, cwd=folder,
                     PYTHONPATH=os.pathsep.join(
                         [str(site), os.environ.get('PYTHONPATH', '')]))
    lines = json.loads(file.read_text())
    assert output.count('\n[') == len(lines) - 1
    return lines, output


def of(lines, check):
    """Return the lines of a check."""
    return [line for line in lines if line['check'] == check]


def look(check, folder):
    """Make a check with some folder; return its lines by their names."""
    arguments = argparse.Namespace(data_root=str(folder / 'data'),
                                   work_dirs=str(folder / 'runs'))
    return {line.check: line for line in check(arguments)}


def write_package(site, name, code):
    (site / name).mkdir(parents=True)
    (site / name / '__init__.py').write_text(code)


def write_distribution(site, name, version):
    folder = site / f'{name.replace("-", "_")}-{version}.dist-info'
    folder.mkdir(parents=True)
    (folder / 'METADATA').write_text(
        f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n')


@pytest.fixture(scope='module')
def sick(tmp_path_factory):
    """The report where torch and our package break, on both families."""
    folder = tmp_path_factory.mktemp('sick')
    site = folder / 'site'
    write_package(site, 'torch', 'raise OSError("libcudart.so is missing")')
    write_package(site, 'mmmedmask', 'raise ImportError("half installed")')
    write_package(site, 'mim', 'import there_is_no_such_module')
    for name in ('mmpretrain', 'mmdet', 'mmseg'):
        write_package(site, name, 'import torch')
    write_distribution(site, 'mmcv', '2.1.0')
    write_distribution(site, 'mmdet', '3.3.0')
    write_distribution(site, 'kornia', '0.1.0')
    return diagnose(folder, 1, site=site)


def test_reports_without_torch(sick):
    lines, output = sick
    [torch] = of(lines, 'torch')
    assert 'OSError: libcudart.so is missing' in torch['message']
    assert "pip install 'torch>=2.4'" in torch['mend']
    [ours] = of(lines, 'mmmedmask')
    assert 'ImportError: half installed' in ours['message']
    # What needs none of them is still looked at.
    for check, status in dict(
            torch='red', CUDA='red', scope='red', mim='yellow', Python='green',
            work_dirs='green', **{'mmcv ops': 'red'}).items():
        assert {line['status'] for line in of(lines, check)} == {status}
    assert len(of(lines, 'data')) >= 10
    assert 'Traceback' not in output


def test_two_families_and_old_packages_are_errors(sick):
    lines, _ = sick
    [family] = of(lines, 'OpenMMLab')
    assert family['status'] == 'red'
    assert 'mmcv: onedl-mmcv and mmcv' in family['message']
    assert 'mmdet: onedl-mmdetection and mmdet' in family['message']
    assert 'pip uninstall -y onedl-mmcv mmcv' in family['mend']
    [package] = [line for line in of(lines, 'package')
                 if line['status'] == 'red']
    assert "kornia is 0.1.0, needed is 'kornia>=0.8'" in package['message']
    assert package['mend'] == "pip install 'kornia>=0.8'"


@pytest.mark.slow
def test_this_environment_is_ready(tmp_path):
    """In the environment of the tests nothing is red."""
    lines, output = diagnose(tmp_path, 0)
    assert [line for line in lines if line['status'] == 'red'] == []
    for check in ('torch', 'torchvision', 'OpenMMLab', 'mmmedmask',
                  'mmcv ops', 'mim'):
        [line] = of(lines, check)
        assert line['status'] == 'green', line
    assert [line['message'].split()[0] for line in of(lines, 'scope')] == [
        'mmpretrain', 'mmdet', 'mmseg']
    assert output.splitlines()[-1].endswith(', 0 red')


def test_data_sets_are_complete_or_not(tmp_path):
    busi = tmp_path / 'data' / 'busi'
    (busi / 'splits' / 'paper').mkdir(parents=True)
    glas = tmp_path / 'data' / 'glas' / 'annotations'
    glas.mkdir(parents=True)
    (glas / 'train.json').touch()
    (glas / 'test.json').touch()
    lines = {line.message.split()[0]: line for line in doctor.check_data(
        argparse.Namespace(data_root=tmp_path / 'data'))}
    assert lines['GlaS'].status == 'green'
    assert lines['BUSI'].status == 'red'
    assert 'classes.txt, images, splits/paper/train.csv' \
        in lines['BUSI'].message
    assert f'convert.py busi path/to/download {busi}' in lines['BUSI'].mend
    assert lines['CRAG'].status == 'yellow'
    assert 'convert.py crag' in lines['CRAG'].mend


def test_known_data_are_in_the_documentation():
    """The sections and the tools that the mends name are there."""
    known = doctor.load_alone('inspection/known_data.py').KNOWN_DATA
    repository = TOOL.parents[2]
    text = (repository / 'docs' / 'datasets.md').read_text()
    sections = {
        ''.join(letter for letter in line[3:].lower()
                if letter.isalnum() or letter in ' -').replace(' ', '-')
        for line in text.splitlines() if line.startswith('## ')}
    for name, data in known.items():
        assert data.section in sections, name
        words = data.mend.split()
        if words[0] == 'python':
            assert (repository / words[1]).is_file(), name


def failing(error):
    """A function that raises an error."""
    def fail(*args, **options):
        raise error
    return fail


def test_disk_and_permissions(tmp_path, monkeypatch):
    usage = doctor.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(doctor.shutil, 'disk_usage',
                        lambda path: usage._replace(free=2**20))
    lines = look(doctor.check_disk, tmp_path)
    assert lines['disk'].status == 'red'
    assert '0.0 GiB free' in lines['disk'].message
    assert lines['work_dirs'].status == 'green'
    shared = look(doctor.check_shared_memory, tmp_path)['shared memory']
    assert shared.status == 'yellow'
    assert '--shm-size' in shared.mend
    monkeypatch.setattr(doctor.tempfile, 'TemporaryFile',
                        failing(PermissionError('read only')))
    work_dirs = look(doctor.check_disk, tmp_path)['work_dirs']
    assert work_dirs.status == 'red'
    assert 'read only' in work_dirs.message


def test_python_that_is_too_new(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, 'PYTHON_VERSIONS', ((3, 1), (3, 2)))
    line = look(doctor.check_python, tmp_path)['Python']
    assert line.status == 'red'
    assert '3.1 to 3.2 are needed' in line.message


def test_torchvision_of_another_torch(monkeypatch, tmp_path):
    import torch
    import torchvision
    monkeypatch.setattr(torchvision, '__version__', '0.5.0')
    line = look(doctor.check_torch, tmp_path)['torchvision']
    assert line.status == 'yellow'
    minor = int(torch.__version__.split('.')[1])
    assert f'torchvision==0.{minor + 15}.*' in line.mend
    monkeypatch.setattr(torchvision.ops, 'nms', failing(
        RuntimeError('operator torchvision::nms does not exist')))
    line = look(doctor.check_torch, tmp_path)['torchvision']
    assert line.status == 'red'
    assert 'nms does not exist' in line.message


def test_driver_without_device(monkeypatch, tmp_path):
    import torch
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(doctor, '_driver', lambda: '570.1')
    line = look(doctor.check_cuda, tmp_path)['CUDA']
    assert line.status == 'red'
    assert 'there is a driver (570.1)' in line.message
    monkeypatch.setattr(doctor, '_driver', lambda: None)
    assert look(doctor.check_cuda, tmp_path)['CUDA'].status == 'yellow'


def test_a_check_that_fails_is_a_line():
    def check(args):
        yield doctor.green('x', 'first')
        raise KeyError('inside')

    first, second = doctor.run_check('x', check, None)
    assert first.message == 'first'
    assert second.status == 'red'
    assert "KeyError: 'inside'" in second.message


@pytest.mark.parametrize(('version', 'condition', 'fits'), [
    ('2.11.0+cu130', '>=2.4', True), ('2.3.1', '>=2.4', False),
    ('0.10.12', '>=0.10.11', True), ('82.0', '<82', False),
    ('81.9.1', '<82', True), ('1.0', '==1', True), ('3.4', '', True)])
def test_compares_versions(version, condition, fits):
    assert doctor.satisfies(version, condition) is fits


def test_marker_of_a_requirement():
    assert doctor._applies(" python_version >= '3.1'")
    assert not doctor._applies(" python_version < '3.1'")
    assert doctor._applies('')
