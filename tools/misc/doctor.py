"""Tell whether this machine is ready, and what to do where it is not.

    python tools/misc/doctor.py [--data-root data] [--json FILE]

A line for each check: green, yellow (optional, or worth a look) or red, with
the mend. The exit status is 1 if a line is red. It reports as well where
torch, a package of OpenMMLab or mmmedmask itself is missing or broken, so it
imports nothing but the standard library by itself.
"""

import argparse
import contextlib
import functools
import importlib
import importlib.metadata
import importlib.util
import io
import json
import operator
import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from status_lines import print_line, print_summary

GIB = 2**30
PYTHON_VERSIONS = ((3, 11), (3, 13))
#: torch 2.N goes with torchvision 0.(N + 15).
TORCHVISION_OFFSET = 15
#: Bytes below which a disk is red, and yellow.
DISK_LIMITS = (2 * GIB, 10 * GIB)
#: What the loaders of whole bags keep in shared memory at most.
SHARED_MEMORY = 4 * GIB
#: Bytes of memory below which it is red, and yellow.
MEMORY_LIMITS = (2 * GIB, 8 * GIB)
#: What nms keeps of some boxes, at an IoU of 0.5.
BOXES = [[0., 0., 9., 9.], [0., 0., 9., 8.], [20., 20., 29., 29.]]
SCORES, KEPT = [.9, .8, .7], [0, 2]
#: Host library to whether everything needs it.
HOSTS = {'mmpretrain': True, 'mmdet': False, 'mmseg': False}
#: What nothing works without; the other files of requirements/ are extras.
NEEDED = ('runtime', 'mminstall', 'openmmlab')
FORKS_MEND = "pip install 'mmmedmask[mim,detection,segmentation]'"


class Line(NamedTuple):
    """One line of the report."""

    status: str
    check: str
    message: str
    mend: str = ''


green, yellow, red = (functools.partial(Line, status)
                      for status in ('green', 'yellow', 'red'))
Check = Callable[[argparse.Namespace], Iterator[Line]]


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--data-root', default='data', metavar='DIR',
        help='folder with the data sets (default: %(default)s)')
    parser.add_argument(
        '--work-dirs', default='work_dirs', metavar='DIR',
        help='folder that runs write to (default: %(default)s)')
    parser.add_argument(
        '--json', metavar='FILE', help='write the report into a file too')
    return parser.parse_args(argv)


def package_folder() -> Path | None:
    """Find the package's folder beside this file, without importing it.

    In a checkout the tools lie beside it, in a wheel below it (``.mim``) or
    in the folder of the distribution.
    """
    here = Path(__file__).resolve()
    candidates = [here.parents[2] / 'mmmedmask']
    if len(here.parents) > 4:
        candidates += [here.parents[3], here.parents[4] / 'mmmedmask']
    return next((folder for folder in candidates
                 if (folder / 'version.py').is_file()), None)


