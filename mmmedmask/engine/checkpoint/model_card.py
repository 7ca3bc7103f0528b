"""The card beside exported weights: where they are from, what they take."""

import ast
from collections.abc import Mapping
from contextlib import suppress
from pathlib import PurePath

import yaml
from mmengine.config import Config

from mmmedmask.util.input_units import units_of_config
from mmmedmask.util.nested import innermost_datasets

#: What a card says where the weights have BatchNorm.
STATISTICS = (
    "BatchNorm's statistics are those of what pre-training saw, in CMIM "
    'masked and jittered views. A network in evaluation mode and a detector '
    'with `norm_eval=True` keep them; `norm_eval=False` trains with those of '
    'its own images, which `mmmedmask.PreciseBNHook` measures at the end.\n\n')
#: Scalars of a run that say how good it is.
METRICS = ('train/loss', 'val/', 'test/')


def read_config_text(text: str) -> Config:
    """Read the config that a runner keeps in its checkpoint, running nothing.

    MMEngine writes literals, lists and ``dict(...)``; the rest is left out.
    Text that is not Python is a ValueError.
    """
    settings = {}
    try:
        nodes = ast.parse(text).body
    except SyntaxError as error:
        raise ValueError('the config in the checkpoint is not Python (line '
                         f'{error.lineno}): name one with --config') from None
    for node in nodes:
        if isinstance(node, ast.Assign) and isinstance(
                node.targets[0], ast.Name):
            with suppress(ValueError):
                settings[node.targets[0].id] = _literal(
                    _Numbers().visit(node.value))
    return Config(settings)


class _Numbers(ast.NodeTransformer):
    """MMEngine writes these numbers as names that Python does not know."""

    def visit_Name(self, node: ast.Name) -> ast.expr:  # noqa: N802
        return ast.Constant(float(node.id)) if node.id in ('inf', 'nan') \
            else node


def _literal(node: ast.expr) -> object:
    if isinstance(node, ast.Call) and getattr(
            node.func, 'id', None) == 'dict' and not node.args:
        return {word.arg: _literal(word.value) for word in node.keywords}
    if isinstance(node, ast.Dict):
        return {ast.literal_eval(key): _literal(value) for key, value
                in zip(node.keys, node.values, strict=True)}
    if isinstance(node, ast.List | ast.Tuple):
        return [_literal(element) for element in node.elts]
    return ast.literal_eval(node)


def describe_run(checkpoint: Mapping, config: Config | None,
                 licence: str | None = None) -> dict:
    """Collect what a card says of a run: plain data, paths' last names."""
    meta = checkpoint.get('meta')
    meta = meta if isinstance(meta, Mapping) else {}
    facts = dict(
        name=meta.get('experiment_name'), epoch=meta.get('epoch'),
        iterations=meta.get('iter'), seed=meta.get('seed'), licence=licence)
    scalars = (checkpoint.get('message_hub') or {}).get('log_scalars') or {}
    facts['metrics'] = {
        name: round(float(scalar.current()), 6)
        for name, scalar in scalars.items() if name.startswith(METRICS)}
    if config is not None:
        model = config.get('model') or {}
        backbone = Config(model.get('backbone') or {}).to_dict()
        backbone.pop('init_cfg', None)
        facts.update(method=model.get('type'), backbone=backbone,
                     data=_datasets(config))
        if backbone:
            units = units_of_config(config)
            facts.update(
                normalisation=dict(mean=list(units.mean), std=list(units.std),
                                   data_range=units.data_range),
                channels=len(units.mean), bgr=units.bgr or None)
    return facts


def _datasets(config: Config) -> dict[str, str]:
    """Type and folder of the data of each split."""
    datasets = {}
    for split in ('train', 'val', 'test'):
        dataset = (config.get(f'{split}_dataloader') or {}).get('dataset')
        if dataset:
            names = [f'{inner.get("type")} '
                     f'{PurePath(str(inner.get("data_root") or "")).name}'
                     for inner in innermost_datasets(dataset)]
            datasets[split] = ' and '.join(map(str.strip,
                                               dict.fromkeys(names)))
    return datasets


def write_card(facts: Mapping, files: Mapping[str, str], usage: str,
               library: str, batch_norm: bool = False) -> str:
    """Write a card: Markdown behind a YAML header, as the hub reads it.

    ``facts`` are of :func:`describe_run`, ``files`` say what each exported
    file holds, ``usage`` is code that loads it, and ``library`` what the hub
    takes the weights for, such as ``'timm'``. ``batch_norm`` says that they
    have running statistics.
    """
    licence = facts['licence']
    header = dict(
        library_name=library,
        license=(licence or 'other').lower(),
        pipeline_tag='image-feature-extraction',
        tags=['medical', 'masked-image-modeling', 'mmmedmask'],
        mmmedmask={key: value for key, value in facts.items()
                   if value not in (None, {})})
    units = facts.get('normalisation')
    channels = facts.get('channels')
    largest = units and units['data_range']
    values = f'values from 0 to {largest:g}' if largest else 'values as stored'
    table = dict(
        Method=facts.get('method'),
        Config=facts['name'],
        Training=', '.join(f'{name} {facts[name]}' for name in (
            'epoch', 'iterations', 'seed') if facts[name] is not None),
        Data='; '.join(f'{split}: {data}' for split, data in (
            facts.get('data') or {}).items()),
        Channels='3, in the order ' + (
            'B, G, R' if facts.get('bgr') else 'R, G, B')
        if channels == 3 else channels,
        Normalisation=units and (
            f'{values}, minus {units["mean"]}, divided by {units["std"]}'),
        Licence=licence or 'not stated: ask whoever trained it, and mind the '
        'licence of the data',
        Metrics=', '.join(f'{name} {value:g}' for name, value in
                          facts['metrics'].items()))
    rows = '\n'.join(f'| {name} | {value or "not known"} |'
                     for name, value in table.items())
    listed = '\n'.join(f'- `{name}`: {what}' for name, what in files.items())
    head = yaml.safe_dump(header, sort_keys=False, allow_unicode=True)
    return (
        f'---\n{head}---\n\n# {facts["name"] or "Backbone"}\n\n'
        'The encoder of a pre-training run, without its other parts.\n\n'
        f'| | |\n|---|---|\n{rows}\n\n'
        'Metrics are those logged when the checkpoint was written; '
        'validation can be of an epoch before.\n\n'
        f'{STATISTICS if batch_norm else ""}{listed}\n\n'
        f'```python\n{usage}\n```\n\n'
        'For research; not a medical device.\n')
