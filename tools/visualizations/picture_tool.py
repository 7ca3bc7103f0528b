"""What the commands of this folder share: options, files, errors."""

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

from mmmedmask.util.checks import check_not_read
from mmmedmask.util.command_line import (
    DEVICE,
    PICTURES,
    add_config_options,
    check_overwrites,
    file_ending,
    output_folder,
)
from mmmedmask.util.nested import walk_nested

SPLITS = ('train', 'val', 'test')
#: Options that name what is written.
OUTPUTS = ('out', 'html', 'export')
#: Options that several commands have, by their names.
SHARED_OPTIONS = {
    '--num-samples': dict(
        type=int, default=6,
        help='number of samples, taken evenly from the data set '
        '(default: %(default)s)'),
    '--indices': dict(
        type=int, nargs='+',
        help='samples to show, by their position in the data set'),
    '--split': dict(
        choices=SPLITS, default='test',
        help="whose samples, those of the config's <split>_dataloader "
        '(default: %(default)s)'),
    '--seed': dict(
        type=int, default=0, help='seed of what is drawn at random'),
    '--channels': dict(
        type=int, nargs='+',
        help='channels to show: one (gray) or three (red, green, blue); '
        'needed for images with neither one nor three'),
    '--window': dict(
        type=float, nargs=2, metavar=('BLACK', 'WHITE'),
        help='stored values shown black and white; needed for images that '
        'have not 8 bits, if the model does not know their range'),
    '--device': DEVICE,
}


def at_least(low: int) -> Callable[[str], int]:
    """Make the type of an option: an integer from ``low`` on."""
    def integer(text: str) -> int:
        if int(text) < low:
            raise argparse.ArgumentTypeError(
                f'must be at least {low}, got {text}')
        return int(text)
    return integer


def make_parser(document: str, *options: str, checkpoint: bool = True,
                config: str = 'config file', folder: str = ''
                ) -> argparse.ArgumentParser:
    """Make a parser of CONFIG, CHECKPOINT, --cfg-options and shared options.

    ``--out`` is a picture, or the folder that ``folder`` describes.
    """
    parser = argparse.ArgumentParser(
        description=document,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help=config)
    if checkpoint:
        parser.add_argument('checkpoint', help='one of its checkpoints')
    parser.add_argument('--out', required=True, type=output_folder if folder
                        else file_ending(*PICTURES),
                        help=folder or 'PNG file to write')
    for name in options:
        parser.add_argument(name, **SHARED_OPTIONS[name])
    add_config_options(parser, 'override settings, e.g. another folder with '
                       'train_dataloader.dataset.data_root=PATH')
    return parser


def save_picture(picture, path: Path) -> Path:
    """Save a picture, whole or not at all; its folder is made."""
    from mmmedmask.datasets.image_io import write_image
    write_image(path, picture)
    return path


def build_dataset(config, split: str, seed: int = 0):
    """Build the data set of a split, for samples in the config's scope.

    Transforms that draw from a run's seed take this one.
    """
    from mmengine.registry import DATASETS, init_default_scope

    from mmmedmask.engine.hooks.transform_epoch import epoch_transforms
    init_default_scope(config.get('default_scope') or 'mmengine')
    loader = config.get(f'{split}_dataloader')
    if loader is None:
        raise ValueError(f'the config has no {split}_dataloader')
    dataset = DATASETS.build(loader.dataset)
    for transform in epoch_transforms(dataset):
        transform.set_epoch(0, seed)
    return dataset


def check_samples(dataset, written: Iterable[Path]) -> None:
    """Refuse to write over an image, or a mask, that a data set reads."""
    from mmmedmask.engine.wrapped_datasets import datasets_of
    check_not_read(written, (
        text for part in datasets_of(dataset)
        if hasattr(part, 'get_data_info') for index in range(len(part))
        for _, text in walk_nested(part.get_data_info(index))
        if isinstance(text, str | Path)))


def draw_or_exit(name: str, draw: Callable, args: argparse.Namespace) -> None:
    """Draw and print the files; what a user can mend ends it in a line."""
    from mmmedmask.datasets.image_io import ImageFileError
    try:
        check_overwrites(args, [option for option in OUTPUTS
                                if hasattr(args, option)])
        files = draw(args)
    except (FileNotFoundError, ImageFileError, ModuleNotFoundError,
            ValueError) as error:
        raise SystemExit(f'{name}: {error}') from None
    print(*files, sep='\n')
