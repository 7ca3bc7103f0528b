"""HAM10000: images, diagnoses and lesion masks; splits by image and lesion.

10,015 dermatoscopic images of 7,470 lesions in seven classes (Tschandl et
al. 2018, doi:10.7910/DVN/DBW86T), with lesion masks by Tschandl et al. 2020.
"""

from collections import Counter, defaultdict
from pathlib import Path

from mmmedmask.datasets.conversion import LayoutError, folders
from mmmedmask.datasets.conversion.label_splits import (
    FoundImages,
    LabelledImage,
    draw_paper_and,
)
from mmmedmask.datasets.conversion.labelled_conversion import LabelledSource
from mmmedmask.util.table_files import MISSING, check_cell, read_table

OFFICIAL_COUNTS = {'akiec': 327, 'bcc': 514, 'bkl': 1099, 'df': 115,
                   'mel': 1113, 'nv': 6705, 'vasc': 142}
"""Images per diagnosis, 10,015 together."""

NEAR_THRESHOLD = 0.75
"""Different lesions reached 0.66, by the dark rim that some images have.

Measured on 1,720 images at 200 x 150 pixels; the nearest two images of one
lesion had 0.71.
"""

METADATA_FILES = tuple(
    f'HAM10000_metadata{ending}' for ending in ('.csv', '.tab', '.txt', ''))
_COLUMNS = ('image_id', 'lesion_id', 'dx')
_MASK_ENDING = '_segmentation'


def find_images(download: Path) -> FoundImages:
    """Find the images of a download; groups are lesions.

    It holds, at any depth, ``HAM10000_metadata`` (csv or tab), the images
    ``ISIC_*.jpg`` and, if there are any, masks ``ISIC_*_segmentation.png``.
    """
    files = folders.all_files(download)
    metadata = _read_metadata(folders.only_file(files, METADATA_FILES,
                                                download))
    pictures, twice = _by_stem(
        path for path in files
        if path.suffix.lower() == '.jpg' and path.stem.startswith('ISIC_'))
    masks, _ = _by_stem(path for path in files if path.suffix.lower() == '.png'
                        and path.stem.endswith(_MASK_ENDING))
    known = sorted(set(pictures) & set(metadata))
    if not known:
        raise LayoutError(
            f'{download} holds no image ISIC_*.jpg that the metadata list')
    without_mask = [stem for stem in known if stem + _MASK_ENDING not in masks]
    if masks and without_mask:
        raise LayoutError(f'{len(without_mask)} of {len(known)} images have '
                          f'no lesion mask in {download}, the first is '
                          f'{without_mask[0]}; keep all masks or none')
    images = [LabelledImage(
        pictures[stem], f'images/{stem}.jpg', *metadata[stem],
        *(((masks[stem + _MASK_ENDING], ), f'masks/{stem}.png')
          if masks else ())) for stem in known]
    notices = folders.compare_counts(
        'HAM10000', Counter(image.label for image in images), OFFICIAL_COUNTS)
    for names, what in ((metadata.keys() - pictures.keys(),
                         'listed in the metadata are not there'),
                        (pictures.keys() - metadata.keys(),
                         'are left out, for the metadata do not list them'),
                        (twice, 'are there twice with the same bytes')):
        notices += folders.name_images(names, what)
    if not masks:
        notices.append('There are no lesion masks.')
    return FoundImages(images, notices)


def _read_metadata(path: Path) -> dict[str, tuple[str, str]]:
    """Return diagnosis and lesion by image."""
    rows = {}
    for where, row in read_table(path, _COLUMNS).rows(*_COLUMNS):
        check_cell(where, 'dx', row['dx'], OFFICIAL_COUNTS)
        if row['lesion_id'] in MISSING or row['image_id'] in rows:
            raise LayoutError(f'{where}: image {row["image_id"]!r} has no '
                              'lesion or is listed twice')
        rows[row['image_id']] = (row['dx'], row['lesion_id'])
    return rows


def _by_stem(paths) -> tuple[dict[str, Path], list[str]]:
    """Return files by stem, and the stems of equal files found twice."""
    grouped = defaultdict(list)
    for path in paths:
        grouped[path.stem].append(path)
    for first, *others in grouped.values():
        for other in others:
            if other.read_bytes() != first.read_bytes():
                raise LayoutError(f'{first} and {other} have one name and '
                                  'differ; keep one of them')
    return ({stem: same[0] for stem, same in grouped.items()},
            [stem for stem, same in grouped.items() if len(same) > 1])


HAM10000 = LabelledSource(
    'HAM10000', tuple(OFFICIAL_COUNTS), NEAR_THRESHOLD, find_images,
    draw_paper_and('lesion'), group_noun='lesion')
