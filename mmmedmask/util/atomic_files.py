"""Write files that are whole or not there at all."""

import csv
import errno
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

#: Shell pattern of temporary files that killed processes leave behind.
PART_PATTERN = '.*.part*'
#: Numbers of errors of a full disk, a full share of it, or a limit.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic_path(path: str | Path, durable: bool = True) -> Iterator[Path]:
    """Give the path of a temporary file that takes the place of another.

    It lies in the same folder, which is made, and ends as ``path`` does, for
    writers that look at the ending; two processes get two of them. What the
    block writes reaches the disk before the old file is replaced. If the block
    raises, the old file stays and the temporary one is removed. An OSError of
    a full disk names the file. Without ``durable`` the file need not outlive a
    power cut, so that thousands of small ones are written faster.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        prefix=f'.{path.stem}.', suffix=f'.part{path.suffix}', dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files that the owner alone can read.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        if durable:
            with temporary.open('rb+') as stream:
                os.fsync(stream.fileno())
        os.replace(temporary, path)
        if durable:
            _sync_folder(path.parent)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise OSError(error.errno, f'{error.strerror}: {path} could not be '
                      'written; what was there before is as it was') from error
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def reserve_space(path: str | Path, size: int) -> None:
    """Let a file have its room on the disk before it is written.

    For libraries that crash when a disk gets full: no room for ``size`` bytes,
    and a little more, is an OSError here.
    """
    if not hasattr(os, 'posix_fallocate'):
        return
    room = size + size // 20 + 2**20
    with Path(path).open('rb+') as stream:
        try:
            os.posix_fallocate(stream.fileno(), 0, room)
        except OSError as error:
            # Some file systems cannot reserve.
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise OSError(error.errno, f'{error.strerror}: {path} needs '
                              f'{room / 1e6:.1f} MB') from error


def _sync_folder(folder: Path) -> None:
    """Let a new name outlive a power cut, where folders can be synced."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Give a file another name, which takes no space, or else copy it.

    The target is whole or not there; another file there is replaced.
    """
    target = Path(target)
    if target.exists() and target.samefile(source):
        return
    temporary = target.with_name(f'.{target.name}.part')
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        # To another disk, or on one that has no second names.
        with atomic_path(target) as copy:
            shutil.copyfile(source, copy)
    else:
        os.replace(temporary, target)


def write_bytes(path: str | Path, content: bytes,
                durable: bool = True) -> None:
    """Write bytes, whole or not at all; see :func:`atomic_path`."""
    with atomic_path(path, durable) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | Path, text: str) -> None:
    """Write a text as UTF-8, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding='utf-8')


def write_json(path: str | Path, value: object, indent: int | None = 1,
               **options: object) -> None:
    """Write a value as json, whole or not at all; NaN is refused.

    ``indent`` None writes one line; ``options`` are of :func:`json.dumps`.
    """
    write_text(path, json_text(value, indent, **options))


def json_text(value: object, indent: int | None = 1, **options: object) -> str:
    """Make the text that :func:`write_json` writes.

    Example:
        >>> json_text({'a': 1}, indent=None)
        '{"a": 1}\\n'
    """
    return json.dumps(value, indent=indent, allow_nan=False, **options) + '\n'


def write_csv(path: str | Path, columns: Sequence[str],
              rows: Iterable[Sequence]) -> None:
    """Write a csv, its first line first, whole or not; see `csv_text`."""
    write_text(path, csv_text([columns, *rows]))


def csv_text(rows: Iterable[Sequence], delimiter: str = ',',
             plain: bool = False) -> str:
    """Write rows as csv in which no cell is a formula.

    Cells that a spreadsheet would calculate begin with an apostrophe, which
    :func:`~mmmedmask.util.table_files.read_table` takes off again. ``plain``
    leaves them as they are and quotes all cells.

    Example:
        >>> print(csv_text([['=1+1', -1, 'a,b']]), end='')
        '=1+1,-1,"a,b"
    """
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator='\n',
                        quoting=csv.QUOTE_ALL if plain else csv.QUOTE_MINIMAL)
    writer.writerows(rows if plain
                     else ([f"'{cell}" if is_formula(str(cell).lstrip("'"))
                            else cell for cell in row] for row in rows))
    return text.getvalue()


def is_formula(cell: str) -> bool:
    """Whether a spreadsheet calculates what is in a cell, or may.

    Example:
        >>> is_formula('=1+1'), is_formula('-1.5')
        (True, False)
    """
    if len(cell) < 2 or cell[0] not in '=+-@\t\r':
        return False
    try:
        float(cell)
    except ValueError:
        return True
    return False
