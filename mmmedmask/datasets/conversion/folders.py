"""Find the folder of a data set in what was unpacked, and list its files."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mmmedmask.datasets.conversion import LayoutError
from mmmedmask.datasets.image_io import IMAGE_EXTENSIONS


def only_folder(root: Path, is_it: Callable[[Path], bool],
                expected: str) -> Path:
    """Return the one folder at or up to two levels below another.

    Args:
        root: Where to look.
        is_it: Says whether a folder is the one.
        expected: What the folder holds, for the error.

    Returns:
        The folder.

    Raises:
        LayoutError: If there is none, or more than one.
    """
    if not root.is_dir():
        raise LayoutError(f'{root} does not exist or is no folder')
    candidates = [root, *sorted(root.glob('*')), *sorted(root.glob('*/*'))]
    folders = [place for place in candidates
               if place.is_dir() and is_it(place)]
    if len(folders) != 1:
        found = [str(folder) for folder in folders] or 'no such folder'
        raise LayoutError(
            f'{root} must hold exactly one folder with {expected}; '
            f'found {found}')
    return folders[0]


def class_folders(root: Path, classes: Sequence[str]) -> list[Path]:
    """Return the folders of the classes.

    Args:
        root: The folder that holds them and no other folder.
        classes: Their names.

    Returns:
        One folder per class.

    Raises:
        LayoutError: If a class is missing or a folder is no class.
    """
    present = {path.name for path in root.iterdir()
               if path.is_dir() and not path.name.startswith('.')}
    missing, unknown = (
        sorted(set(classes) - present), sorted(present - set(classes)))
    if missing or unknown:
        raise LayoutError(
            f'{root} must hold one folder for each of {list(classes)}; '
            f'missing: {missing or "none"}, unknown: {unknown or "none"}')
    return [root / name for name in classes]


def image_files(
    folder: Path, extensions: Sequence[str] = IMAGE_EXTENSIONS
) -> tuple[list[Path], Counter]:
    """List the images of one folder.

    Args:
        folder: The folder; folders in it are not searched.
        extensions: Extensions that count, lower case, with the dot.

    Returns:
        Sorted images, and how many other files there are by extension.
        Names that begin with a dot are neither.
    """
    images, others = [], Counter()
    for path in sorted(folder.iterdir()):
        if path.name.startswith('.') or not path.is_file():
            continue
        if path.suffix.lower() in extensions:
            images.append(path)
        else:
            others[path.suffix.lower() or 'no extension'] += 1
    return images, others


def compare_counts(name: str, found: Mapping[str, int],
                   official: Mapping[str, int]) -> list[str]:
    """Say whether all images of a release are there.

    Args:
        name: The data set.
        found: Number of images by class, or by another part.
        official: The numbers of the release.

    Returns:
        A sentence, or nothing if all numbers agree.
    """
    differing = [
        f'{part} {found.get(part, 0)} of {number}'
        for part, number in official.items() if found.get(part, 0) != number
    ]
    if not differing:
        return []
    return [f'This is not the complete {name}: {", ".join(differing)} '
            'images. Splits and results are not those of the release.']
