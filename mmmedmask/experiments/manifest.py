"""The manifest of a run: what it was made with, how far it is, its results.

It is in the run's folder and written whole or not at all, so that a kill at
any moment leaves the state before or after.
"""

import fcntl
import hashlib
import json
import os
import socket
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mmmedmask.experiments.chain import find_data
from mmmedmask.experiments.plan import Run
from mmmedmask.experiments.schema import DATA_PREFIX

MANIFEST_FILE = 'manifest.json'
LOCK_FILE = 'run.lock'
FORMAT = 2
#: Files whose content counts: tables and lists of names, and weights, which
#: have one size for one architecture.
CONTENT_SUFFIXES = ('.csv', '.tsv', '.txt', '.json', '.pth', '.pt', '.ckpt',
                    '.safetensors')
#: Bytes at the beginning and at the end of such a file that are read.
CONTENT_BYTES = 2**20
#: Files of a run that are no sign of an earlier one.
_OWN_FILES = frozenset({MANIFEST_FILE, LOCK_FILE, f'{MANIFEST_FILE}.part'})


class RunLockedError(RuntimeError):
    """Another process has the run."""


@dataclass(frozen=True)
class RunLock:
    """A run that no other process can take.

    Attributes:
        descriptor: The open lock file. A child process that inherits it keeps
            the lock, should this process be killed.
    """

    descriptor: int


@contextmanager
def lock_run(folder: Path) -> Iterator[RunLock]:
    """Take a run.

    The lock ends with the process and the children that inherited it,
    whatever ends them, so nothing has to be cleaned up.

    Args:
        folder: The run's folder; it is made.

    Yields:
        The lock.

    Raises:
        RunLockedError: If another process has it; the message names it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(descriptor, 200, 0).decode(errors='replace')
            raise RunLockedError(holder.strip() or 'another process') \
                from None
        note_holder(descriptor, f'process {os.getpid()}')
        yield RunLock(descriptor)
    finally:
        os.close(descriptor)


def note_holder(descriptor: int, holder: str) -> None:
    """Write into a lock who has it."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor,
              f'{holder} on {socket.gethostname()}\n'.encode(), 0)


def write_json(file: Path, content: Mapping) -> None:
    """Write a json file, whole or not at all.

    Args:
        file: The file to (over)write.
        content: Plain data.
    """
    partial = file.with_name(f'{file.name}.part')
    with partial.open('w', encoding='utf-8') as stream:
        json.dump(content, stream, indent=1)
        stream.write('\n')
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(partial, file)


