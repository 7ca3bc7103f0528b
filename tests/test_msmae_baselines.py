"""MSMAE's baselines: chains, traps of their configs, cells of the tables."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpretrain.registry import MODELS, TRANSFORMS
from PIL import Image

from mmmedmask.experiments.schema import locate_recipe, read_recipe
from mmmedmask.shrinking.shrink import shrink_config
from mmmedmask.util.nested import nested_dicts

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
FOLDER = CONFIGS / 'baselines' / 'msmae'
BENCHMARKS = FOLDER / 'benchmarks'
DATA = ('messidor2', 'brain-tumor-mri', 'ham10000')
# Pre-training and the classifier that starts from it.
CHAINS = {
    'mocov3_vit-base-p16': 'vit-base-p16_mocov3',
    'mocov2-ccrop_resnet50': 'resnet50_mocov2-ccrop',
    'simclr_resnet50': 'resnet50_simclr',
    'simmim_swin-tiny': 'swin-tiny_simmim',
}
load = Config.fromfile
SMALL = {
    'simclr_resnet18': 'resnet18_simclr',
    'simmim_swin-mini': 'swin-mini_simmim',
}


def without_tests(cfg):
    for part in ('val', 'test'):
        for key in ('dataloader', 'cfg', 'evaluator'):
            cfg[f'{part}_{key}'] = None
    return cfg


@pytest.mark.parametrize('pre', [*CHAINS, *SMALL])
def test_all_of_the_backbone_arrives(pre, tmp_path):
    """The checkpoint of one fits the other, under the shipped load check."""
    if pre in CHAINS:
        first = FOLDER / f'{pre}_1xb64-coslr-300e_messidor2.py'
        second = BENCHMARKS / f'{CHAINS[pre]}_1xb256-100e_messidor2.py'
    else:
        first = FOLDER / f'small/{pre}_1xb64-30e_brain-tumor-mri.py'
        second = FOLDER / f'small/{SMALL[pre]}_1xb64-6e_brain-tumor-mri.py'
    cfg = shrink_config(load(first), tmp_path / 'pre', tmp_path / 'data')
    cfg.default_hooks.checkpoint.update(interval=1)
    pretraining = Runner.from_cfg(cfg)
    pretraining.train()
    fine = load(second)
    named = fine.model.backbone.init_cfg
    assert Path(named.checkpoint).parent.name == first.stem
    assert Path(named.checkpoint).name == \
        f'epoch_{load(first).train_cfg.max_epochs}.pth'
    cfg = without_tests(shrink_config(
        fine, tmp_path / 'fine', tmp_path / 'data'))
    cfg.model.backbone.init_cfg = dict(
        named, checkpoint=str(tmp_path / 'pre/run/epoch_1.pth'))
    cfg.default_hooks.load_check.allow_scratch = False
    cfg.default_hooks.checkpoint = None
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.iter == 2
    before = dict(pretraining.model.backbone.named_parameters())
    after = dict(runner.model.backbone.named_parameters())
    assert set(before) - set(after) <= {'mask_token'}
    assert all(parameter.requires_grad for parameter in after.values())
    # MoCo v3 keeps its patch embedding as it was drawn.
    fixed = {name for name, one in before.items() if not one.requires_grad}
    assert fixed == ({
        'pos_embed', 'patch_embed.projection.weight',
        'patch_embed.projection.bias'} if 'mocov3' in pre else set())


@pytest.mark.parametrize('data', DATA)
@pytest.mark.parametrize('pre', CHAINS)
def test_settings_that_the_rows_share(pre, data):
    cfg = load(FOLDER / f'{pre}_1xb64-coslr-300e_{data}.py')
    fine = load(BENCHMARKS / f'{CHAINS[pre]}_1xb256-100e_{data}.py')
    for one, batch, epochs in ((cfg, 64, 300), (fine, 256, 100)):
        assert one.train_dataloader.batch_size == batch
        assert one.auto_scale_lr.base_batch_size == batch
        assert one.train_cfg.max_epochs == epochs
        assert one.train_dataloader.drop_last
        assert data.replace('-', '_') in \
            one.train_dataloader.dataset.data_root
    assert fine.model.head.num_classes == dict(
        zip(DATA, (5, 4, 7), strict=True))[data]
    assert fine.default_hooks.load_check.allowed_missing == []
    backbone = 'scratch_1xb256-300e'
    if 'mocov3' in pre:
        return
    scratch = load(BENCHMARKS / f'{CHAINS[pre].split("_")[0]}_{backbone}_'
                   f'{data}.py')
    assert scratch.train_cfg.max_epochs == 300
    assert not any(node.get('type') == 'Pretrained'
                   for node in nested_dicts(scratch.model))
    rates = scratch.optim_wrapper.paramwise_cfg.layer_decay_rate
    assert rates == 1.0


def test_a_queue_is_shorter_than_an_epoch():
    """1,222 images make 19 batches of 64."""
    cfg = load(FOLDER / 'mocov2-ccrop_resnet50_1xb64-coslr-300e_messidor2.py')
    assert cfg.model.queue_len % 64 == 0
    assert cfg.model.queue_len < 1222 // 64 * 64
    hook, = cfg.custom_hooks
    # 20 % of the training.
    assert hook.begin == hook.interval == 60


def test_windows_of_simmim_are_those_of_the_classifier():
    cfg = load(FOLDER / 'simmim_swin-tiny_1xb64-coslr-300e_ham10000.py')
    fine = load(BENCHMARKS / 'swin-tiny_simmim_1xb256-100e_ham10000.py')
    for key in ('arch', 'img_size', 'stage_cfgs'):
        assert cfg.model.backbone[key] == fine.model.backbone[key]
    mask = next(step for step in cfg.train_dataloader.dataset.pipeline
                if step.type == 'SimMIMMaskGenerator')
    init_default_scope('mmpretrain')
    drawn = TRANSFORMS.build(mask)({})['mask']
    assert drawn.shape == (56, 56)
    # 30 of 49 blocks of 8 x 8 tokens.
    assert drawn.sum() == 30 * 64


@pytest.mark.parametrize('pre', CHAINS)
def test_models_see_red_first(pre, tmp_path):
    """As in fine-tuning; a step of mmpretrain's views reads blue first."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[..., 0] = 200
    Image.fromarray(pixels).save(tmp_path / 'red.png')
    cfg = load(FOLDER / f'{pre}_1xb64-coslr-300e_messidor2.py')
    init_default_scope('mmpretrain')
    pipeline = cfg.train_dataloader.dataset.pipeline
    for node in nested_dicts(pipeline):
        # What would turn red into another colour.
        if node.get('type') in ('RandomApply', 'RandomGrayscale', 'Solarize'):
            node['prob'] = 0.
    sample = dict(img_path=str(tmp_path / 'red.png'), sample_idx=0)
    for step in pipeline:
        sample = TRANSFORMS.build(step)(sample)
    inputs = sample['inputs']
    views = inputs if isinstance(inputs, list) else [inputs]
    batch = [view[None] for view in views]
    preprocessor = MODELS.build(cfg.model.data_preprocessor)
    seen = preprocessor(dict(
        inputs=batch if isinstance(inputs, list) else batch[0],
        data_samples=[sample['data_samples']]))['inputs']
    for view in seen if isinstance(seen, list) else [seen]:
        channels = view.mean((0, 2, 3))
        want = (torch.tensor([200., 0, 0]) - torch.tensor(
            list(cfg.mean))) / torch.tensor(list(cfg.std))
        assert torch.allclose(channels, want, atol=.02)


