"""List the files below a folder: one way, which leaves nothing out unsaid."""

import os
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path


def walk_files(root: Path, follow_links: bool = True) -> list[Path]:
    """List files below a folder and links, by path parts; no dot names.

    Without ``follow_links`` folders that are links are not entered.
    A folder that cannot be read is an OSError that names it.
    """
    def stop(error: OSError) -> None:
        raise error

    paths, visited = [], set()
    # Without a word os.walk would leave out what it cannot read, as
    # Path.rglob does.
    for folder, subfolders, files in os.walk(root, onerror=stop,
                                             followlinks=follow_links):
        real = os.path.realpath(folder)
        if real in visited:
            subfolders.clear()
            continue
        visited.add(real)
        # Sorted in place, so that which of two links comes first is fixed.
        subfolders[:] = sorted(
            name for name in subfolders if not name.startswith('.'))
        paths.extend(Path(folder, name) for name in files
                     if not name.startswith('.'))
    return sorted(paths, key=lambda path: path.relative_to(root).parts)


def real_paths(files: Iterable[str]) -> list[str]:
    """Resolve files through links, with one look at each folder.

    A look at each file would take long on a network's disk.

    Example:
        >>> Path('a.png').touch()
        >>> os.symlink('a.png', 'b.png')
        >>> first, other = real_paths(['a.png', 'b.png'])
        >>> first == other
        True
    """
    folders: dict[str, tuple[str, set[str]]] = {}
    real = []
    for file in files:
        folder, name = os.path.split(file)
        if folder not in folders:
            links = set()
            if os.path.isdir(folder or '.'):
                with os.scandir(folder or '.') as entries:
                    links = {entry.name for entry in entries
                             if entry.is_symlink()}
            folders[folder] = os.path.realpath(folder), links
        place, links = folders[folder]
        real.append(os.path.realpath(file) if name in links
                    else os.path.join(place, name))
    return real


def match_paths(folder: Path, pattern: str) -> list[Path]:
    """List what ``Path.glob`` does, sorted; no dot names, no ``**`` or ``..``.

    A folder that cannot be read is an OSError that names it.

    Example:
        >>> Path('set/splits/mine').mkdir(parents=True)
        >>> [path.as_posix() for path in match_paths(Path('set'), 'sp*/*/')]
        ['set/splits/mine']
    """
    places = [folder]
    for part in Path(pattern).parts:
        places = [path for place in places if place.is_dir()
                  for path in place.iterdir() if fnmatchcase(path.name, part)
                  and not path.name.startswith('.')]
    return sorted(path for path in places
                  if not pattern.endswith('/') or path.is_dir())


def find_files(root: Path, pattern: str) -> list[Path]:
    """List what a folder of runs has of files whose last parts match.

    Links to folders are left out: a link to the best run would take its
    place, or count it twice. Where there is no folder, none.

    Example:
        >>> Path('runs/a').mkdir(parents=True)
        >>> Path('runs/a/scores.csv').touch()
        >>> [path.name for path in find_files(Path('runs'), '*.csv')]
        ['scores.csv']
    """
    if not root.is_dir():
        return []
    return [path for path in walk_files(root, follow_links=False)
            if path.match(pattern)]