def load_alone(path: str) -> ModuleType | None:
    """Load a module of the package that needs only the standard library."""
    folder = package_folder()
    if folder is None or not (folder / path).is_file():
        return None
    name = f'doctor_{Path(path).stem}'
    spec = importlib.util.spec_from_file_location(name, folder / path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def families() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return import name to (fork, originals) of what OpenMMLab installs."""
    module = load_alone('compat/families.py')
    return module.FAMILIES if module else {}


def version_of(distribution: str) -> str | None:
    """Return an installed version, or ``None``."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def with_versions(names: Iterable[str]) -> str:
    """List the distributions that are installed, with their versions."""
    return ', '.join(f'{name} {version_of(name)}' for name in names
                     if version_of(name))


def parse_version(text: str) -> tuple[int, ...]:
    """Read the numbers of a version, as far as they are separated by dots."""
    numbers = re.match(r'\d+(\.\d+)*', text)
    return tuple(map(int, numbers[0].split('.'))) if numbers else ()


def satisfies(version: str, condition: str) -> bool:
    """Compare a version with a condition such as ``'>=2.4'``."""
    match = re.fullmatch(r'(>=|<=|==|<|>|!=)\s*([\w.]+)', condition.strip())
    if not match:
        return True
    mine, other = parse_version(version), parse_version(match[2])
    length = max(len(mine), len(other))
    mine += (0, ) * (length - len(mine))
    other += (0, ) * (length - len(other))
    compare = {'>=': operator.ge, '<=': operator.le, '==': operator.eq,
               '!=': operator.ne, '<': operator.lt, '>': operator.gt}
    return compare[match[1]](mine, other)


def gib(number: float) -> str:
    """Write bytes in GiB."""
    return f'{number / GIB:.1f} GiB'


def short(error: BaseException) -> str:
    """Put an error on one line."""
    text = ' '.join(str(error).split())
    return f'{type(error).__name__}: {text[:300]}'


def check_python(args: argparse.Namespace) -> Iterator[Line]:
    """Check the version of Python."""
    low, high = PYTHON_VERSIONS
    text = f'{sys.version.split()[0]} in {sys.prefix}'
    if low <= sys.version_info[:2] <= high:
        yield green('Python', text)
    else:
        yield red('Python', f'{text}, and 3.{low[1]} to 3.{high[1]} are '
                  'needed', 'make a new environment with one of these: make '
                  f'PYTHON=python3.{low[1] + 1} test')


def check_torch(args: argparse.Namespace) -> Iterator[Line]:
    """Check that torch and torchvision are a pair, and that they work."""
    try:
        import torch
    except Exception as error:
        yield red('torch', f'cannot be imported: {short(error)}',
                  "pip install 'torch>=2.4' 'torchvision>=0.19'")
        return
    if satisfies(torch.__version__, '>=2.4'):
        yield green('torch', torch.__version__)
    else:
        yield red('torch', f'{torch.__version__} is too old',
                  "pip install --upgrade 'torch>=2.4' torchvision")
    minor = parse_version(torch.__version__)[1]
    partner = f'0.{minor + TORCHVISION_OFFSET}'
    mend = (f"pip install 'torchvision=={partner}.*' (the one that goes "
            f'with torch {torch.__version__})')
    try:
        import torchvision
        kept = torchvision.ops.nms(
            torch.tensor(BOXES), torch.tensor(SCORES), .5).tolist()
    except Exception as error:
        yield red('torchvision', f'does not work: {short(error)}', mend)
        return
    version = torchvision.__version__
    if kept != KEPT:
        yield red('torchvision', f'{version}: its nms keeps the wrong boxes '
                  f'({kept} of {KEPT})', mend)
    elif parse_version(torch.__version__)[0] == 2 \
            and parse_version(version)[:2] != parse_version(partner):
        yield yellow('torchvision', f'{version} is not the partner of torch '
                     f'{torch.__version__}, although its ops run', mend)
    else:
        yield green('torchvision', f'{version}, its ops run')


def _driver() -> str | None:
    """Return what the NVIDIA driver says of itself, or ``None``."""
    program = shutil.which('nvidia-smi')
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, '--query-gpu=driver_version', '--format=csv,noheader'],
            capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.split()
    return lines[0] if done.returncode == 0 and lines else None


def check_cuda(args: argparse.Namespace) -> Iterator[Line]:
    """Check driver, devices and NCCL."""
    import torch
    driver = _driver()
    built = torch.version.cuda
    if not torch.cuda.is_available():
        if driver is None:
            yield yellow('CUDA', 'no GPU: good for trying out, too slow for '
                         'the runs of the papers',
                         'train on a machine with an NVIDIA GPU')
        else:
            yield red(
                'CUDA', f'there is a driver ({driver}), and torch '
                f'{torch.__version__} (built for CUDA {built}) sees no '
                'device', 'update the driver, or install the torch that is '
                'built for it; CUDA_VISIBLE_DEVICES is '
                f'{os.environ.get("CUDA_VISIBLE_DEVICES", "not set")}')
        return
    yield green('CUDA', f'runtime {built}, driver {driver}')
    for number in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(number)
        free, total = torch.cuda.mem_get_info(number)
        torch.ones(8, device=f'cuda:{number}').sum().item()
        yield green(f'GPU {number}',
                    f'{device.name}, {gib(free)} of {gib(total)} free')
    if torch.distributed.is_nccl_available():
        yield green('NCCL', '.'.join(map(str, torch.cuda.nccl.version())))
    elif torch.cuda.device_count() > 1:
        yield red('NCCL', 'torch has none, so several GPUs cannot train '
                  'together', 'install an official build of torch')


