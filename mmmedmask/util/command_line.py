"""Arguments that the tools share; they cost nothing until they are given."""

import argparse
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mmmedmask.util.checks import check_not_read
from mmmedmask.util.nested import walk_nested

# DictAction takes all blanks out of a value, those within a path too. Those
# beside commas and brackets mean nothing, if it is a list or a tuple.
_INNER_BLANKS = re.compile(r'(?<=[^\s,(\[]) +(?=[^\s,)\]])')
_STAND_IN = '\x1f'
#: Endings of pictures that tools write.
PICTURES = ('.png', '.jpg', '.jpeg', '.tif', '.tiff', '.webp')


class _ConfigOptions(argparse.Action):
    """MMEngine's ``DictAction``, which takes half a second to import."""

    def __call__(self, parser: argparse.ArgumentParser,
                 namespace: argparse.Namespace, values: Sequence[str],
                 option_string: str | None = None) -> None:
        """See :meth:`argparse.Action.__call__`."""
        from mmengine.config import DictAction
        for value in values:
            if not value.partition('=')[0] or '=' not in value:
                raise argparse.ArgumentError(
                    self, f'{value!r} is not KEY=VALUE, such as '
                    'train_dataloader.batch_size=4')
        action = DictAction(self.option_strings, self.dest, nargs='+')
        try:
            action(parser, namespace, list(map(_hide_blanks, values)),
                   option_string)
        except AssertionError as error:
            raise argparse.ArgumentError(
                self, str(error).replace(_STAND_IN, ' ')) from None
        setattr(namespace, self.dest,
                _with_blanks(getattr(namespace, self.dest)))


def _hide_blanks(option: str) -> str:
    key, _, value = option.partition('=')
    value = value.strip()
    if ',' not in value and not value.strip('\'"').startswith(('(', '[')):
        return f'{key}={value.replace(" ", _STAND_IN)}'
    return f'{key}=' + _INNER_BLANKS.sub(
        lambda blanks: _STAND_IN * len(blanks[0]), value)


def _with_blanks(value: object) -> object:
    """Put blanks back, within dicts, lists and tuples too."""
    if isinstance(value, str):
        return value.replace(_STAND_IN, ' ')
    if isinstance(value, dict):
        return {key: _with_blanks(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_with_blanks, value))
    return value


def add_config_options(
        parser: argparse.ArgumentParser,
        help: str = 'override settings, e.g. train_dataloader.batch_size=4'
) -> None:
    """Add ``--cfg-options KEY=VALUE ...``, which becomes a dict or None.

    Values are read as MMEngine's ``DictAction`` reads them: numbers, truth
    values, ``None``, lists and tuples, else text, whose blanks stay.
    """
    parser.add_argument('--cfg-options', nargs='+', action=_ConfigOptions,
                        metavar='KEY=VALUE', help=help)


class DeviceError(argparse.ArgumentTypeError, ValueError):
    """There is no such device; parsers say it as it stands."""


def check_device(name: str) -> str:
    """Return the name of a device, if there is one.

    Example:
        >>> check_device('cpu')
        'cpu'
    """
    if name != 'cpu':
        import torch
        try:
            torch.empty(1, device=name)
        # Builds of PyTorch for CPUs alone assert that they are not.
        except (RuntimeError, AssertionError) as error:
            raise DeviceError(f'there is no device {name!r}: '
                              f'{str(error).splitlines()[0]}') from None
    return name


#: Arguments of ``--device``, which has to be there.
DEVICE = dict(type=check_device, default='cpu',
              help='e.g. cuda:0 (default: %(default)s)')


def check_overwrites(args: argparse.Namespace, outputs: Sequence[str],
                     files: Iterable[Path] = ()) -> None:
    """Refuse to write over a file that another argument names.

    Args:
        outputs: The arguments that name what is written.
        files: More files that are written.

    Example:
        >>> _ = Path('tiles.csv').write_text('path,label')
        >>> check_overwrites(argparse.Namespace(
        ...     data='tiles.csv', out=Path('./tiles.csv')), ['out'])
        Traceback (most recent call last):
        ValueError: writing tiles.csv would overwrite tiles.csv, which is ...
    """
    values = dict(vars(args))
    written = [values.pop(name) for name in outputs]
    check_not_read(
        [*files, *(path for path in written if path is not None)],
        (value for _, value in walk_nested(values)
         if isinstance(value, str | Path)))


def output_file(text: str) -> Path:
    """Type of an option: a file that can be written.

    What is wrong with it is said before the work whose result it gets.

    Example:
        >>> output_file('.')
        Traceback (most recent call last):
        argparse.ArgumentTypeError: '.' is a folder: name a file
    """
    if not text or os.path.isdir(text):
        raise argparse.ArgumentTypeError(
            f'{text!r} is a folder: name a file' if text
            else 'must be the name of a file, got an empty text')
    output_folder(os.path.dirname(text))
    return Path(text)


def output_folder(text: str) -> Path:
    """Type of an option: a folder, there or not, that can be written to."""
    place = os.path.abspath(text)
    while not os.path.exists(place):
        place = os.path.dirname(place)
    if not os.path.isdir(place):
        raise argparse.ArgumentTypeError(f'{place} is no folder')
    if not os.access(place, os.W_OK):
        raise argparse.ArgumentTypeError(f'{place} cannot be written to')
    return Path(text)


def file_ending(*endings: str) -> Callable[[str], Path]:
    """Make the type of an option: an output file with one of these endings.

    Example:
        >>> file_ending('.csv', '.npz')('out/vectors.npz').name
        'vectors.npz'
    """
    def parse(text: str) -> Path:
        if Path(text).suffix.lower() not in endings:
            raise argparse.ArgumentTypeError(
                f'must end with {" or ".join(endings)}, got {text!r}')
        return output_file(text)
    return parse


def parse_launched(parser: argparse.ArgumentParser,
                   argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse ``--launcher`` and ``--local_rank``, too, as all of OpenMMLab.

    The rank is put where MMEngine looks for it, and a port for Slurm's.
    """
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what started the processes (see dist_*.sh, slurm_*.sh)')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0,
                        help='set by torch.distributed.launch')
    args = parser.parse_args(argv)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if args.launcher == 'slurm' and 'SLURM_JOB_ID' in os.environ:
        os.environ.setdefault('MASTER_PORT', str(slurm_port(
            int(os.environ['SLURM_JOB_ID']),
            int(os.environ.get('SLURM_STEP_ID', 0)))))
    return args


def slurm_port(job: int, step: int) -> int:
    """Choose a port where the processes of a step of a job meet.

    Jobs of one node have numbers near each other, and have different ports;
    they met at 29500. Systems open ports from 32768 on by themselves.

    Example:
        >>> slurm_port(70, 0), slurm_port(70, 1), slurm_port(71, 0)
        (12170, 12171, 12201)
    """
    return 10_000 + (31 * job + step) % 20_000
