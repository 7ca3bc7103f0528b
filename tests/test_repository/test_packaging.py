"""What users install: pins, wheels, ``mim``, the Makefile, the index files."""

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections import Counter
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from commands import run
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
# Of what users install, all but runtime belongs to an extra.
INSTALLED = ('runtime', 'mminstall', 'detection', 'segmentation', 'slides',
             'genes', 'encoders', 'experiments', 'demo', 'logging', 'mim',
             'sam', 'export', 'radiology', 'storage', 'plots')
PYTHONS = ('3.11', '3.12', '3.13')
PACKED = ('mmmedmask', 'configs', 'tools', 'requirements', 'setup.py',
          'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE',
          'CITATION.cff', 'model-index.yml')


def read_requirements(name):
    file = f'{name}.txt' if name == 'constraints' else (
        f'requirements/{name}.txt')
    lines = (ROOT / file).read_text().splitlines()
    stripped = (line.partition('#')[0].strip() for line in lines)
    return [Requirement(line) for line in stripped if line]


def read_pins(python, name='lock'):
    """Name to version of what a file pins for a Python on Linux."""
    environment = dict(python_version=python,
                       python_full_version=f'{python}.0', sys_platform='linux',
                       platform_system='Linux', platform_machine='x86_64')
    pins = {}
    for requirement in read_requirements(name):
        if requirement.marker and not requirement.marker.evaluate(environment):
            continue
        name = canonicalize_name(requirement.name)
        assert name not in pins, f'{name} is pinned twice for {python}'
        specifiers = list(requirement.specifier)
        assert [s.operator for s in specifiers] == ['=='], str(requirement)
        pins[name] = specifiers[0].version
    return pins


@pytest.mark.parametrize('python', PYTHONS)
def test_lock_satisfies_all_requirements(python):
    pins = read_pins(python)
    assert pins['torch'] == '2.11.0'
    assert pins['torchvision'] == '0.26.0'
    # They write the same files; of two versions the later one would win.
    assert pins['opencv-python'] == pins['opencv-python-headless']
    for name in (*INSTALLED, 'tests', 'build'):
        for requirement in read_requirements(name):
            if requirement.marker and not requirement.marker.evaluate(
                    dict(python_version=python)):
                continue
            version = pins[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), requirement
    # For pip: the lock, without what only the tests need.
    constraints = read_pins(python, 'constraints')
    assert constraints.items() <= pins.items()
    assert {'pytest', 'ruff', 'lifelines'} <= set(pins) - set(constraints)
    needed = {canonicalize_name(requirement.name)
              for name in INSTALLED for requirement in read_requirements(name)}
    assert needed <= set(constraints) | {'setuptools'}


def test_lock_pins_one_version_and_one_openmmlab_family():
    for file in ('constraints', 'lock'):
        names = [canonicalize_name(r.name) for r in read_requirements(file)]
        assert len(names) == len(set(names))
    assert not {'mmengine', 'mmcv', 'mmpretrain', 'mmdet', 'mmsegmentation',
                'openmim'} & set(names)
    assert 'onedl-mmengine' in names


def test_lock_asks_for_cuda_on_linux_alone():
    cuda = [one for one in read_requirements('lock') if one.name.startswith(
        ('nvidia-', 'cuda-')) or one.name == 'triton']
    assert cuda
    for requirement in cuda:
        for platform in ('darwin', 'win32'):
            assert not requirement.marker.evaluate(
                dict(sys_platform=platform)), requirement