def check_families(args: argparse.Namespace) -> Iterator[Line]:
    """Check which family of OpenMMLab is installed, and that it is one."""
    module = load_alone('compat/families.py')
    if module is None:
        yield red('OpenMMLab', 'the folder of mmmedmask is not complete: '
                  'compat/families.py is missing',
                  'install mmmedmask again: pip install -e .')
        return
    clashes = module.find_family_clashes()
    if clashes:
        names = [name for owners in clashes.values() for name in owners]
        listing = '; '.join(f'{name}: {" and ".join(owners)}'
                            for name, owners in clashes.items())
        yield red('OpenMMLab', 'both families are installed and write to the '
                  f'same folders ({listing})', 'remove both and install one '
                  f'again: pip uninstall -y {" ".join(names)} && {FORKS_MEND}')
        return
    forks = with_versions(fork for fork, _ in module.FAMILIES.values())
    originals = with_versions(name for _, others in module.FAMILIES.values()
                              for name in others)
    if forks and originals:
        yield yellow('OpenMMLab', 'packages of two families side by side: '
                     f'{forks}; {originals}',
                     f'take all from one family: {FORKS_MEND}')
    elif forks:
        yield green('OpenMMLab', f'the maintained forks: {forks}')
    elif originals:
        yield yellow('OpenMMLab', f'the originals: {originals}; they cannot '
                     'resume on torch >= 2.6', 'take the maintained forks in '
                     f'a new environment: {FORKS_MEND}')
    else:
        yield red('OpenMMLab', 'neither family is installed', FORKS_MEND)


def _requirements() -> Iterator[tuple[str, str]]:
    """Yield the name of a list, or extra, and a requirement in it."""
    folder = package_folder()
    lists = folder.parent / 'requirements' if folder else None
    if lists is not None and (lists / 'runtime.txt').is_file():
        for file in sorted(lists.glob('*.txt'),
                           key=lambda file: file.stem not in NEEDED):
            if file.stem in ('build', 'docs', 'lock', 'tests'):
                continue
            for line in file.read_text().splitlines():
                line = line.partition('#')[0].strip()
                if line:
                    yield file.stem, line
        return
    try:
        listed = importlib.metadata.requires('mmmedmask') or []
    except importlib.metadata.PackageNotFoundError:
        return
    given = set()
    for line in listed:
        extra = re.search(r'extra\s*==\s*["\'](\w+)["\']', line)
        requirement = re.sub(r'\s*(and\s+)?extra\s*==.*', '', line)
        name = extra[1] if extra else 'runtime'
        # Some extras hold others, `all` holds them all.
        if requirement not in given:
            given.add(requirement)
            yield name, requirement


def _applies(marker: str) -> bool:
    """Decide a condition on the version of Python; others hold."""
    match = re.search(r'python_version\s*(>=|<=|==|<|>)\s*["\']([\d.]+)',
                      marker)
    version = '.'.join(map(str, sys.version_info[:2]))
    return not match or satisfies(version, match[1] + match[2])


def check_versions(args: argparse.Namespace) -> Iterator[Line]:
    """Compare what is installed with the requirements."""
    originals = dict(families().values())
    counts: dict[str, int] = {}
    wrong: list[Line] = []
    for file, requirement in _requirements():
        needed, _, marker = requirement.partition(';')
        name = re.match(r'[\w.-]+', needed)[0]
        if not _applies(marker):
            continue
        version = version_of(name)
        if version is None and any(map(version_of, originals.get(name, ()))):
            # Of the other family, which numbers its versions differently.
            continue
        conditions = needed[len(name):].split(',')
        fits = version is not None and all(
            satisfies(version, condition) for condition in conditions)
        counts[file] = counts.get(file, 0) + fits
        if not fits:
            has = 'is not installed' if version is None else f'is {version}'
            wrong.append((red if file in NEEDED else yellow)(
                'package', f'{name} {has}, needed is {needed.strip()!r} '
                f'({file})', f"pip install '{needed.strip()}'"))
    yield from wrong
    if counts and not wrong:
        listed = ', '.join(f'{count} of {name}'
                           for name, count in counts.items())
        yield green('packages', f'all requirements are met ({listed})')
    elif not counts:
        yield yellow('packages', 'the requirements are not found',
                     'install mmmedmask: pip install -e .')


def check_mmmedmask(args: argparse.Namespace) -> Iterator[Line]:
    """Check that the package itself can be imported."""
    folder = package_folder()
    mend = 'install it: pip install --no-deps -e . (or see the lines above)'
    try:
        package = importlib.import_module('mmmedmask')
    except Exception as error:
        yield red('mmmedmask', f'cannot be imported: {short(error)}', mend)
        return
    place = Path(package.__file__).parent
    text = f'{package.__version__} in {place}'
    if folder is not None and place.resolve() != folder.resolve():
        yield yellow('mmmedmask', f'{text}, and this tool belongs to {folder}',
                     f'pip install -e {folder.parent}')
    else:
        yield green('mmmedmask', text)


