"""The checkpoints in a work dir: which go on, which are of another run.

``epoch_3.pth`` or ``iter_300.pth`` are whole states of a run, ``best_*.pth``
weights; ``last_checkpoint`` and ``best_checkpoint`` hold a path of each.
"""

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

from mmengine.logging import print_log

from mmmedmask.util.atomic_files import PART_PATTERN, link_or_copy

POINTER = 'last_checkpoint'
#: Folder, below the work dir, of what another run had left, by number.
SUPERSEDED = 'superseded'
_STATE = re.compile(r'(epoch|iter)_(\d+)\.pth')
_BEST = re.compile(r'best_.+_(epoch|iter)_(\d+)\.pth')


def find_resumable(folder: str | Path) -> Path | None:
    """Find the state from which the run in a work dir goes on.

    That is the one that ``last_checkpoint`` names: in the folder, or else
    where it was written. If the pointer or its file is not there or not
    whole, it is the latest whole state in the folder, with a warning; None
    if there is neither, but a pointer to nothing is a FileNotFoundError.
    """
    folder = Path(folder)
    pointer = folder / POINTER
    written = pointer.read_text(encoding='utf-8', errors='replace').strip() \
        if pointer.is_file() else ''
    named = [file for file in (folder / Path(written).name, Path(written))
             if written and file.is_file()]
    if named and zipfile.is_zipfile(named[0]):
        return named[0]
    whole = [(number, file) for number, file in list_states(folder)
             if zipfile.is_zipfile(file)]
    if whole:
        latest = max(whole)[1]
        reason = f'names {written!r}, which is not there or not whole' \
            if written else 'is empty or missing'
        print_log(f'{pointer} {reason}: the latest whole checkpoint is '
                  f'{latest.name}.', 'current', 30)
        return latest
    if named:
        # The reader says what it is.
        return named[0]
    if written:
        raise FileNotFoundError(
            f'the checkpoint {written!r}, which {pointer} names, is not '
            'there, and there is no other one: bring it back, or delete '
            f'{pointer} to start anew')
    return None


def find_checkpoint(run: str | Path) -> Path:
    """Find the checkpoint that stands for a run, to look at its model.

    That is the state from which it would go on, see :func:`find_resumable`,
    else its only best weights. ``run`` is its folder, or a checkpoint, which
    stands for itself.

    Raises:
        FileNotFoundError: If there is no such folder or file.
        ValueError: If the folder has no state, and none or several bests.
    """
    run = Path(run)
    if not run.is_dir():
        if not run.is_file():
            raise FileNotFoundError(f'there is no run or checkpoint {run}')
        return run
    bests = [file for _, file in list_bests(run)]
    try:
        state = find_resumable(run)
    except FileNotFoundError:
        # The states may have been deleted to save space.
        if not bests:
            raise
        state = None
    if state is not None:
        return state
    if len(bests) != 1:
        several = ', '.join(file.name for file in bests)
        raise ValueError(
            f'{run} has no checkpoint epoch_*.pth or iter_*.pth, and '
            + (f'several of the best weights, {several}: name one of them'
               if bests else 'no best_*.pth: give the file of a checkpoint'))
    return bests[0]


def list_states(folder: Path,
                pattern: re.Pattern = _STATE) -> list[tuple[int, Path]]:
    """List the whole states in a folder, with their epoch or iteration."""
    return [(int(match[2]), file) for file in sorted(folder.glob('*.pth'))
            if (match := pattern.fullmatch(file.name))]


def list_bests(folder: Path) -> list[tuple[int, Path]]:
    """List the best weights in a folder, with their epoch or iteration."""
    return list_states(folder, _BEST)


def list_later(folder: Path, epoch: int = -1, iteration: int = -1
               ) -> tuple[list[Path], list[Path]]:
    """List the states and the best weights behind an epoch or an iteration.

    Each file is compared with what it counts; the default lists all.
    """
    reached = dict(epoch=epoch, iter=iteration)
    states, bests = (
        [file for file in sorted(folder.glob('*.pth'))
         if (match := pattern.fullmatch(file.name))
         and int(match[2]) > reached[match[1]]] for pattern in (_STATE, _BEST))
    return states, bests


def supersede(runner: object, files: Sequence[Path],
              shared: Sequence[Path] = ()) -> Path:
    """Move files that another run has left into ``superseded/`` beside them.

    That is into its folder of the next number, the same one for all that a
    ``runner`` sets aside, unless a name is there already, so that nothing is
    replaced; returns that folder. Files that both runs need are ``shared``:
    they are there, too.
    """
    folder = files[0].parent / SUPERSEDED
    places: dict[Path, Path] = vars(runner).setdefault('_superseded', {})
    place = places.get(folder)
    if place is None or any((place / file.name).exists()
                            for file in (*files, *shared)):
        number = 1 + max((int(path.name) for path in folder.glob('*')
                          if path.name.isdecimal()), default=0)
        place = places[folder] = folder / str(number)
        place.mkdir(parents=True)
    for file in shared:
        link_or_copy(file, place / file.name)
    for file in files:
        file.replace(place / file.name)
    return place


def remove_parts(folder: Path) -> None:
    """Remove what a killed process had begun to write."""
    for part in folder.glob(PART_PATTERN):
        part.unlink(missing_ok=True)
