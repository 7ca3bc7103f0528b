"""List the slides of a run, with what is known about them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmmedmask.datasets.slides.feature_files import (
    PICTURE_SUFFIXES,
    SLIDE_SUFFIXES,
    slide_name,
)
from mmmedmask.util.checks import (
    check_integer,
    check_names_differ,
    check_positive,
)
from mmmedmask.util.file_walk import walk_files
from mmmedmask.util.nearest import composed, shown
from mmmedmask.util.nested import as_list
from mmmedmask.util.table_files import (
    MISSING,
    cell_number,
    check_named,
    read_table,
)

# A folder holds the levels of one DICOM slide as files of one kind.
_BY_NAME_ONLY = '.dcm'


@dataclass(frozen=True)
class SlideTask:
    """A slide to work on, with the user's mpp; it may have no file."""

    slide_id: str
    path: Path | None
    mpp: float | None = None


def list_slides(inputs: str | Path | Sequence[str | Path],
                csv: Path | None = None, mpp: float | None = None
                ) -> tuple[list[SlideTask], list[str]]:
    """List slides by name, and notes on files that were left out.

    Args:
        inputs: Files, and folders, which are searched with their
            sub-folders. DICOM files have to be named: the files of a folder
            may be levels of one slide. Pictures (PNG, JPEG) count if they
            are named here, or in the csv with their ending.
        csv: Takes only the slides in its column ``slide_id``, with the
            resolution of its column ``mpp``, if it has one and it is filled.
            Of a cohort's csv, with ``case_id``, lines without a slide are
            left out.
        mpp: Resolution of slides for which the csv has none.
    """
    if mpp is not None:
        check_positive('mpp', mpp)
    listed, pictures, notes = ({}, set(), []) if csv is None \
        else _read_csv(csv)
    files, left_out = slide_files(inputs, pictures=pictures)
    notes += left_out
    slides = check_names_differ(
        [(slide_name(path.name), path) for path in files],
        'features would overwrite each other')
    if csv is None:
        if not slides:
            places = list(map(str, as_list(inputs)))
            raise ValueError(f'{shown(places)}: no file ends with one of '
                             f'{SLIDE_SUFFIXES}')
        return [SlideTask(name, path, mpp)
                for name, path in sorted(slides.items())], notes
    others = sorted(set(slides) - set(listed))
    if others:
        notes.append(f'{len(others)} slides are not in {csv.name} and left '
                     f'out: {shown(others)}')
    return [SlideTask(name, slides.get(name), own or mpp)
            for name, own in sorted(listed.items())], notes


def slide_files(places: str | Path | Sequence[str | Path],
                endings: Sequence[str] = SLIDE_SUFFIXES,
                pictures: Collection[str] = ()
                ) -> tuple[list[Path], list[str]]:
    """List files that are named, and those of folders and their sub-folders.

    Of a folder those with one of the ``endings`` count, or whose name is one
    of ``pictures``; DICOM files are left out, of which the notes tell.
    """
    files, left_out = [], []
    for place in map(Path, as_list(places)):
        if not place.exists():
            raise FileNotFoundError(f'{place} does not exist')
        if not place.is_dir():
            files.append(place)
            continue
        for path in walk_files(place):
            if path.suffix.lower() == _BY_NAME_ONLY:
                left_out.append(str(path))
            elif (path.suffix.lower() in endings
                  or composed(path.name) in pictures):
                files.append(path)
    return files, [
        f'{len(left_out)} DICOM files of folders are left out, name one file '
        f'of each slide: {shown(left_out)}'] * bool(left_out)


def split_into_shards(tasks: Sequence[SlideTask],
                      count: int) -> list[list[SlideTask]]:
    """Split slides, sorted by name, into shards of about equal size on disk.

    The same slides give the same shards, whatever their order: the largest
    first, each goes to the smallest shard.
    """
    check_integer('the number of shards', count, 1, max(len(tasks), 1))
    sizes = [0] * count
    shards: list[list[SlideTask]] = [[] for _ in range(count)]
    bytes_of = {task.slide_id: slide_bytes(task.path) for task in tasks}
    for task in sorted(tasks, key=lambda task: (
            -bytes_of[task.slide_id], task.slide_id)):
        # Slides without bytes are spread by their number.
        number = min(range(count), key=lambda number: (
            sizes[number], len(shards[number]), number))
        sizes[number] += bytes_of[task.slide_id]
        shards[number].append(task)
    return [sorted(shard, key=lambda task: task.slide_id) for shard in shards]


def slide_bytes(path: Path | None) -> int:
    """Size of a slide on disk: MIRAX has its pixels in a folder beside."""
    if path is None or not path.is_file():
        return 0
    beside = path.with_suffix('')
    files = [path]
    if path.suffix.lower() == '.mrxs' and beside.is_dir():
        files += [file for file in beside.iterdir() if file.is_file()]
    return sum(file.stat().st_size for file in files)


def _read_csv(path: Path) -> tuple[dict[str, float | None], set[str],
                                   list[str]]:
    """Read the resolution of each slide, names that end as pictures, notes.
    """
    table = read_table(path, ['slide_id'])
    table.log_unused(('slide_id', 'mpp', 'case_id'), ('mpp', ))
    without = 0
    listed: dict[str, float | None] = {}
    pictures = {composed(name)
                for name in table.text(table.names.index('slide_id'))
                if name.lower().endswith(PICTURE_SUFFIXES)}
    for where, row in table.rows():
        if row['slide_id'] in MISSING and row.get('case_id'):
            without += 1
            continue
        check_named(where, row, ('slide_id', ))
        name = slide_name(row['slide_id'])
        mpp = cell_number(where, 'mpp', row.get('mpp', ''))
        if mpp is not None:
            check_positive(f'{where}: mpp', mpp)
        if listed.setdefault(name, mpp) != mpp:
            raise ValueError(f'{where}: slide {name} has another mpp in a '
                             'line before')
    notes = [f'{without} lines of {path.name} have no slide'] * bool(without)
    return listed, pictures, notes
