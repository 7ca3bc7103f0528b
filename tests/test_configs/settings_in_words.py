"""What people look for in a config, as one sentence made of what it loads."""

import ast
import math
import re

from shipped_configs import CONFIGS, read

#: By which names a config shows a setting in its own text.
NAMES = {'rate': {'base_lr', 'lr'}, 'length': {'max_epochs', 'max_iters'},
         'ratio': {'mask_ratio', 'random_mask_ratio', 'ratio'},
         'data': {'data_root'}}
_GPUS = re.compile(r'_(\d+)xb(\d+)')


def mask_ratio(cfg):
    """The share that training masks; None where it masks nothing."""
    model = cfg.model
    ratios = [part.mask_ratio for part in (
        model, model.get('data_preprocessor'), model.get('backbone'))
        if part and 'mask_ratio' in part]
    for step in cfg.train_dataloader.dataset.get('pipeline', []):
        if step.type == 'BEiTMaskGenerator':
            ratios.append(
                round(step.num_masking_patches / math.prod(step.input_size),
                      2))
        elif step.type in ('SimMIMMaskGenerator',
                           'mmmedmask.GenerateSequenceMask'):
            ratios.append(step.get('mask_ratio', step.get('ratio')))
    if 'random_mask_ratio' in model \
            and not cfg.default_hooks.get('attention_mask') \
            and model.get('masking', 'attention') == 'attention':
        # Without maps chance draws all the masks.
        ratios = [model.random_mask_ratio]
    assert len(ratios) < 2
    return ratios[0] if ratios and ratios[0] else None


def settings(cfg):
    """Learning rate, epochs or iterations, mask ratio and data."""
    return dict(
        rate=cfg.optim_wrapper.optimizer.lr,
        length=cfg.train_cfg.get('max_epochs',
                                 cfg.train_cfg.get('max_iters')),
        ratio=mask_ratio(cfg),
        data=cfg.train_dataloader.dataset.data_root)


def _number(value):
    """0.03 and 2.5e-4 as one writes them."""
    if value >= 0.01:
        return f'{value:.4g}'
    digits, exponent = f'{value:.4e}'.split('e')
    return f'{float(digits):g}e{int(exponent)}'


def in_words(path):
    """Say in one sentence how a config trains.

    The batch is that of a step: GPUs x images, or cases, of each.
    """
    cfg = read(path)
    told = settings(cfg)
    gpus, images = map(int, _GPUS.search(path.name).groups())
    assert images == cfg.train_dataloader.batch_size
    scaled = (cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    assert scaled in (None, gpus * images)
    unit = 'epochs' if 'max_epochs' in cfg.train_cfg else 'iterations'
    masked = '' if told['ratio'] is None \
        else f', mask ratio {told["ratio"]:g}'
    roots = told['data'] if isinstance(told['data'], list) else [told['data']]
    return (f'Learning rate {_number(told["rate"])} for batches of {gpus} x '
            f'{images}, {told["length"]:,} {unit}{masked}; '
            f'{" and ".join(root.rstrip("/") for root in roots)}.')


def parent_of(path):
    """The one shipped leaf that a config inherits from, if it has one."""
    bases = [ast.literal_eval(node.value)
             for node in ast.parse(path.read_text('utf-8')).body
             if isinstance(node, ast.Assign)
             and ast.unparse(node.targets[0]) == '_base_']
    base = bases[0] if bases else []
    if isinstance(base, list):
        if len(base) != 1:
            return None
        base = base[0]
    parent = (path.parent / base).resolve()
    inherited = '::' in base or '_base_' in parent.relative_to(CONFIGS).parts
    return None if inherited else parent


def shown(path):
    """Settings that stand, with the loaded value, in a config's own text."""
    cfg, written = read(path), []
    for node in ast.walk(ast.parse(path.read_text('utf-8'))):
        if isinstance(node, ast.Assign):
            name = ast.unparse(node.targets[0])
            written.append((name, cfg.get(name)))
        elif isinstance(node, ast.keyword):
            # Numbers, such as 1e-3 * 128 / 256, and paths; no variables.
            if not any(isinstance(part, ast.Name | ast.Call)
                       for part in ast.walk(node.value)):
                written.append((node.arg, eval(ast.unparse(node.value))))
    return {key for key, value in settings(cfg).items()
            if any(name in NAMES[key] and told == value
                   for name, told in written)}


def missing(path):
    """Settings that a config neither shows nor has from the leaf it changes.
    """
    told, parent = settings(read(path)), parent_of(path)
    before = {} if parent is None else settings(read(parent))
    wanted = {key for key, value in told.items()
              if value is not None and (not before or before[key] != value)}
    return wanted - shown(path)
