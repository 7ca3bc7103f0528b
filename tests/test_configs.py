"""Every shipped config loads, builds when shrunk, and takes a step."""

import ast
import math
import os
import re

import numpy as np
import pytest
import yaml
from mmengine.runner import Runner
from shipped_configs import (
    CONFIGS,
    hooks_of,
    own_values,
    read,
    train,
    without_tests,
)
from torch.optim.optimizer import register_optimizer_step_pre_hook

from mmmedmask.config_files import runner_keys
from mmmedmask.config_variables import read_source
from mmmedmask.shrinking.shrink import shrink_config
from mmmedmask.util.nested import nested_dicts, walk_nested

ALL = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob('*.py')
             if '_base_' not in path.parts)


def test_found_all_configs():
    """A wrong pattern must not make an empty test that passes."""
    assert len(ALL) == sum(
        name.endswith('.py') for folder, _, files in os.walk(CONFIGS)
        if '_base_' not in folder.split(os.sep) for name in files) >= 200


def _positions(text):
    """Places in a config where it takes part of a base's list by number."""
    for node in ast.walk(ast.parse(re.sub(r'{{(.*?)}}', r'(\1)', text))):
        if isinstance(node, ast.Subscript):
            key = node.slice
            by_name = isinstance(key, ast.Constant) \
                and isinstance(key.value, str)
            if ast.unparse(node.value).startswith('_base_') and not by_name:
                yield ast.unparse(node)
        if isinstance(node, ast.Assign) \
                and isinstance(node.targets[0], ast.Tuple) \
                and ast.unparse(node.value).startswith('_base_'):
            yield ast.unparse(node)


def _recipe_positions(text):
    """Options of a recipe that take part of a list by number."""
    return [key for node in nested_dicts(yaml.safe_load(text))
            for key in map(str, node) if re.search(r'(^|\.)\d+(\.|$)', key)]


def test_a_position_is_found():
    """The checks below would pass if they looked for nothing."""
    assert _recipe_positions('a:\n- {b.0.c: 1, d: [{0: 1}], e1.f2: 3, g.4: 5}'
                             ) == ['b.0.c', 'g.4', '0']
    found = _positions('a = _base_.hooks[0]\nb, c = _base_.steps\n'
                       'd = [*_base_.steps[1:]]\ne = _base_.model["type"]\n')
    assert len(list(found)) == 3


def test_no_config_addresses_a_list_by_position():
    """A base that puts a step in front would change what children do."""
    assert {str(path): places for ending, positions in (
        ('*.py', _positions), ('recipes/*.yml', _recipe_positions))
        for path in CONFIGS.rglob(ending)
        if (places := list(positions(path.read_text('utf-8'))))} == {}


def _assigned(sources):
    return {name for source in sources
            for name in (*source.assigned, *_assigned(source.bases))}


def _variables_anew(path):
    """Variables of its bases that a config assigns, not made of theirs."""
    inherited = _assigned(read_source(path).bases)
    for statement in ast.parse(path.read_text('utf-8')).body:
        if isinstance(statement, ast.Assign) \
                and isinstance(statement.value, ast.Call):
            name = statement.targets[0].id
            if name in inherited - runner_keys() and f'_base_.{name}' not in (
                    map(ast.unparse, statement.value.args)):
                yield name


def test_a_variable_keeps_nothing_of_another():
    """MMEngine merges it with the one of its base that has its name.

    The file itself does not see that. A child that writes ``dict(_base_.NAME,
    ...)``, as the documents do, gets both.
    """
    mixed, partial = {}, 0
    for path in sorted(CONFIGS.rglob('*.py')):
        for name in _variables_anew(path):
            own = own_values(path)[name]
            # Without a type it is for merging.
            partial += 'type' not in own
            more = read(path)[name].keys() - own - {'_scope_'}
            if 'type' in own and more:
                mixed[path.stem, name] = more
    assert partial > 5
    assert mixed == {}


def test_no_config_has_hooks_that_a_child_would_lose():
    """A child's list of custom_hooks takes the place of its base's."""
    assert [name for name in ALL
            if read(CONFIGS / name).get('custom_hooks')] == []


def test_a_child_with_one_hook_more_keeps_all_guards(tmp_path):
    """Of one config for each set of hooks; GiMP's once lost two."""
    mains = {frozenset(hooks_of(cfg)): name for name in ALL
             if (cfg := read(CONFIGS / name)).get('default_hooks')}
    assert len(mains) > 10
    for number, (hooks, name) in enumerate(mains.items()):
        child = tmp_path / f'child_{number}.py'
        child.write_text(f"_base_ = 'mmmedmask::{name}'\n"
                         "custom_hooks = [dict(type='EmptyCacheHook')]\n"
                         "default_hooks = dict(logger=None)\n")
        assert {*hooks_of(read(child))} == {
            *hooks, 'EmptyCacheHook'} - {'LoggerHook'}, name


