"""Arguments that the tools share; they cost nothing until they are given."""

import argparse
import os
from collections.abc import Sequence


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
        action(parser, namespace, values, option_string)


def add_config_options(
        parser: argparse.ArgumentParser,
        help: str = 'override settings, e.g. train_dataloader.batch_size=4'
) -> None:
    """Add ``--cfg-options KEY=VALUE ...``, which becomes a dict or None.

    Values are read as MMEngine's ``DictAction`` reads them: numbers, truth
    values, ``None``, lists and tuples, else text.

    Args:
        parser: The tool's parser.
        help: What the option overrides.
    """
    parser.add_argument(
        '--cfg-options', nargs='+', action=_ConfigOptions,
        metavar='KEY=VALUE', help=help)


def add_launcher(parser: argparse.ArgumentParser) -> None:
    """Add ``--launcher`` and ``--local_rank``, as in all of OpenMMLab.

    Args:
        parser: The tool's parser.
    """
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what started the processes (see dist_*.sh, slurm_*.sh)')
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, default=0,
        help='set by torch.distributed.launch')


def set_local_rank(args: argparse.Namespace) -> None:
    """Put ``--local_rank`` where MMEngine looks for it.

    Args:
        args: What a parser with :func:`add_launcher` returned.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
