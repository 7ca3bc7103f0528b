"""Turn an official download into the layout that configs read.

    python tools/dataset_converters/convert.py NAME SOURCE [OUT] --check

NAME is a data set or a task, see the list below; NAME --help shows its
options. docs/datasets.md describes the downloads and the layouts.
"""

import argparse
import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from mmmedmask.util.run_tool import run_tool

# Findings of a kind that are printed; check.txt has them all.
LINES_SHOWN = 10
TILE_STRIDE = 8

Option = tuple[tuple[str, ...], dict]


class Converter(NamedTuple):
    """A sub-command: what it says, what it takes, what it does."""

    about: str
    options: tuple[Option, ...]
    run: Callable[[argparse.Namespace], int]


CONVERTERS: dict[str, Converter] = {}


def converter(*options: Option) -> Callable:
    """Register a function as the sub-command of its name."""

    def register(run: Callable[[argparse.Namespace], int]) -> Callable:
        CONVERTERS[run.__name__] = Converter(
            inspect.cleandoc(run.__doc__), options, run)
        return run

    return register


def option(*names: str, **settings: object) -> Option:
    """Describe an argument, as ``ArgumentParser.add_argument`` takes it."""
    return names, settings


def correlation(text: str) -> float:
    """Parse a threshold of near copies."""
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f'must be in (0, 1], got {value}')
    return value


def seed_of(what: str) -> Option:
    """The seed, and what it determines."""
    return option('--seed', type=int, default=0,
                  help=f'of {what} (default: %(default)s)')


def near_threshold(default: float) -> Option:
    """From which correlation on two images are near copies."""
    return option(
        '--near-threshold', type=correlation, default=default,
        help='correlation of fingerprints from which on images are nearly '
        'identical (default: %(default)s, see docs/datasets.md)')


def finish(args: argparse.Namespace, prepare: Callable, out: Path) -> int:
    """Prepare a conversion, write it to ``out``, and check it if asked.

    ``prepare`` makes the conversion. The exit status is 1 if something is
    wrong with the data.
    """
    from mmmedmask.datasets.conversion.check_report import ConversionError
    from mmmedmask.datasets.image_io import ImageFileError
    status, conversion, check = 0, None, getattr(args, 'check', False)
    try:
        try:
            conversion = prepare()
            for line in conversion.write(out):
                print(line)
        except ConversionError as error:
            print(error.report.to_text(LINES_SHOWN), file=sys.stderr)
            print('error: nothing was written', file=sys.stderr)
            status = 1
            if conversion is None or not check:
                return status
        for notice in [*conversion.notices, *conversion.leftovers(out)]:
            print(f'NOTICE: {notice}')
        if check:
            report = conversion.check(out)
            text, data = report.write(out)
            print(report.to_text(LINES_SHOWN))
            print(f'\nThe complete report: {text} and {data}')
            status = status or int(bool(report.problems))
    except (OSError, ValueError, ImageFileError) as error:
        raise SystemExit(f'error: {error}') from None
    return status


CHECK = option('--check', action='store_true', help='read back what was '
               'written, and report what is wrong with the data in check.txt '
               'and check.json; exit status 1 if there are problems')
SOURCE = option('source', type=Path, help='folder of the unpacked download')
OUT = option('out', type=Path,
             help='where the data set goes; the data_root of configs')
GLAND_OPTIONS = (
    option('source', type=Path,
           help='folder of the data set; names in the json are relative to '
           'it'),
    option('out', type=Path, nargs='?',
           help='where train.json and test.json go (default: '
           'SOURCE/annotations, where the configs look)'),
    option('--mask-kind', choices=('auto', 'instances', 'binary'),
           default='auto',
           help='what the values in masks mean; auto takes a mask with '
           'nothing but 0 and 255 for binary (default: %(default)s)'),
    option('--split-components', action='store_true',
           help='one instance per connected part of an instance number'),
    option('--min-area', type=int, default=0,
           help='leave instances with fewer pixels out (default: '
           '%(default)s)'),
    CHECK, near_threshold(0.6))


def convert_glands(args: argparse.Namespace) -> int:
    """Convert GlaS or CRAG."""
    from mmmedmask.datasets.coco_instances import InstanceOptions
    from mmmedmask.datasets.conversion.gland_datasets import prepare
    return finish(
        args, lambda: prepare(
            args.name, args.source,
            InstanceOptions(
                args.mask_kind, args.split_components, args.min_area),
            args.near_threshold),
        args.out or args.source / 'annotations')


