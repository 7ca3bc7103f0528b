"""The manifest of a run: what it was made with, how far it is, its results.

It is in the run's folder and written whole or not at all, so that a kill at
any moment leaves the state before or after.
"""

import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from mmmedmask.experiments.fingerprints import DataFingerprints
from mmmedmask.experiments.run import DONE_FILE, Run
from mmmedmask.experiments.run_files import read_logged

MANIFEST_FILE = 'manifest.json'
LOCK_FILE = 'run.lock'
FORMAT = 3
# What makes one run another.
_SETTINGS = ('digest', 'scale', 'seed', 'fold', 'gpus')
_KEYS = frozenset({
    'id', 'config', 'config_file', 'options', *_SETTINGS, 'users', 'sources',
    'data_root', 'data', 'data_changed', 'found_files', 'status', 'starts',
    'seconds', 'steps', 'load_checks', 'results'})
# Files of a run that are not a sign of an earlier one.
_OWN_FILES = frozenset({MANIFEST_FILE, LOCK_FILE, DONE_FILE})


def read_manifest(folder: Path) -> dict | None:
    """Read the manifest in a run's folder, if there is one.

    One that is not ours is a ValueError.
    """
    file = folder / MANIFEST_FILE
    if not file.is_file():
        return None
    try:
        manifest = json.loads(file.read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(f'{file} is not json: {error}') from None
    if not isinstance(manifest, dict) or manifest.get('format') != FORMAT:
        raise ValueError(f'{file} is of another version of the recipe runner: '
                         'move its folder, or choose another --work-dir')
    if missing := _KEYS - manifest.keys():
        raise ValueError(f'{file} lacks {sorted(missing)}: move its folder, '
                         'or choose another --work-dir')
    return manifest


def read_quietly(run: Run) -> dict | None:
    """Read the manifest of a run; None if there is none of ours."""
    try:
        return read_manifest(run.folder)
    except ValueError:
        return None


def new_manifest(run: Run, data_root: str | Path,
                 data: Mapping[str, str | None]) -> dict:
    """Make the manifest of a run that has not started.

    ``data`` are the fingerprints of all that it reads.
    """
    # Weights may be there from commands that were given by hand.
    found_files = any(
        path.name not in _OWN_FILES and not path.name.startswith('.')
        for path in run.folder.glob('*'))
    return dict(
        format=FORMAT, id=uuid.uuid4().hex, config=run.name,
        config_file=str(Path(run.config_file).resolve()),
        options=dict(run.options),
        **{key: getattr(run, key) for key in _SETTINGS},
        users=list(run.users), sources=[],
        data_root=str(Path(data_root).resolve()), data=dict(data),
        data_changed=[], found_files=found_files, status='new', starts=[],
        seconds=0.0, steps={}, load_checks=[], logged={}, results={})


def load_checked_manifest(run: Run, fingerprints: DataFingerprints | None
                          ) -> dict | None:
    """Read a run's manifest; refuse one of other settings, data or sources.

    ``fingerprints`` are those of the data now; None does not compare them. A
    ValueError if something differs; the message says what.
    """
    manifest = read_manifest(run.folder)
    if manifest is None:
        return None
    other = _difference(run, manifest, fingerprints)
    if other:
        raise ValueError(f'{run.folder} was made with {other}. Two settings '
                         'are never mixed in one folder: move or delete it, '
                         'or choose another --work-dir')
    return manifest


def _difference(run: Run, manifest: Mapping,
                fingerprints: DataFingerprints | None) -> str | None:
    for key in _SETTINGS:
        before, asked = manifest.get(key), getattr(run, key)
        if before != asked:
            return f'{key} {before!r}, asked is {asked!r}'
    if changed := manifest['data_changed']:
        return f'data that changed while it ran: {", ".join(changed)}'
    if fingerprints is not None and (
            changed := changed_data(manifest, fingerprints.of_run(run))):
        return ('other data: the names, sizes or tables of files have changed '
                f'in {", ".join(changed)}')
    remade = remade_source(run, manifest)
    return remade and f'an earlier run of {remade.key}, which has been made ' \
        'anew'


def changed_data(manifest: Mapping,
                 data: Mapping[str, str | None]) -> list[str]:
    """Names of the data whose fingerprints are not those of a manifest."""
    before = manifest['data']
    return sorted(name for name in {*before, *data}
                  if before.get(name) != data.get(name))


def remade_source(run: Run, manifest: Mapping) -> Run | None:
    """Find a source that was made anew after a run had started from it."""
    used = {source['run']: source['id'] for source in manifest['sources']}
    for source in run.sources.values():
        now = read_quietly(source.run)
        if now is None:
            continue
        if used.get(source.run.key, now['id']) != now['id']:
            return source.run
        above = remade_source(source.run, now)
        if above is not None:
            return above
    return None


def results_of(run: Run, choice: str, fingerprints: DataFingerprints | None,
               logged: str | None = None) -> dict[str, float | str] | str:
    """Results of the test of a checkpoint, or why none count.

    ``fingerprints`` are those of the data now; None does not compare them.
    ``logged`` asks for what the training has logged, see
    :class:`~mmmedmask.experiments.schema.TableColumn`.
    """
    manifest = read_quietly(run)
    if manifest is None and (run.folder / MANIFEST_FILE).is_file():
        return 'not readable'
    if manifest is not None:
        if manifest['digest'] != run.digest:
            return 'other settings'
        if manifest['data_changed']:
            return 'data changed while it ran'
        remade = remade_source(run, manifest)
        if remade is not None:
            return f'of an earlier run of {remade.key}, since made anew'
        if fingerprints is not None and _read_others(run, fingerprints):
            return 'other data'
        if logged is None:
            results = manifest['results'].get(choice)
        elif 'logged' in manifest:
            results = manifest['logged'].get(logged)
        else:
            # Earlier versions left it in the log alone.
            results = manifest['steps'].get('train', {}).get('ended') \
                and read_logged(run.folder)[logged]
        if results is not None:
            return results
    return 'failed' if _has_failed(run) else 'missing'


def _read_others(run: Run, fingerprints: DataFingerprints) -> bool:
    """Whether a run, or one that it starts from, has read other data.

    What is not there any more cannot be compared.
    """
    manifest = read_quietly(run)
    return manifest is not None and (any(
        digest not in (None, manifest['data'].get(name))
        for name, digest in fingerprints.of_run(run).items()) or any(
            _read_others(source.run, fingerprints)
            for source in run.sources.values()))


def _has_failed(run: Run) -> bool:
    """Whether a run has failed, or one that it starts from."""
    return (read_quietly(run) or {}).get('status') == 'failed' or any(
        _has_failed(source.run) for source in run.sources.values())


def now() -> str:
    """The time, as it stands in manifests: UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec='seconds')