def test_the_image_installs_the_lock_with_the_uv_of_the_makefile():
    text = (ROOT / 'Dockerfile').read_text().replace('\\\n', ' ')
    wanted = re.search(r'^UV_VERSION := (\S+)$',
                       (ROOT / 'Makefile').read_text(), re.MULTILINE)[1]
    assert re.findall(r'\buv==(\S+)', text) == [wanted]
    before, _, after = text.partition('RUN pip install uv')
    assert 'COPY requirements requirements' in before
    for pins in ('cp requirements/lock.txt pins.txt',
                 "'^(nvidia|cuda|triton)' requirements/lock.txt",
                 '--requirements pins.txt'):
        assert pins in after
    copied = [name for line in re.findall(r'^COPY (.+)$', text, re.MULTILINE)
              for name in line.split()[:-1]]
    # What runs, and what is installed from.
    named = re.findall(r'\b(?:requirements|tools)/[\w./-]+', after)
    assert {'.', 'requirements/build.txt', 'tools/misc/doctor.py'} <= {
        *copied, *named}
    for name in (*copied, *named):
        assert (ROOT / name).exists(), name


def find_imports(folder):
    """Top-level names that the files below a folder import from elsewhere."""
    names = set()
    for file in folder.rglob('*.py'):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition('.')[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module.partition('.')[0])
    local = {file.stem for file in folder.rglob('*.py')}
    local |= {file.parent.name for file in folder.rglob('*.py')}
    return names - local - sys.stdlib_module_names - {'mmmedmask'}


def test_all_imports_are_required_somewhere():
    required = {
        canonicalize_name(requirement.name)
        for name in INSTALLED for requirement in read_requirements(name)}
    owners = metadata.packages_distributions()
    imported = find_imports(ROOT / 'mmmedmask') | find_imports(ROOT / 'tools')
    unknown = {name for name in imported if not required & set(
        map(canonicalize_name, owners.get(name, ())))}
    assert not unknown, f'in none of requirements/*.txt: {unknown}'


def list_files():
    """Files of the repository, without what runs leave behind."""
    command = ['git', '-C', ROOT, 'ls-files', '--cached', '--others',
               '--exclude-standard']
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        pytest.skip('not a git checkout: which files belong is not known')
    return [ROOT / line for line in result.stdout.splitlines()]


def test_no_file_names_an_index_or_a_path_of_one_machine():
    forbidden = re.compile(r'pypi[.]org|pythonhoste[d]|registry[.]npmjs|'
                           r'(?<![\w.~-])/(?:home|root|Users|work|tmp)/')
    found = []
    for file in list_files():
        try:
            text = file.read_text()
        except (UnicodeDecodeError, FileNotFoundError):
            continue
        found += [(file, line) for line in text.splitlines()
                  if forbidden.search(line)]
    assert found == []


def test_config_names_are_unique():
    # mim looks for a bare name below the whole root of an editable install.
    files = [file for file in list_files() if file.suffix == '.py']
    counts = Counter(file.name for file in files)
    configs = [file for file in files if file.is_relative_to(ROOT / 'configs')]
    assert len(configs) > 10
    assert [file for file in configs if counts[file.name] > 1] == []


def test_documents_name_configs_tools_and_tests_that_exist():
    documents = [file for file in list_files() if file.suffix == '.md']
    assert ROOT / 'README.md' in documents
    pattern = re.compile(r'(?<![\w/])(?:configs|tools)/[\w./-]+\.(?:py|sh)')
    assert [(document, path) for document in documents
            for path in pattern.findall(document.read_text())
            if not (ROOT / path).is_file()] == []
    pattern = re.compile(r'(?<![\w/])(?:tests/)?((?:test_\w+/)*test_\w+\.py)')
    assert [(document, path) for document in documents
            for path in pattern.findall(document.read_text())
            if not (ROOT / 'tests' / path).is_file()] == []


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """A copy to install from: installing writes into the folder."""
    folder = tmp_path_factory.mktemp('source')
    ignore = shutil.ignore_patterns('__pycache__', '.mim')
    for name in PACKED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=ignore)
        else:
            shutil.copy2(ROOT / name, folder / name)
    return folder