@converter(*GLAND_OPTIONS)
def glas(args: argparse.Namespace) -> int:
    """GlaS to COCO instances: train (85) and test (A and B, 80).

    SOURCE holds the unpacked download, "Warwick QU Dataset (Released
    2016_07_08)". Images stay where they are.
    """
    return convert_glands(args)


@converter(*GLAND_OPTIONS)
def crag(args: argparse.Namespace) -> int:
    """CRAG (version 2) to COCO instances: train (173) and test (40).

    SOURCE holds the unpacked download, with train and valid. Images stay
    where they are.
    """
    return convert_glands(args)


@converter(
    option('source', type=Path, help="folder that holds the tiles' folder"),
    option('--image-folder', default='data',
           help="the tiles' folder below SOURCE (default: %(default)s)"),
    option('--lists', type=Path, help="folder with ConCL's four list files"),
    option('--val-fraction', type=float, default=0.2,
           help='part of the tiles for val, if a split is drawn (default: '
           '%(default)s)'),
    seed_of('the drawn split'),
    option('--overwrite', action='store_true',
           help='replace list files that are there already'),
    CHECK, near_threshold(0.6))
def nct_crc(args: argparse.Namespace) -> int:
    """NCT-CRC-HE-100K-NONORM: list files of the splits.

    SOURCE/data holds the unpacked download, one folder per class. The lists
    go to SOURCE/meta. Without --lists, and where there are none, a random
    8:2 split is drawn.
    """
    from mmmedmask.datasets.conversion.nct_crc_lists import NCTConversion
    return finish(
        args, lambda: NCTConversion(
            args.source / args.image_folder, args.lists, args.val_fraction,
            args.seed, args.overwrite, args.near_threshold),
        args.source / 'meta')


def labelled_options(default_threshold: float) -> tuple[Option, ...]:
    """Arguments of the data sets of labelled images."""
    return (SOURCE, OUT, seed_of('splits that are drawn'),
            option('--copy', action='store_true', help='copy the images; '
                   'without it they are hard links where the file system '
                   'permits'), CHECK, near_threshold(default_threshold))


def convert_labelled(args: argparse.Namespace) -> int:
    """Convert a data set of labelled images; its module has its name."""
    from importlib import import_module

    from mmmedmask.datasets.conversion.labelled_conversion import prepare
    module = import_module(f'mmmedmask.datasets.conversion.{args.name}')
    source = getattr(module, args.name.upper())
    return finish(
        args, lambda: prepare(source, args.source, args.out, args.seed,
                              args.near_threshold, args.copy), args.out)


@converter(*labelled_options(0.87))
def messidor2(args: argparse.Namespace) -> int:
    """Messidor-2 with adjudicated grades, splits by image and patient.

    SOURCE holds, at any depth, the images, the grades messidor_data.csv and,
    for patients, the pairs messidor-2.csv. Splits written: paper (1,222 and
    522 images, by image) and patient (both eyes on one side).
    """
    return convert_labelled(args)


@converter(*labelled_options(0.87))
def brain_tumor_mri(args: argparse.Namespace) -> int:
    """Brain Tumor MRI: the official split, and two without copies.

    SOURCE holds the unpacked download, the folders Training and Testing.
    Splits written: official (5,712 and 1,311 images), clean (official
    training images, test images without copies among them) and clean-train
    (training images without copies among the test images).
    """
    return convert_labelled(args)


@converter(*labelled_options(0.75))
def ham10000(args: argparse.Namespace) -> int:
    """HAM10000: diagnoses, lesion masks, splits by image and by lesion.

    SOURCE holds, at any depth, HAM10000_metadata.csv, the images of both
    parts and, for lesion masks, HAM10000_segmentations_lesion_tschandl.
    Splits written: paper (7,014 and 3,001 images, by image) and lesion (all
    images of a lesion on one side).
    """
    return convert_labelled(args)


@converter(*labelled_options(0.6))
def busi(args: argparse.Namespace) -> int:
    """BUSI: classes, joined lesion masks, one split for both tasks.

    SOURCE holds the unpacked download, Dataset_BUSI_with_GT. Splits written:
    paper (547 and 233 images, by image) and grouped (copies of an image on
    one side; BUSI names no patients).
    """
    return convert_labelled(args)