def check_mmcv_ops(args: argparse.Namespace) -> Iterator[Line]:
    """Check where mmcv's ops come from, and that they give what they should.
    """
    import torch
    mend = ('import mmmedmask before mmcv.ops, or compile them: pip install '
            '--force-reinstall --no-deps --no-cache-dir '
            '--no-build-isolation onedl-mmcv')
    source = 'mmcv'
    with contextlib.suppress(Exception):
        from mmmedmask.compat import has_compiled_ops
        source = "compiled with mmcv" if has_compiled_ops() else \
            "supplied by mmmedmask from torchvision's"
    try:
        ops = importlib.import_module('mmcv.ops')
        kept = ops.nms(torch.tensor(BOXES), torch.tensor(SCORES), .5
                       )[1].tolist()
        # Bins of 2 x 2 pixels of a ramp have the means of their corners.
        ramp = torch.arange(16.).reshape(1, 1, 4, 4)
        means = ops.roi_align(ramp, torch.tensor([[0., 0., 0., 4., 4.]]),
                              (2, 2), 1.0, 2, 'avg', True).flatten().tolist()
    except Exception as error:
        yield red('mmcv ops', f'do not run: {short(error)}', mend)
        return
    if kept != KEPT or any(
            abs(mean - wanted) > 1e-4 for mean, wanted in zip(
                means, (2.5, 4.5, 10.5, 12.5), strict=True)):
        yield red('mmcv ops', f'nms keeps {kept}, roi_align gives {means}: '
                  'both are wrong or one is', mend)
        return
    yield green('mmcv ops', f'{source}; nms and roi_align run')


def check_scopes(args: argparse.Namespace) -> Iterator[Line]:
    """Check that the libraries behind the default scopes can be imported."""
    for scope, needed in HOSTS.items():
        package = families().get(scope, (scope, ))[0]
        try:
            is_installed = importlib.util.find_spec(scope) is not None
        except (ImportError, ValueError):
            is_installed = False
        if not is_installed:
            yield (red if needed else yellow)(
                'scope', f'{scope} is not installed: its configs cannot run',
                f'pip install {package}')
            continue
        try:
            module = importlib.import_module(scope)
            importlib.import_module(f'{scope}.models')
        except Exception as error:
            yield red('scope', f'{scope} cannot be imported: {short(error)}',
                      'see the lines on packages and families; pip install '
                      f'--force-reinstall --no-deps {package}')
            continue
        yield green('scope', f'{scope} {getattr(module, "__version__", "")} '
                    'with its models')


def check_mim(args: argparse.Namespace) -> Iterator[Line]:
    """Check that mim is there and finds the configs of the package."""
    try:
        utils = importlib.import_module('mim.utils')
    except Exception as error:
        yield yellow('mim', f'cannot be imported ({short(error)}); '
                     'tools/train.py does the same', 'pip install onedl-mim')
        return
    mend = 'install mmmedmask, from its folder: pip install --no-deps -e .'
    try:
        root = Path(utils.get_installed_path('mmmedmask'))
    except Exception as error:
        yield yellow('mim', f'does not find mmmedmask: {short(error)}', mend)
        return
    folders = [root / '.mim' / 'configs', root / 'configs']
    count = sum(1 for folder in folders if folder.is_dir()
                for _ in folder.rglob('*.py'))
    if count:
        yield green('mim', f'finds {count} config files below {root}')
    else:
        yield yellow('mim', f'finds no configs below {root}', mend)


def by_limits(free: float, limits: tuple[int, int]) -> Callable[..., Line]:
    """Choose the line for a number of bytes, by a lower and an upper limit."""
    low, enough = limits
    return red if free < low else yellow if free < enough else green


def check_disk(args: argparse.Namespace) -> Iterator[Line]:
    """Check free space, and that runs may write."""
    work_dirs = Path(args.work_dirs)
    place = work_dirs.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    yield by_limits(free, DISK_LIMITS)(
        'disk', f'{gib(free)} free for {work_dirs}',
        f'{gib(DISK_LIMITS[1])} are good to have: a checkpoint of a ViT-B '
        'takes 1 GiB; free some, or run elsewhere with --work-dir')
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        yield red('work_dirs', f'{place} cannot be written: {short(error)}',
                  'change its owner or its permissions, or name another '
                  'folder with --work-dir')
    else:
        yield green('work_dirs', f'{place} can be written')


