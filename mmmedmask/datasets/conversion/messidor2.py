"""Messidor-2 with the adjudicated grades; splits by image and patient.

1,748 fundus photographs of 874 examinations by the Messidor program partners
(Decenciere et al. 2014, doi:10.5566/ias.1155; Abramoff et al. 2013), all but
four graded (Krause et al. 2018, doi:10.1016/j.ophtha.2018.01.034).
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mmmedmask.datasets.conversion import LayoutError, folders
from mmmedmask.datasets.conversion.copies import Copies
from mmmedmask.datasets.conversion.label_splits import (
    FoundImages,
    LabelledImage,
    Split,
    draw_paper_and,
    names_groups,
)
from mmmedmask.datasets.conversion.labelled_conversion import LabelledSource
from mmmedmask.datasets.image_io import IMAGE_EXTENSIONS
from mmmedmask.util.table_files import MISSING, read_table

GRADES = ('no_dr', 'mild', 'moderate', 'severe', 'proliferative')
"""Diabetic retinopathy; a grade's number is its place."""

OFFICIAL_COUNTS = {'no_dr': 1017, 'mild': 270, 'moderate': 347, 'severe': 75,
                   'proliferative': 35}
"""Images per grade, 1,744 together."""

NEAR_THRESHOLD = 0.87
"""As for brain slices; not measured on this data set."""

GRADE_FILE = 'messidor_data.csv'
PAIR_FILE = 'messidor-2.csv'
_COLUMNS = ('image_id', 'adjudicated_dr_grade')


def find_images(download: Path) -> FoundImages:
    """Find the graded images of a download.

    It holds, at any depth, the images, ``messidor_data.csv`` and, for
    patients, the pairs ``messidor-2.csv``; without, each image is a group.
    Names in the csv files are matched with image files by their stem in any
    case, since the grades say ``.jpg`` where files are called ``.JPG``.
    """
    files = folders.all_files(download)
    pictures = folders.index_files(
        [path for path in files if path.suffix.lower() in IMAGE_EXTENSIONS],
        lambda path: path.stem.lower())
    names, grades = _read_grades(folders.only_file(files, [GRADE_FILE],
                                                   download))
    pairs = folders.only_file(files, [PAIR_FILE], download, needed=False)
    patients = _read_pairs(pairs) if pairs else {}
    usable = [key for key in sorted(pictures) if grades.get(key) is not None]
    if not usable:
        raise LayoutError(
            f'{download} holds no image that {GRADE_FILE} grades; it has '
            f'{len(pictures)} images and {len(grades)} names are listed')
    images = []
    for key in usable:
        path = f'images/{pictures[key].name}'
        group = patients.get(key, key) if pairs else path
        images.append(LabelledImage(
            pictures[key], path, GRADES[grades[key]], group))
    notices = folders.compare_counts(
        'Messidor-2', Counter(image.label for image in images),
        OFFICIAL_COUNTS)
    for keys, what in (
            ([key for key in pictures if grades.get(key, 0) is None],
             'have no grade and are left out'),
            (pictures.keys() - grades.keys(),
             f'are left out, for {GRADE_FILE} does not list them'),
            (grades.keys() - pictures.keys(),
             f'listed in {GRADE_FILE} are not there'),
            ([key for key in usable if names[key] != pictures[key].name],
             f'are called otherwise in {GRADE_FILE} (ending or case), and '
             'were matched by their stem'),
            ([key for key in usable if pairs and key not in patients],
             f'are in no pair of {PAIR_FILE} and count as a patient each')):
        notices += folders.name_images([pictures[key].name if key in pictures
                                else names[key] for key in keys], what)
    if not pairs:
        notices.append(
            f'There is no {PAIR_FILE}, so patients are not known: there is '
            'no split by patient, and every image is its own group.')
    return FoundImages(images, notices)


def make_splits(images: Sequence[LabelledImage], copies: Copies,
                seed: int) -> dict[str, Split]:
    """Draw ``paper`` by image and, if patients are known, ``patient``."""
    splits = draw_paper_and('patient')(images, copies, seed)
    if not names_groups(images):
        del splits['patient']
    return splits


def _read_grades(path: Path) -> tuple[dict[str, str], dict[str, int | None]]:
    """Return the names as listed and the grades, by lower-case stem."""
    names, grades = {}, {}
    for where, row in read_table(path, _COLUMNS).rows(*_COLUMNS):
        name, grade = row.values()
        key = Path(name).stem.lower()
        if not key or key in names:
            raise LayoutError(
                f'{where}: image_id {name!r} is empty or listed twice')
        names[key] = name
        grades[key] = _parse_grade(grade, where)
    return names, grades


def _parse_grade(text: str, where: str) -> int | None:
    """Return a grade, which some copies write as 2.0; None if empty."""
    if not text.strip():
        return None
    try:
        grade = float(text)
    except ValueError:
        grade = -1.0
    if grade not in range(len(GRADES)):
        raise LayoutError(f'{where}: adjudicated_dr_grade must be 0 to 4 or '
                          f'empty, got {text!r}')
    return int(grade)


def _read_pairs(path: Path) -> dict[str, str]:
    """Return the patient of each image by lower-case stem: the left one's."""
    patients = {}
    for where, row in read_table(path, header=False).rows():
        cells = list(row.values())
        if cells[:2] == ['left', 'right']:
            continue
        keys = [Path(cell).stem.lower() for cell in cells[:2]
                if cell not in MISSING]
        if len(cells) < 2 or any(key in patients for key in keys):
            raise LayoutError(f'{where}: expected LEFT;RIGHT, each image '
                              f'once, got {";".join(cells)!r}')
        patients |= dict.fromkeys(keys, keys[0])
    return patients


MESSIDOR2 = LabelledSource('Messidor-2', GRADES, NEAR_THRESHOLD, find_images,
                           make_splits, group_noun='patient')