def install(folder, *arguments):
    """Make an environment on top of this one and install into it alone."""
    venv.create(folder, symlinks=os.name != 'nt')
    variables = dict(base=str(folder), platbase=str(folder))
    packages = Path(sysconfig.get_path('purelib', vars=variables))
    # Not the path alone: MMEngine needs distutils, which on Python >= 3.12
    # comes from a .pth file of setuptools. What is installed above wins.
    (packages / 'zz_parent.pth').write_text(
        f'import site; site.addsitedir({sysconfig.get_path("purelib")!r})\n')
    python = Path(sysconfig.get_path('scripts', vars=variables),
                  Path(sys.executable).name)
    run(sys.executable, '-m', 'pip', '--python', python, 'install', '--quiet',
        '--no-deps', '--no-index', '--no-build-isolation', '--no-compile',
        '--ignore-installed', *arguments, cwd=folder)
    return python


@pytest.fixture(scope='module')
def wheel(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp('wheel')
    run(sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps',
        '--no-index', '--no-build-isolation', '-w', folder, source)
    return next(folder.glob('*.whl'))


def test_wheel_content(source, wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        info = next(n for n in names if n.endswith('/METADATA'))
        message = archive.read(info).decode()
    info = info.partition('/')[0]
    # No tests, no scripts: anything that sorts first would be mim's root.
    assert {name.partition('/')[0] for name in names} == {'mmmedmask', info}
    for root in ('mmmedmask', info):
        packed = {name.removeprefix(f'{root}/.mim/')
                  for name in names if name.startswith(f'{root}/.mim/')}
        expected = {
            str(file.relative_to(source))
            for top in ('configs', 'tools') for file in (source / top).rglob(
                '*') if file.is_file() and file.suffix != '.pyc'}
        assert packed == expected | {'model-index.yml'}
    # A left-over of the build would make bare config names ambiguous.
    assert not (source / 'build' / 'lib').exists()
    required = [
        Requirement(line.partition(': ')[2])
        for line in message.splitlines() if line.startswith('Requires-Dist')]
    hard = {r.name for r in required if r.marker is None}
    assert 'torch' in hard
    assert not [name for name in hard if name.startswith(('onedl', 'mm'))]
    assert 'mmmedmask/py.typed' in names

    def of_extra(extra):
        return hard | {r.name for r in required
                       if r.marker and r.marker.evaluate(dict(extra=extra))}

    extras = set(re.findall(r'^Provides-Extra: (.+)$', message, re.MULTILINE))
    assert extras == {'all', 'demo', 'detection', 'encoders', 'experiments',
                      'export', 'genes', 'logging', 'mim', 'mminstall',
                      'openmmlab', 'plots', 'radiology', 'sam', 'segmentation',
                      'slides', 'storage', 'survival'}
    assert of_extra('all') == set.union(*map(of_extra, extras - {'sam'}))
    assert of_extra('openmmlab') == of_extra('mminstall') < of_extra('mim')
    for extra, name in (('detection', 'onedl-mmdetection'),
                        ('segmentation', 'onedl-mmsegmentation'),
                        ('slides', 'openslide-bin'), ('genes', 'pyarrow'),
                        ('survival', 'h5py'), ('encoders', 'timm'),
                        ('experiments', 'snakemake'), ('export', 'onnx'),
                        ('sam', 'transformers'), ('radiology', 'pydicom'),
                        ('storage', 'fsspec'), ('plots', 'umap-learn')):
        assert name in of_extra(extra) - of_extra('openmmlab')
    tests = {r.name for r in read_requirements('tests')}
    # The round trips of timm's networks run in the tests, too.
    assert of_extra('all') & tests <= {'pyyaml', 'setuptools', 'timm'}


@pytest.mark.slow_recipes
@pytest.mark.timeout(3600)
def test_pip_installs_the_wheel_in_a_fresh_environment(wheel, tmp_path):
    """Plain pip, all extras: it downloads some GB."""
    venv.create(tmp_path / 'environment', with_pip=True)
    python = tmp_path / 'environment' / (
        'Scripts' if os.name == 'nt' else 'bin') / 'python'
    run(python, '-m', 'pip', 'install', '--quiet', '-c',
        ROOT / 'constraints.txt', f'{wheel}[all]', cwd=tmp_path)
    run(python, '-m', 'pip', 'check', cwd=tmp_path)
    pins = read_pins('.'.join(map(str, sys.version_info[:2])), 'constraints')
    installed = dict(line.split('==') for line in run(
        python, '-m', 'pip', 'list', '--format=freeze',
        cwd=tmp_path).splitlines())
    installed = {canonicalize_name(name): version
                 for name, version in installed.items()}
    assert installed.items() - pins.items() == {
        ('mmmedmask', installed['mmmedmask'])}
    run(python, '-c', 'import mmmedmask.setup_env as setup; '
        'setup.register_all_modules(); import mmdet.models, mmseg.models, '
        'mim, snakemake, timm', cwd=tmp_path)


@pytest.fixture(scope='module')
def tiles(tmp_path_factory):
    folder = tmp_path_factory.mktemp('tiles')
    random = np.random.default_rng(0)
    for number in range(4):
        pixels = random.integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f'{number}.png')
    return folder


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['wheel', 'editable'])
def test_mim_trains_by_bare_config_name(request, tmp_path, tiles, kind):
    if kind == 'wheel':
        arguments = [request.getfixturevalue('wheel')]
    else:
        arguments = ['--editable', request.getfixturevalue('source')]
    python = install(tmp_path / 'environment', *arguments)
    here = tmp_path / 'empty'
    here.mkdir()
    config = next((ROOT / 'configs/cmim/small').glob('cmim_resnet18_*.py'))
    output = run(
        python, '-m', 'mim', 'train', 'mmmedmask', config.name, '--gpus', '0',
        '--work-dir', here / 'run', '--cfg-options',
        f'train_dataloader.dataset.data_root={tiles}',
        'train_dataloader.batch_size=4', 'train_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False', 'train_cfg.max_epochs=1',
        'param_scheduler=None',
        'default_hooks.checkpoint.interval=1', 'default_hooks.probe=None',
        'default_hooks.loss_floors=None',
        'default_hooks.reconstruction_panel=None',
        'model.data_preprocessor.view_size=32', cwd=here)
    root = str(tmp_path / 'environment') if kind == 'wheel' else str(
        request.getfixturevalue('source'))
    assert f'will use {root}' in output
    assert (here / 'run' / 'epoch_1.pth').is_file(), output
    # The same configs can be inherited, from anywhere.
    child = here / 'child.py'
    child.write_text(f"_base_ = 'mmmedmask::cmim/small/{config.name}'\n")
    # Tools run by their names, from anywhere.
    assert "type='mmmedmask.CMIM'" in run(
        python, '-m', 'mim', 'run', 'mmmedmask', 'print_config', child.name,
        cwd=here)
    code = ('import mmmedmask; from mmengine.config import Config; '
            'print(mmmedmask.__file__); '
            "print(Config.fromfile('child.py').model.type)")
    lines = run(python, '-c', code, cwd=here).splitlines()
    file, model = lines[-2:]
    assert file.startswith(root)
    assert model == 'mmmedmask.CMIM'