# A second time, from the text of the paper.
PRINTED = {
    'msmae_table1': {
        'mocov3': [61.30, 89.01, 76.24],
        'ccrop': [59.77, 95.96, 75.31],
        'simclr': [59.75, 90.62, 75.00],
        'mae': [60.54, 82.46, 75.01],
        'simmim': [58.43, 70.33, 70.08],
        'amt': [60.92, 98.17, 81.53],
        'vit': [59.77, 89.78, 79.54],
        'resnet50': [58.43, 69.18, 67.01],
        'swin': [58.43, 91.00, 81.70],
        'ours': [63.41, 98.39, 81.97],
    },
    'msmae_table2': {
        'baseline': [56.15, 43.33],
        'mae': [57.09, 43.95],
        'amt': [56.17, 43.07],
        'vit': [56.22, 42.66],
        'ours': [60.66, 45.53],
    },
    'msmae_table3': {
        'baseline': [60.54], 'II': [60.92], 'III': [62.07],
        'IV': [60.58], 'V': [61.39], 'VI': [63.41],
    },
    'msmae_table7': {
        'mae': [72.96], 'amt': [66.09], 'vit': [74.25], 'ours': [77.68],
    },
    'msmae_table8': {
        'a_64': [63.41, 98.39], 'a_128': [62.87, 97.70],
        'a_256': [62.98, 97.77], 'b_64': [63.98, 97.52],
        'b_128': [63.17, 98.03], 'b_256': [63.41, 98.39],
        'c_75_0': [62.93, 97.58], 'c_45_40': [63.04, 97.93],
        'c_45_30': [63.41, 98.39], 'c_30_45': [63.02, 98.16],
        'd_20': [62.27, 97.25], 'd_40': [63.41, 98.39],
        'd_60': [63.55, 98.03], 'd_80': [63.06, 97.94],
        'e_10': [62.88, 97.16], 'e_20': [63.41, 98.39],
        'e_30': [63.36, 98.27], 'e_40': [63.30, 97.29],
        'f_true': [63.41, 98.39], 'f_false': [63.03, 98.47],
    },
}


@pytest.mark.parametrize('name', PRINTED)
def test_cells_are_those_of_the_paper(name):
    recipe = read_recipe(locate_recipe(name))
    assert {row.name: list(row.paper.values()) for row in recipe.rows} \
        == PRINTED[name]


def test_multiples_that_the_notes_speak_of():
    def is_share(value, size):
        return any(value in (round(100 * k / size, 2),
                             int(1e4 * k / size) / 100)
                   for k in range(size + 1))

    table = PRINTED['msmae_table8'].values()
    for column, size, wrong, count in ((0, 522, 11, 15), (1, 1311, 9, 14)):
        cells = {row[column] for row in table}
        assert len(cells) == count
        assert sum(not is_share(cell, size) for cell in cells) == wrong
    assert round(100 * 305 / 522, 2) == 58.43
    ones = [row[0] for row in PRINTED['msmae_table1'].values()]
    assert [one for one in ones if not is_share(one, 522)] == [59.75]
    assert ones.count(58.43) == 3
