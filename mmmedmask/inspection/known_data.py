"""The data sets of the documentation: where they lie, and what makes them.

This file imports nothing but the standard library: ``tools/misc/doctor.py``
reads it where the package itself cannot be imported.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


class KnownData(NamedTuple):
    """A data set as its converter leaves it.

    Attributes:
        files: Files and folders that a complete one has, relative to its
            folder. With a ``|`` any one of several.
        mend: The command that makes them, ``{folder}`` is its folder.
        section: Its section in ``docs/datasets.md``.
    """

    title: str
    files: tuple[str, ...]
    mend: str
    section: str


_CONVERT = 'python tools/dataset_converters/convert.py '
_GLANDS = ('annotations/train.json', 'annotations/test.json')
_BAGS = ('cohort.csv', 'features')
_GENES = ('cohort.csv', 'expression.npz')


def _labelled(*splits: str) -> tuple[str, ...]:
    parts = [f'splits/{split}/{part}.csv' for split in splits
             for part in ('train', 'val')]
    return ('classes.txt', 'images', *parts)


#: Folder below the data root to what is known of it.
KNOWN_DATA: Mapping[str, KnownData] = {
    'NCT': KnownData(
        'NCT-CRC-HE-100K-NONORM',
        ('meta/train.txt', 'data|NCT-CRC-HE-100K-NONORM'),
        f'{_CONVERT}nct_crc {{folder}} --check',
        'nct-crc-he-100k-nonorm'),
    'glas': KnownData(
        'GlaS', _GLANDS, f'{_CONVERT}glas {{folder}} --check', 'glas'),
    'crag': KnownData(
        'CRAG', _GLANDS, f'{_CONVERT}crag {{folder}} --check', 'crag'),
    'messidor2': KnownData(
        'Messidor-2', _labelled('paper'),
        f'{_CONVERT}messidor2 path/to/download {{folder}} --check',
        'messidor-2'),
    'brain_tumor_mri': KnownData(
        'Brain Tumor MRI', _labelled('official', 'clean-train'),
        f'{_CONVERT}brain_tumor_mri path/to/download {{folder}} --check',
        'brain-tumor-mri'),
    'ham10000': KnownData(
        'HAM10000', _labelled('paper', 'lesion'),
        f'{_CONVERT}ham10000 path/to/download {{folder}} --check',
        'ham10000'),
    'busi': KnownData(
        'BUSI', _labelled('paper', 'grouped'),
        f'{_CONVERT}busi path/to/download {{folder}} --check', 'busi'),
    'tcga_nsclc': KnownData(
        'TCGA-NSCLC', (*_BAGS, 'expression.tsv|rna'),
        'put cohort.csv, features/ and expression.tsv into {folder}',
        'tcga-nsclc-and-your-own-slides-with-genes'),
    'tcga-brca': KnownData(
        'TCGA of PORPOISE, breast', _GENES,
        f'{_CONVERT}porpoise path/to/datasets_csv_mutsig {{folder}} '
        '--cohorts brca --classes IDC ILC --check', 'tcga-of-porpoise'),
    'tcga-five-types': KnownData(
        'TCGA counts', _GENES,
        f'{_CONVERT}tcga_counts path/to/ref_data {{folder}} --check',
        'tcga-counts'),
    'musk1': KnownData(
        'musk1', _BAGS, f'{_CONVERT}musk path/to/musk1.csv {{folder}}',
        'musk1'),
    'lc25000-resnet18-untrained': KnownData(
        'bags of LC25000', _BAGS,
        'python tools/wsi/tiles_to_bags.py path/to/lung_aca '
        'path/to/lung_scc --encoder resnet18 --random-weights 0 '
        '--tile-size 112 --out {folder}', 'lc25000'),
    'synthetic_pairs': KnownData(
        'a synthetic pairing', _BAGS,
        f'{_CONVERT}pair_tiles_and_genes --out {{folder}} ...',
        'a-synthetic-pairing'),
}

#: Published numbers of training samples, by folder below the data root and by
#: what a data set reads there: its split_file, split_folder, ann_file or
#: split. Those of NCT-CRC are with its class. The sources are in the data
#: sets' sections of docs/datasets.md.
TRAINING_SAMPLES: Mapping[str, Mapping[str, int]] = {
    'glas': {'annotations/train.json': 85},
    'crag': {'annotations/train.json': 173},
    'messidor2': {'splits/paper': 1222},
    'brain_tumor_mri': {'splits/official': 5712, 'splits/clean-train': 2558},
    'ham10000': {'splits/paper': 7014, 'splits/lesion': 7013},
    'busi': {'splits/paper': 547},
    'tcga_nsclc': {'cohort.csv': 567},
}
#: Width and height, in pixels, of most images of a data set. The sources are
#: in the same sections.
IMAGE_SIZES: Mapping[str, tuple[int, int]] = {
    'glas': (775, 522), 'crag': (1512, 1516)}


def missing_files(folder: str | Path, data: KnownData) -> list[str]:
    """List the entries of ``data.files`` that a data set's folder lacks."""
    return [entry for entry in data.files if not any(
        Path(folder, name).exists() for name in entry.split('|'))]


def suggest_data(folder: str | Path) -> str:
    """Say what makes the data of a folder, or of one above, if it is known,
    and where the documentation tells; else how to name another folder.
    """
    for place in (Path(folder), *Path(folder).parents):
        data = KNOWN_DATA.get(place.name)
        if data is not None:
            command = data.mend.format(folder=place)
            return f'{command} (docs/datasets.md#{data.section})'
    return 'set the path where the config names it, or with --cfg-options'