def run_make(folder, *arguments, status=0):
    if shutil.which('make') is None:
        pytest.skip('there is no make')
    # What the make that runs these tests has set is not for this one.
    return run('make', *arguments, cwd=folder, status=status, MAKEFLAGS='',
               MAKELEVEL='', PATH=os.environ['PATH'])


@pytest.fixture
def checkout(tmp_path):
    """As much of a checkout as the Makefile looks at, before its tools."""
    shutil.copytree(ROOT / 'requirements', tmp_path / 'requirements')
    for name in ('Makefile', 'setup.py'):
        shutil.copy2(ROOT / name, tmp_path / name)
    return tmp_path


def make_command(file, script):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f'#!/bin/sh\n{script}\n')
    file.chmod(0o755)


@pytest.mark.parametrize('target', ['demo', 'test'])
def test_make_says_which_python_it_takes(checkout, target):
    old = checkout / 'old' / 'python3'
    make_command(old, 'test "$1" = --version && echo Python 3.8.1\nexit 1')
    for python, shown in (('no-such-python', ''), (old, 'Python 3.8.1')):
        output = run_make(checkout, target, f'PYTHON={python}', status=2)
        assert f'It takes Python 3.11 to 3.13, and {python} is not' in output
        assert shown in output
        assert f'make PYTHON=python3.12 {target}' in output
    assert not (checkout / '.venv').exists()


