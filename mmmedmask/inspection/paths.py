"""Files and folders that a config names, and that are not there."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmmedmask.compat.config_bases import find_config_folder
from mmmedmask.config_files import EXPRESSION_FILES, MODEL_FILES, runner_keys
from mmmedmask.inspection.findings import Finding, green, red, yellow
from mmmedmask.inspection.known_data import suggest_data
from mmmedmask.inspection.unknown_keys import OPAQUE
from mmmedmask.shrinking.model_sizes import kind_of
from mmmedmask.util.nearest import hint_beside_root
from mmmedmask.util.nested import as_list, dotted, walk_nested

#: Keys of data sets and metrics that name files below ``data_root``.
BELOW_ROOT = ('ann_file', 'split_file', 'feature_root', 'gene_list',
              'img_prefix', 'seg_map_prefix')
WEIGHT_SUFFIXES = ('.pth', '.pt', '.ckpt', '.bin', '.safetensors')
WEIGHT_KEYS = ('checkpoint', 'tokenizer_path')
#: Their files lie below no root: that of a metric makes names short.
WITHOUT_ROOT = (('model', ), ('val_evaluator', ), ('test_evaluator', ),
                ('metric', ))
#: What a finding is called of data at an address, which is not looked at.
REMOTE = 'remote'
#: Where weights go that a run writes, not reads.
RUNS = 'work_dirs'


def check_paths(config: Config) -> list[Finding]:
    """Look for every file and folder that a config names.

    Data sets and metrics (``data_root`` and what lies below it), lists of
    genes, the weights that modules, ``load_from`` and teachers start from,
    and nothing that a run writes. What is missing is red; addresses are
    yellow: weights that a run would download, data that nobody looks at.
    """
    findings: dict[str, Finding] = {}
    keys = runner_keys() - {'work_dir'}
    for key, value in config.to_dict().items():
        if key in keys and value is not None:
            for finding in _look({key: value}, ()):
                # One line for a path that several parts name.
                findings.setdefault(finding.message, finding)
    return list(findings.values())


def data_is_there(dataset: Mapping) -> bool:
    """Tell whether all files are there that a part of a config names.

    Data at an address are not: nothing but a run fetches them.
    """
    return all(finding.status != 'red' and finding.check != REMOTE
               for finding in _look(dataset, ()))


def _look(node: Any, path: tuple) -> Iterator[Finding]:
    for place, part in walk_nested(node, path):
        if not OPAQUE.isdisjoint(place):
            continue
        if isinstance(part, str) and (part.endswith(WEIGHT_SUFFIXES)
                                      or place[-1:] and place[-1]
                                      in WEIGHT_KEYS):
            if part:
                yield _judge_weights(part, dotted(place))
        elif not isinstance(part, Mapping):
            continue
        elif str(part.get('type')).endswith(('ProbeHook', 'ProbeLoop')):
            yield from _look_at_probe(part, place)
        elif place[:1] not in WITHOUT_ROOT and (
                'data_root' in part or 'data_prefix' in part):
            yield from _look_at_data(part, place)
        else:
            keys = MODEL_FILES if place[:1] == ('model', ) else ('ann_file', )
            for key, file in _texts(part, keys):
                yield _judge_data(file, (*place, key), Path(file).parent)


def _look_at_data(node: Mapping, path: tuple) -> Iterator[Finding]:
    roots = as_list(node.get('data_root') or '')
    findings = [_judge_data(root, (*path, 'data_root'), root)
                for root in roots if root]
    yield from findings
    # What lies below a missing folder is missing too.
    if len(roots) == 1 and all(
            finding.status == 'green' for finding in findings):
        for keys, name in _files_below(node):
            finding = _judge_data(
                name if '://' in name else str(Path(roots[0], name)),
                (*path, *keys), roots[0])
            hint = hint_beside_root(name, roots[0])
            yield replace(finding, mend=hint) if hint else finding


def _look_at_probe(node: Mapping, path: tuple) -> Iterator[Finding]:
    """What probes read; training goes on without it if it may."""
    for key, folder in _texts(node, ('data', 'dense')):
        finding = _judge_data(folder, (*path, key), folder)
        if node.get('optional') and finding.status == 'red':
            finding = replace(
                finding, status='yellow', message=f'{finding.message}; '
                'nothing is probed on it, training goes on')
        yield finding


def _texts(node: Any, keys: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Find the keys of a dict that are texts, and those."""
    for key in keys:
        text = node.get(key) if isinstance(node, Mapping) else None
        if isinstance(text, str) and text:
            yield key, text


def _files_below(node: Mapping) -> Iterator[tuple[tuple, str]]:
    """Find the files that a data set reads, by the keys that name them."""
    for key, name in _texts(node, (*BELOW_ROOT, 'data_prefix')):
        yield (key, ), name
    prefix = node.get('data_prefix')
    for key, name in _texts(prefix, prefix or ()):
        yield ('data_prefix', key), name
    for key, name in _texts(node.get('expression'), EXPRESSION_FILES):
        yield ('expression', key), name
    kind = kind_of(node)
    if kind in ('LabelledImages', 'LesionSegmentation'):
        folder = node.get('split_folder', 'splits/paper')
        yield ('data_root', ), 'classes.txt'
        yield ('split_folder', ), f'{folder}/{node.get("split", "train")}.csv'
    if kind == 'NCTCRC':
        yield ('image_folder', ), node.get('image_folder', 'data')
        if not node.get('ann_file'):
            labelled = '_labeled' if node.get('with_labels') else ''
            yield ('split', ), f'meta/{node.get("split", "train")}' \
                f'{labelled}.txt'


def _judge_data(name: str, keys: tuple, root: str | Path) -> Finding:
    file, where = Path(name), dotted(keys)
    if '://' in name:
        return yellow(REMOTE, f'{name} is not on this machine, so nobody has '
                      'looked whether it is there', where)
    if file.exists():
        return green('path', f'{file} is there', where)
    mend = suggest_data(root or file)
    if file.parent.is_dir() and Path(root).exists():
        there = sorted(path.name for path in file.parent.iterdir())
        listed = ', '.join(there[:6]) or 'nothing'
        mend = f'{file.parent} holds {listed}; {mend}'
    return red('path', f'{file} does not exist (working folder: {Path.cwd()})',
               where, mend)


def _judge_weights(name: str, where: str) -> Finding:
    if '://' in name:
        return yellow('path', f'{name} is downloaded when a run first needs '
                      'it', where)
    if Path(name).expanduser().is_file():
        return green('path', f'{name} is there', where)
    return red('path', f'the weights {name} do not exist (working folder: '
               f'{Path.cwd()})', where, _suggest_weights(Path(name)))


def _suggest_weights(file: Path) -> str:
    """Say how missing weights come into being."""
    there = sorted(path.name for path in file.parent.glob('*.pth')) \
        if file.parent.is_dir() else []
    if there:
        return f'{file.parent} holds {", ".join(there[-5:])}'
    try:
        configs = list(find_config_folder().rglob(f'{file.parent.name}.py'))
    except FileNotFoundError:
        configs = []
    if RUNS in file.parts and configs:
        config, here = configs[0], Path.cwd()
        if config.is_relative_to(here):
            config = config.relative_to(here)
        return f'train it first: python tools/train.py {config}'
    return 'get the file, or name another one where the config does'