@converter(*labelled_options(0.87))
def dicom(args: argparse.Namespace) -> int:
    """Your own DICOM files, a sub-folder per class, split by patient.

    SOURCE holds a folder for each class, with .dcm files at any depth. The
    split written is patient: all images of a patient (of a study, where the
    header has no patient's id) are on one side.
    """
    from mmmedmask.datasets.conversion.dicom import dicom_source
    from mmmedmask.datasets.conversion.labelled_conversion import prepare
    return finish(
        args, lambda: prepare(
            dicom_source(args.source), args.source, args.out, args.seed,
            args.near_threshold, args.copy), args.out)


@converter(
    option('source', type=Path, help='table, or their folder'), OUT,
    option('--cohorts', nargs='+', default=[], metavar='COHORT',
           help='cohorts to take, such as brca (default: all that are there)'),
    option('--classes', nargs='+', metavar='CODE',
           help='OncoTree codes to keep, such as IDC ILC (default: all)'),
    CHECK)
def porpoise(args: argparse.Namespace) -> int:
    """PORPOISE's tables of a TCGA cohort to a cohort csv and genes.

    SOURCE holds tcga_<cohort>_all_clean.csv.zip at any depth, or is one of
    them. OUT gets cohort.csv, expression.npz and genes.txt. Expression is
    z-scored in each cohort by itself: classes of different cohorts cannot be
    compared.
    """
    from mmmedmask.datasets.conversion.porpoise import convert, find_tables
    return finish(
        args, lambda: convert(
            find_tables(args.source, args.cohorts), args.classes), args.out)


@converter(
    SOURCE, OUT,
    option('--types', nargs='+', default=[], metavar='TYPE',
           help='tumour types, such as ACC UVM (default: all but TEST)'),
    option('--unit', choices=('cpm', 'log2_cpm'), default='cpm',
           help='unit of the table (default: %(default)s)'), CHECK)
def tcga_counts(args: argparse.Namespace) -> int:
    """Counts of TCGA tumour types to one cohort with CPM.

    SOURCE holds TCGA_<type>_Counts.exp.gz (RNAsum.data). The class is the
    tumour type; every patient gets one primary tumour; counts become counts
    per million.
    """
    from mmmedmask.datasets.conversion.tcga_counts import convert, find_types
    return finish(
        args, lambda: convert(
            find_types(args.source, args.types), args.unit), args.out)


@converter(option('source', type=Path, help='the csv'), OUT,
           option('--folds', type=int, default=10,
                  help='number of folds (default: %(default)s)'),
           seed_of('the folds'))
def musk(args: argparse.Namespace) -> int:
    """musk1, bags of shapes of molecules, to our layout for bags.

    The table has a shape in each line: label, molecule and 166 features. OUT
    gets features/, cohort.csv and folds/ for tools/cross_validate.py.
    """
    from mmmedmask.datasets.conversion.musk import (
        MuskConversion,
        read_molecules,
    )
    return finish(
        args, lambda: MuskConversion(
            read_molecules(args.source), args.folds, args.seed), args.out)


@converter(
    option('--tiles', nargs='+', type=Path, required=True,
           help='folders of tiles; their names are the classes'),
    option('--genes', nargs='+', type=Path, required=True,
           help='a file of expression for each folder, in the same order'),
    option('--out', type=Path, required=True),
    option('--unit', help='unit of the expression, as of load_expression'),
    option('--groups', nargs='+', type=Path, metavar='CSV',
           help='csv files that tell which tiles come from one source '
           '(default: each tile from its own)'),
    option('--bag-size', type=int, default=8,
           help='tiles in a bag, about (default: %(default)s)'),
    option('--tile-size', type=int, default=224,
           help='side in pixels that tiles are resized to, a multiple of '
           f'{TILE_STRIDE} (default: %(default)s)'),
    option('--split', nargs=3, type=float, default=(.6, .2, .2),
           metavar=('TRAIN', 'VAL', 'TEST'),
           help='shares of the bags of each class (default: .6 .2 .2)'),
    seed_of('the bags, splits, pairs and the random network'))
def pair_tiles_and_genes(args: argparse.Namespace) -> int:
    """A SYNTHETIC image-omic cohort at real sizes, to try GiMP's stages.

    Tiles of one source are in one bag, and so in one split. Each tile becomes
    a grid of patches: the features of a convolutional network at every 8th
    pixel, 28 x 28 patches of a tile of 224 pixels, so that a few tiles are a
    bag as long as a slide, whose neighbours resemble each other. The network
    is a ResNet-18 up to its second block with random weights.

    The first file of genes is paired with the first folder of tiles, and so
    on: the pairing is at random within these made-up classes. No patient has
    both halves, and the genes need not even be of the same organ. README.txt
    says so.
    """
    from mmmedmask.apis.synthetic_pairs import PairedCohort
    return finish(args, lambda: PairedCohort(
        args.tiles, args.genes, args.unit, args.groups, args.bag_size,
        args.tile_size, args.split, args.seed), args.out)