def test_every_config_compares_names_of_classes():
    assert [name for name in ALL
            if 'ClassNamesHook' not in hooks_of(read(CONFIGS / name))] == []


#: Transforms of other packages that load something, but no picture.
OTHER_LOADERS = {'LoadAnnotations'}  # boxes and run lengths of a json file


def test_every_picture_is_read_in_the_strict_way():
    """The loaders of mmcv and of what builds on it mend in silence."""
    found = set()
    for name in ALL:
        cfg = read(CONFIGS / name)
        kinds = {str(node['type']) for key in runner_keys() & {*cfg}
                 for node in nested_dicts(cfg[key]) if node.get('type')}
        found |= {(name, kind) for kind in kinds - OTHER_LOADERS
                  if kind.rpartition('.')[2].startswith('Load')
                  and not kind.startswith('mmmedmask.')}
    assert found == set()


def test_whole_bags_fit_into_shared_memory():
    """What the workers of a loader keep ready is below 4 GB."""
    cfg = read('abmil_1xb8-coslr-70e_tcga-nsclc')
    patches = cfg.train_dataloader.batch_sampler.max_tokens
    for name in ('train', 'val', 'test'):
        loader = cfg[f'{name}_dataloader']
        ready = loader.num_workers * loader.get('prefetch_factor', 2)
        assert ready * patches * 1024 * 4 < 4e9, name


@pytest.fixture
def no_curves(monkeypatch):
    """Matplotlib takes longer than all the rest."""
    monkeypatch.setattr(
        'mmmedmask.engine.attention.coverage_hook.draw_coverage',
        lambda table: np.zeros((1, 1, 3), np.uint8))
    monkeypatch.setattr('mmmedmask.engine.hooks.probe_hook.draw_probes',
                        lambda rows: np.zeros((1, 1, 3), np.uint8))


@pytest.fixture
def gradients():
    """Which parameters an optimiser saw with and without a gradient."""
    seen = {True: [], False: []}

    def look(optimizer, args, kwargs):
        for group in optimizer.param_groups:
            for parameter in group['params']:
                if parameter.requires_grad:
                    seen[parameter.grad is not None].append(parameter.shape)

    handle = register_optimizer_step_pre_hook(look)
    yield seen
    handle.remove()


@pytest.fixture(scope='module')
def stepped():
    """What shrunk configs that have taken their step say to a runner."""
    return set()


@pytest.mark.usefixtures('no_curves', 'quick_probes')
@pytest.mark.parametrize('name', ALL)
def test_takes_a_training_step(name, tmp_path, drawn_data, gradients, stepped):
    """One iteration, or one short epoch, without validation.

    Many configs differ in what shrinking takes away alone, such as the
    number of iterations: one of equal ones takes the step for all.
    """
    cfg = shrink_config(read(CONFIGS / name), tmp_path, drawn_data)
    if cfg.get('train_cfg') is None:
        pytest.importorskip('transformers')
        assert 'coco/segm_mAP' in Runner.from_cfg(cfg).test()
        return
    without_tests(cfg)
    if 'max_iters' in cfg.train_cfg:
        cfg.train_cfg.max_iters = 1
    cfg.default_hooks.checkpoint = None
    told = repr(sorted((key, cfg[key]) for key in runner_keys() & {*cfg}
                       if key not in ('work_dir', 'auto_scale_lr')))
    if told in stepped:
        return
    runner, _, _ = train(cfg)
    assert runner.iter >= 1
    losses = runner.message_hub.log_scalars
    assert math.isfinite(losses['train/loss'].current())
    # A parameter without a gradient would stop distributed training, too.
    assert gradients[True]
    assert not gradients[False]
    stepped.add(told)


#: Keys by which weights come into a config, and who reads them. All of these
#: end in MMEngine's CheckpointLoader, which is ours, or in read_checkpoint.
KNOWN_KEYS = {('init_cfg', 'checkpoint'), ('checkpoint', ), ('load_from', ),
              ('gene_checkpoint', ), ('teacher_checkpoint', ),
              ('tokenizer_path', )}
WEIGHT_ENDINGS = ('.pth', '.pt', '.ckpt', '.bin', '.pkl', '.safetensors',
                  '.pth.tar', '.onnx')


def test_every_key_by_which_weights_arrive_is_known():
    found = set()
    for name in ALL:
        for keys, value in walk_nested(read(CONFIGS / name)._cfg_dict):
            names = [key for key in keys if isinstance(key, str)]
            if not isinstance(value, str) or not names:
                continue
            weights = value.endswith(WEIGHT_ENDINGS) or '://' in value \
                and 'checkpoint' in names[-1]
            if weights or names[-1] in ('checkpoint', 'pretrained',
                                        'load_from', 'resume_from'):
                found.add(tuple(names[-2:]) if 'init_cfg' in names
                          else (names[-1], ))
    assert found <= KNOWN_KEYS, found - KNOWN_KEYS
    assert ('init_cfg', 'checkpoint') in found