def check_shared_memory(args: argparse.Namespace) -> Iterator[Line]:
    """Check the space through which workers hand over their batches."""
    folder = Path('/dev/shm')
    if not folder.is_dir():
        return
    free = shutil.disk_usage(folder).free
    if free >= SHARED_MEMORY:
        yield green('shared memory', f'{gib(free)} free in {folder}')
    else:
        yield yellow('shared memory', f'{gib(free)} free in {folder}: worker '
                     'processes may end in "bus error"',
                     'give a container more (docker run --shm-size=8g or '
                     '--ipc=host), or take train_dataloader.num_workers=0')


def _number(file: str) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int(Path(file).read_text().split()[0])
    return None


def check_machine(args: argparse.Namespace) -> Iterator[Line]:
    """Count cores and memory, as far as this process may use them."""
    from mmmedmask.experiments.environment import usable_cores
    cores = usable_cores()
    yield (green if cores > 1 else yellow)(
        'cores', f'{cores}', 'with one core, loading and training take '
        'turns: train_dataloader.num_workers=0')
    total = available = None
    with contextlib.suppress(OSError):
        meminfo = Path('/proc/meminfo').read_text()
        sizes = dict(re.findall(r'(\w+):\s+(\d+) kB', meminfo))
        total = int(sizes.get('MemTotal', 0)) * 1024
        available = int(sizes.get('MemAvailable', 0)) * 1024
    for file in ('/sys/fs/cgroup/memory.max',
                 '/sys/fs/cgroup/memory/memory.limit_in_bytes'):
        limit = _number(file)
        if limit and total and limit < total:
            total, available = limit, min(limit, available)
    if not total:
        return
    yield by_limits(total, MEMORY_LIMITS)(
        'memory', f'{gib(available)} of {gib(total)} available',
        'take fewer workers and a smaller batch')


def check_data(args: argparse.Namespace) -> Iterator[Line]:
    """Look for the data sets of the documentation."""
    known = load_alone('inspection/known_data.py')
    if known is None:
        yield yellow('data', 'the list of data sets is missing',
                     'install mmmedmask again: pip install -e .')
        return
    for name, data in known.KNOWN_DATA.items():
        folder = Path(args.data_root, name)
        mend = known.suggest_data(folder)
        if not folder.exists():
            yield yellow('data', f'{data.title} is not there ({folder})', mend)
            continue
        missing = known.missing_files(folder, data)
        if missing:
            yield red('data', f'{data.title} in {folder} is not complete: '
                      f'{", ".join(missing)} missing', mend)
        else:
            yield green('data', f'{data.title} in {folder}')


# What takes a moment comes last: each line is shown as soon as it is known.
CHECKS: tuple[tuple[str, Check], ...] = (
    ('Python', check_python), ('OpenMMLab', check_families),
    ('packages', check_versions), ('mmmedmask', check_mmmedmask),
    ('disk', check_disk), ('shared memory', check_shared_memory),
    ('machine', check_machine), ('data', check_data), ('torch', check_torch),
    ('CUDA', check_cuda), ('mmcv ops', check_mmcv_ops), ('mim', check_mim),
    ('scope', check_scopes))


def run_check(name: str, check: Check, args: argparse.Namespace) -> list[Line]:
    """Run one check; whatever it raises becomes a red line."""
    lines: list[Line] = []
    sink = io.StringIO()
    try:
        # What libraries print on import is not part of the report.
        with warnings.catch_warnings(), contextlib.redirect_stdout(sink), \
                contextlib.redirect_stderr(sink):
            warnings.simplefilter('ignore')
            lines += check(args)
    except ImportError as error:
        lines.append(red(name, f'not checked, an import fails: {short(error)}',
                         'see the lines above'))
    except Exception as error:
        lines.append(red(name, f'the check failed: {short(error)}',
                         'see the message'))
    return lines


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    lines: list[Line] = []
    for name, check in CHECKS:
        check_lines = run_check(name, check, args)
        for line in check_lines:
            print_line(line.status, line.check, line.message, mend=line.mend)
        lines += check_lines
    print_summary([line.status for line in lines])
    if args.json:
        try:
            Path(args.json).write_text(
                json.dumps([line._asdict() for line in lines], indent=2),
                encoding='utf-8')
        except OSError as error:
            raise SystemExit(f'doctor.py: {error}') from None
    if any(line.status == 'red' for line in lines):
        raise SystemExit(1)


if __name__ == '__main__':
    ending = load_alone('util/run_tool.py')
    ending.run_tool(main) if ending else main()