def test_make_installs_once_and_again_after_a_change(checkout):
    log = checkout / 'log'
    for name in ('python', 'uv'):
        make_command(checkout / '.venv' / 'bin' / name,
                     f'echo {name} "$@" >>{log}')
    run_make(checkout, 'test')
    steps = log.read_text().splitlines()
    assert [step.split()[:4] for step in steps] == [
        ['python', '-m', 'pip', 'install'],
        ['uv', 'pip', 'install', '--quiet'],
        ['uv', 'pip', 'install', '--quiet'], ['python', '-m', 'pytest', '-n']]
    assert '--requirements requirements/lock.txt' in steps[1]
    assert '--compile-bytecode' in steps[1]
    assert '--editable .' in steps[2]
    log.unlink()
    run_make(checkout, 'demo')
    assert log.read_text() == 'python tools/demo.py\n'
    stamp = checkout / '.venv' / 'mmmedmask-installed'
    later = stamp.stat().st_mtime + 10
    os.utime(checkout / 'requirements' / 'lock.txt', (later, later))
    log.unlink()
    run_make(checkout, 'demo')
    assert len(log.read_text().splitlines()) == 4


@pytest.mark.parametrize(('broken', 'advice'), [
    ('pip install', 'Could not install uv: check the network'),
    ('lock.txt', 'Could not install all packages'),
    ('--editable', 'Could not install mmmedmask itself'),
    ('pytest', 'Tests failed: see the summary above')])
def test_make_says_what_to_do_after_a_failure(checkout, broken, advice):
    # uv takes `pip install` as well: only Python's is to fail for that.
    for name in ('python', 'uv'):
        pattern = 'none' if name == 'uv' and broken == 'pip install' \
            else broken
        make_command(checkout / '.venv' / 'bin' / name,
                     f'case "$*" in *"{pattern}"*) exit 1;; esac')
    assert advice in run_make(checkout, 'test', status=2)
    installed = (checkout / '.venv' / 'mmmedmask-installed').exists()
    assert installed == (broken == 'pytest')


def test_make_cleans_what_its_help_says(checkout):
    kept = 'work_dirs/run/best.pth', 'data/a.png', 'demo_output/index.html'
    for name in (*kept, 'build/a', 'dist/a', 'site/a', 'a.egg-info/a',
                 '.pytest_cache/a', '.ruff_cache/a', 'tools/__pycache__/a'):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).touch()
    before = set(os.listdir(checkout))
    assert 'runs and data stay' in run_make(checkout, 'help')
    run_make(checkout, 'clean')
    assert before - set(os.listdir(checkout)) == {
        'build', 'dist', 'site', 'a.egg-info', '.pytest_cache', '.ruff_cache'}
    assert not (checkout / 'tools/__pycache__').exists()
    assert all((checkout / name).is_file() for name in kept)


def test_continuous_integration_makes_test(tmp_path):
    script = tmp_path / 'project' / '.ci' / 'run'
    script.parent.mkdir(parents=True)
    shutil.copy2(ROOT / '.ci' / 'run', script)
    make_command(tmp_path / 'bin' / 'make', 'echo "$PWD: $*"; exit 3')
    path = f'{tmp_path / "bin"}{os.pathsep}{os.environ["PATH"]}'
    output = run(script, status=3, PATH=path)
    assert output == f'{tmp_path / "project"}: test\n'
