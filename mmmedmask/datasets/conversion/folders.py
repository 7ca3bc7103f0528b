"""Find the folder of a data set in what was unpacked, and list its files."""

from collections import Counter
from collections.abc import (
    Callable,
    Collection,
    Hashable,
    Iterable,
    Mapping,
    Sequence,
)
from pathlib import Path

from mmmedmask.datasets.conversion import LayoutError
from mmmedmask.datasets.image_io import IMAGE_EXTENSIONS
from mmmedmask.util.file_walk import match_paths, walk_files
from mmmedmask.util.nearest import shown


def only_folder(root: Path, patterns: Sequence[str], expected: str) -> Path:
    """Return the one folder, at most two levels down, with certain files.

    Args:
        patterns: Each has to match something in the folder; one that ends
            with a slash, a folder.
        expected: What the folder holds, for the message.
    """
    _check_folder(root)
    folders = [place for place in (root, *match_paths(root, '*/'),
                                   *match_paths(root, '*/*/'))
               if all(match_paths(place, pattern) for pattern in patterns)]
    if len(folders) != 1:
        raise LayoutError(
            f'{root} must hold exactly one folder with {expected}; found '
            f'{[str(folder) for folder in folders] or "no such folder"}')
    return folders[0]


def class_folders(root: Path, classes: Sequence[str]) -> list[Path]:
    """Return the folders of the classes; ``root`` may hold no other folder."""
    _check_folder(root)
    present = {path.name for path in root.iterdir()
               if path.is_dir() and not path.name.startswith('.')}
    missing, unknown = (
        sorted(set(classes) - present), sorted(present - set(classes)))
    if missing or unknown:
        raise LayoutError(
            f'{root} must hold one folder for each of {list(classes)}; '
            f'missing: {missing or "none"}, unknown: {unknown or "none"}')
    return [root / name for name in classes]


def all_files(root: Path) -> list[Path]:
    """List all files of a download, sorted; see :func:`walk_files`."""
    _check_folder(root)
    return walk_files(root)


def _check_folder(root: Path) -> None:
    if not root.is_dir():
        raise LayoutError(f'{root} does not exist or is not a folder')


def image_files(
    folder: Path, extensions: Sequence[str] = IMAGE_EXTENSIONS
) -> tuple[list[Path], Counter]:
    """List the images of one folder; folders in it are not searched.

    Args:
        extensions: Extensions that count, lower case, with the dot.

    Returns:
        Sorted images, and how many other files there are by extension, and
        how many folders. Names that begin with a dot are neither.
    """
    _check_folder(folder)
    images, others = [], Counter()
    for path in sorted(folder.iterdir()):
        if path.name.startswith('.'):
            continue
        if not path.is_file():
            others['folder'] += 1
        elif path.suffix.lower() in extensions:
            images.append(path)
        else:
            others[path.suffix.lower() or 'no extension'] += 1
    return images, others


def only_file(files: Sequence[Path], names: Collection[str], root: Path,
              needed: bool = True) -> Path | None:
    """Return the one file with one of the names, or None if not needed."""
    matching = [path for path in files if path.name in names]
    if len(matching) > 1 or (needed and not matching):
        raise LayoutError(
            f'{root} must hold one file {" or ".join(names)}, found '
            f'{[str(path) for path in matching] or "none"}')
    return matching[0] if matching else None


def index_files(paths: Iterable[Path],
                key: Callable[[Path], Hashable]) -> dict[Hashable, Path]:
    """Index files by a part of their names, which must be unique."""
    files: dict[Hashable, Path] = {}
    for path in paths:
        other = files.setdefault(key(path), path)
        if other != path:
            raise LayoutError(
                f'{other} and {path} are called the same; keep one of them')
    return files


def check_same_names(images: Collection[str], masks: Collection[str],
                     folder: Path) -> None:
    """See that every image has a mask, and every mask an image."""
    for present, absent, lack in ((images, masks, 'mask'),
                                  (masks, images, 'image')):
        lonely = sorted(set(present) - set(absent))
        if lonely:
            raise LayoutError(f'{len(lonely)} names in {folder} have no '
                              f'{lack}, the first is {lonely[0]!r}')


def check_parts(name: str, root: Path, counts: Mapping[str, int],
                official: Mapping[str, int], examples: str,
                others: Mapping[str, int]) -> list[str]:
    """See that no part is empty, and say what else differs from a release.

    What is trained on an empty part, or tested, would say nothing of it.

    Args:
        counts: Number of images by class, or by another part.
        official: The numbers of the release.
        examples: Files that are expected, for the message.
        others: Number of other files by extension.
    """
    empty = [part for part in official if not counts.get(part)]
    if empty:
        raise LayoutError(
            f'{root} holds no image of {", ".join(empty)}: expected '
            f'{examples}, found {dict(others) or "no files"} besides')
    left_out = [f'Left out: {dict(others)}.'] * bool(others)
    return compare_counts(name, counts, official) + left_out


def compare_counts(name: str, counts: Mapping[str, int],
                   official: Mapping[str, int],
                   noun: str = 'images') -> list[str]:
    """Say in a sentence which parts of a release are incomplete, if any."""
    differing = [
        f'{part} {counts.get(part, 0)} of {number}'
        for part, number in official.items() if counts.get(part, 0) != number]
    if not differing:
        return []
    return [f'This is not the complete {name}: {", ".join(differing)} '
            f'{noun}. Splits and results are not those of the release.']


def name_images(names: Collection[str], what: str) -> list[str]:
    """Say in a sentence which images something holds for, if there are any."""
    return [f'{len(names)} images {what}: {shown(sorted(names))}.'
            ] if names else []