@converter(
    option('source', type=Path, help='folder with pictures'),
    option('out', type=Path, help='folder for the tiles'),
    option('--size', type=int, default=224),
    option('--stride', type=int, default=224),
    option('--include', default='*', help='pattern of file names to cut'),
    option('--exclude', default='', help='pattern of file names to leave out'))
def cut_tiles(args: argparse.Namespace) -> int:
    """Cut large pictures into tiles for pre-training.

    Tiles lie on a regular grid; the last row and column are moved inwards, so
    that nothing is lost and no tile is padded.
    """
    from mmmedmask.datasets.conversion.tile_cutting import TileCutting
    if args.out.resolve() == args.source.resolve():
        raise SystemExit(f'error: {args.out} holds the pictures: a second '
                         'call would cut tiles of tiles. Choose another OUT')
    return finish(
        args, lambda: TileCutting(
            args.source, args.size, args.stride, args.include, args.exclude),
        args.out)


def write_index(make: Callable, check: bool) -> int:
    """Make shards or their index, check every picture if asked, report."""
    from mmmedmask.datasets.shards import check_shards
    try:
        index = make(progress=print)
    except (OSError, ValueError) as error:
        raise SystemExit(f'error: {error}') from None
    print(f'{index.root}: {len(index)} tiles in {len(index.shards)} shards, '
          f'{len(index.classes)} classes')
    if not check:
        return 0
    bad = 0
    for line in check_shards(index):
        print(line, file=sys.stderr)
        bad += 1
    print(f'{len(index)} pictures read, {bad} are bad')
    return int(bad > 0)


READ_BACK = option('--check', action='store_true',
                   help='read every picture back; exit status 1 if one is bad')


@converter(
    option('source', type=Path, help='folder of the tiles, at any depth'),
    option('out', type=Path, help='folder of the shards'),
    option('--megabytes', type=float, default=1000,
           help='size from which on a shard is closed (default: %(default)s)'),
    seed_of('the order of the tiles'),
    option('--classes', action='store_true',
           help='the sub-folders of SOURCE are classes'), READ_BACK)
def pack_tiles(args: argparse.Namespace) -> int:
    """Pack a folder of tiles into WebDataset tars for ShardedTiles.

    Tiles come in random order, so that neighbours in a shard are not
    neighbours in a slide.
    """
    from functools import partial

    from mmmedmask.datasets.shards import pack_shards
    return write_index(
        partial(pack_shards, args.source, args.out, args.megabytes * 1e6,
                args.seed, args.classes), args.check)


@converter(
    option('source', type=Path, help='folder of the tars'),
    option('--classes', nargs='+', default=(), metavar='NAME',
           help='names of the classes, in the order of the labels (.cls)'),
    READ_BACK)
def index_shards(args: argparse.Namespace) -> int:
    """Write the index of WebDataset tars that exist already.

    Neighbouring members make a sample if their names agree up to the first
    dot; each needs one picture and may have a label, NAME.cls.
    """
    from functools import partial

    from mmmedmask.datasets.shards import index_shards as write
    return write_index(partial(write, args.source, args.classes), args.check)


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line; a mistyped name gets the nearest one."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(
        dest='name', metavar='NAME', required=True)
    for name, command in CONVERTERS.items():
        child = commands.add_parser(
            name, help=command.about.splitlines()[0],
            description=command.about,
            formatter_class=argparse.RawDescriptionHelpFormatter)
        for names, settings in command.options:
            child.add_argument(*names, **settings)
    if argv and not argv[0].startswith('-') and argv[0] not in CONVERTERS:
        from mmmedmask.util.nearest import did_you_mean
        parser.error(f'there is no {argv[0]!r}.'
                     f'{did_you_mean(argv[0], CONVERTERS)} Names: '
                     f'{", ".join(CONVERTERS)}')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Convert what the command line names; return the exit status."""
    args = parse_args(sys.argv[1:] if argv is None else argv)
    return CONVERTERS[args.name].run(args)


if __name__ == '__main__':
    run_tool(main)
