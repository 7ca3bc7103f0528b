"""From the name of a slide to its file of features."""

from collections.abc import Iterable
from pathlib import Path

SLIDE_SUFFIXES = ('.svs', '.tif', '.tiff', '.ome', '.ndpi', '.mrxs', '.scn',
                  '.svslide', '.vms', '.vmu', '.bif', '.czi', '.dcm', '.vsi',
                  '.isyntax', '.qptiff', '.sdpc', '.kfb', '.tmap')
"""Endings of slide files, in lower case."""

FEATURE_SUFFIXES = ('.h5', '.hdf5', '.pt', '.pth', '.npy')
"""Endings of files with features, in lower case."""

# CLAM writes every slide into both.
_CLAM_FOLDERS = ('h5_files', 'pt_files')


def slide_name(name: str) -> str:
    """Take known endings off the name of a slide or of its features.

    Names of TCGA slides contain dots, so only endings that are known are
    taken off, whole, and as often as they occur: ``'a.b.svs'`` and
    ``'a.b.svs.h5'`` give ``'a.b'``, and ``'vss.svs'`` gives ``'vss'``.

    Args:
        name: A name without folders.

    Returns:
        The name without endings.

    Raises:
        ValueError: If nothing is left.
    """
    short = name.strip()
    endings = SLIDE_SUFFIXES + FEATURE_SUFFIXES
    while short.lower().endswith(endings):
        short = short[:short.rindex('.')]
    if not short:
        raise ValueError(f'{name!r} is no name of a slide')
    return short


class FeatureFolder:
    """The files of features in a folder, by the name of their slide.

    Looks into the folder itself and into ``h5_files`` and ``pt_files`` of
    CLAM. Where CLAM wrote a slide into both, the h5 file is taken, because
    it has the coordinates too.

    Args:
        folder: The folder.

    Raises:
        FileNotFoundError: If the folder is missing or has no file of
            features; says which folders below it have some.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(
                f'The feature folder {self.folder} does not exist or is not '
                'a folder')
        self._files: dict[str, list[Path]] = {}
        for place in (self.folder,
                      *(self.folder / name for name in _CLAM_FOLDERS)):
            for path in _feature_files(place):
                self._files.setdefault(slide_name(path.name), []).append(path)
        if not self._files:
            below = sorted({
                path.parent.relative_to(self.folder).as_posix()
                for path in self.folder.glob('*/*')
                if path.suffix.lower() in FEATURE_SUFFIXES
            } | {
                path.parent.relative_to(self.folder).as_posix()
                for path in self.folder.glob('*/*/*')
                if path.suffix.lower() in FEATURE_SUFFIXES
            })
            hint = (f'; its folders {below[:5]} have some' if below else '')
            raise FileNotFoundError(
                f'{self.folder} has no file that ends with '
                f'{FEATURE_SUFFIXES}{hint}')

    def __len__(self) -> int:
        return len(self._files)

    def find(self, slide_id: str) -> Path | None:
        """Find the features of a slide.

        Args:
            slide_id: Name of the slide, with or without its ending.

        Returns:
            The file, or None if there is none.

        Raises:
            ValueError: If there are several and not because CLAM writes two.
        """
        found = self._files.get(slide_name(slide_id), [])
        if len(found) == 2 and [path.parent.name for path in found
                                ] == list(_CLAM_FOLDERS):
            return found[0]
        if len(found) > 1:
            raise ValueError(
                f'Several files may hold the features of slide {slide_id}: '
                f'{[str(path) for path in found]}; name one in the column '
                'features_path')
        return found[0] if found else None

    def similar(self, slide_id: str) -> str | None:
        """Find a name with more or fewer parts, for a message.

        TCGA's slides have a long id behind their barcode and a dot, which
        tables often leave out.

        Args:
            slide_id: Name of a slide that has no file.

        Returns:
            A name that the folder has: the given one with parts behind a
            dot, or without; None if there is none.
        """
        name = slide_name(slide_id)
        return next((other for other in self._files
                     if other.startswith(f'{name}.')
                     or name.startswith(f'{other}.')), None)


def _feature_files(folder: Path) -> Iterable[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir()
                  if path.suffix.lower() in FEATURE_SUFFIXES
                  and not path.name.startswith('.'))