def read_manifest(folder: Path) -> dict | None:
    """Read the manifest of a run.

    Args:
        folder: The run's folder.

    Returns:
        The manifest, None if there is none.

    Raises:
        ValueError: If it is none of ours.
    """
    file = folder / MANIFEST_FILE
    if not file.is_file():
        return None
    try:
        manifest = json.loads(file.read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(f'{file} is no json: {error}') from None
    if not isinstance(manifest, dict) or manifest.get('format') != FORMAT:
        raise ValueError(
            f'{file} is of another version of the recipe runner: move its '
            'folder, or choose another --work-dir')
    return manifest


def new_manifest(run: Run, data_root: str | Path,
                 data: Mapping[str, str | None]) -> dict:
    """Make the manifest of a run that has not started.

    Args:
        run: The run.
        data_root: Folder of the data.
        data: Fingerprint of each path that it reads, see
            :class:`DataFingerprints`.

    Returns:
        The manifest.
    """
    return dict(
        format=FORMAT,
        id=uuid.uuid4().hex,
        config=run.stage.path.stem,
        config_file=str(run.stage.path.resolve()),
        options=dict(run.stage.stage.options),
        digest=run.digest,
        scale=run.scale,
        seed=run.seed,
        gpus=run.gpus,
        users=list(run.users),
        sources=[],
        data_root=str(Path(data_root).resolve()),
        data=dict(data),
        # Weights may be there from commands that were given by hand.
        found_files=any(
            path.name not in _OWN_FILES for path in run.folder.glob('*')),
        status='new',
        starts=[],
        seconds=0.0,
        steps={},
        load_checks=[],
        results={})


def check_manifest(run: Run, manifest: Mapping,
                   data: Mapping[str, str | None] | None,
                   sources: Mapping[str, Mapping | None]) -> None:
    """Refuse a folder that has a run of other settings, data or sources.

    Args:
        run: What is asked for.
        manifest: What its folder has.
        data: Fingerprints of the data now; None does not compare them.
        sources: Manifest of each run that it starts from, by
            :func:`run_key`.

    Raises:
        ValueError: If something differs; the message says what.
    """
    wanted = dict(digest=run.digest, scale=run.scale, seed=run.seed,
                  gpus=run.gpus)
    for key, value in wanted.items():
        if manifest.get(key) != value:
            raise ValueError(_other_run(
                run, f'{key} {manifest.get(key)!r}, asked is {value!r}'))
    if data is not None:
        before = manifest.get('data') or {}
        changed = sorted(key for key in {*before, *data}
                         if before.get(key) != data.get(key))
        if changed:
            raise ValueError(_other_run(
                run, 'other data: the names, sizes or tables of files have '
                f'changed in {", ".join(changed)}'))
    for source in manifest.get('sources') or []:
        now = sources.get(source['run'])
        if now is not None and now['id'] != source['id']:
            raise ValueError(_other_run(
                run, f'an earlier run of {source["run"]}, which has been made '
                'anew'))


def run_key(run: Run) -> str:
    """Name of a run's folder below that of all runs of its scale."""
    return f'{run.folder.parent.name}/{run.folder.name}'


def _other_run(run: Run, what: str) -> str:
    return (f'{run.folder} was made with {what}. Two settings are never '
            'mixed in one folder: move or delete it, or choose another '
            '--work-dir')


class DataFingerprints:
    """Digests of the files that runs read, looked up once.

    Args:
        data_root: Folder in the place of ``data/``.
    """

    def __init__(self, data_root: str | Path) -> None:
        self.data_root = Path(data_root)
        self._found: dict[str, str | None] = {}

    def of_run(self, run: Run) -> dict[str, str | None]:
        """Fingerprints of what a run reads.

        Args:
            run: The run.

        Returns:
            Path below the data root to its fingerprint, None where there is
            nothing. A path inside of another one is left out.
        """
        kept: list[str] = []
        for path in _data_paths(run):
            if not any(path.startswith(f'{one}/') for one in kept):
                kept.append(path)
        return {path: self.of_path(path) for path in kept}

    def of_path(self, path: str) -> str | None:
        """Fingerprint of a file or folder below the data root."""
        if path not in self._found:
            self._found[path] = fingerprint(self.data_root / path)
        return self._found[path]

    def missing(self, run: Run) -> list[str]:
        """Paths below the data root that a run reads and that are not there.

        Args:
            run: The run.

        Returns:
            The paths as the config has them, without ``data/``.
        """
        return [path for path in _data_paths(run)
                if not (self.data_root / path).exists()]


def _data_paths(run: Run) -> list[str]:
    """What a run reads below the data root; not what it may write there."""
    return sorted({
        path.removeprefix(DATA_PREFIX).strip('/')
        for where, path in find_data(run.config).items()
        if where[-1] != 'cache_dir'})


def fingerprint(path: Path) -> str | None:
    """Digest of the names and sizes of files, and of what tables say.

    Of tables, lists and weights (:data:`CONTENT_SUFFIXES`) both ends count,
    which is all of most of them.

    Args:
        path: A file, or a folder, whose hidden files and ``__pycache__`` do
            not count; links are followed.

    Returns:
        The digest, None if there is nothing.
    """
    if path.is_file():
        lines = [_describe_file(path)]
    elif path.is_dir():
        lines = sorted(_list_files(path, path, frozenset()))
    else:
        return None
    return hashlib.sha256('\n'.join(lines).encode()).hexdigest()[:16]


def _list_files(folder: Path, root: Path,
                above: frozenset[Path]) -> Iterator[str]:
    real = folder.resolve()
    if real in above:
        # A link to a folder that holds it.
        return
    for entry in os.scandir(folder):
        if entry.name.startswith('.') or entry.name == '__pycache__':
            continue
        path = Path(entry.path)
        if entry.is_dir():
            yield from _list_files(path, root, above | {real})
        elif entry.is_file():
            yield (f'{path.relative_to(root).as_posix()} '
                   f'{_describe_file(path)}')


def _describe_file(path: Path) -> str:
    size = path.stat().st_size
    if path.suffix.lower() not in CONTENT_SUFFIXES:
        return str(size)
    with path.open('rb') as stream:
        content = hashlib.sha256(stream.read(CONTENT_BYTES))
        stream.seek(max(0, size - CONTENT_BYTES))
        content.update(stream.read())
    return f'{size} {content.hexdigest()}'


def now() -> str:
    """The time, as it stands in manifests: UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec='seconds')
