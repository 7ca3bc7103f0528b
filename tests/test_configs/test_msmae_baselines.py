"""MSMAE's baselines: chains, traps of their configs."""

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS, TRANSFORMS
from PIL import Image
from shipped_configs import (
    load,
    pretrained,
    read,
    source_of,
    train,
    without_tests,
)

from mmmedmask.shrinking.shrink import shrink_config
from mmmedmask.util.nested import nested_dicts

DATA = ('messidor2', 'brain-tumor-mri', 'ham10000')
# Pre-training and the classifier that starts from it.
CHAINS = {'mocov3_vit-base-p16': 'vit-base-p16_mocov3',
          'mocov2-ccrop_resnet50': 'resnet50_mocov2-ccrop',
          'simclr_resnet50': 'resnet50_simclr',
          'simmim_swin-tiny': 'swin-tiny_simmim'}
SMALL = {'simclr_resnet18': 'resnet18_simclr',
         'simmim_swin-mini': 'swin-mini_simmim'}


@pytest.mark.parametrize('pre', [*CHAINS, *SMALL])
def test_all_of_the_backbone_arrives(pre, tmp_path):
    """The checkpoint of one fits the other, under the shipped load check."""
    if pre in CHAINS:
        first = f'{pre}_1xb64-coslr-300e_messidor2'
        second = f'{CHAINS[pre]}_1xb256-100e_messidor2'
    else:
        first = f'{pre}_1xb64-30e_brain-tumor-mri'
        second = f'{SMALL[pre]}_1xb64-6e_brain-tumor-mri'
    data = tmp_path / 'data'
    cfg = shrink_config(read(first), tmp_path / 'pre', data)
    cfg.default_hooks.checkpoint.update(interval=1)
    pretraining, _, _ = train(cfg)
    assert source_of(read(second).model.backbone.init_cfg) == first
    cfg = without_tests(shrink_config(read(second), tmp_path / 'fine', data))
    cfg.model.backbone.init_cfg = pretrained(tmp_path / 'pre/run/epoch_1.pth')
    cfg.default_hooks.load_check.allow_scratch = False
    cfg.default_hooks.checkpoint = None
    runner, _, _ = train(cfg)
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
    cfg = load(f'{pre}_1xb64-coslr-300e_{data}')
    fine = load(f'{CHAINS[pre]}_1xb256-100e_{data}')
    for one, batch, epochs in ((cfg, 64, 300), (fine, 256, 100)):
        assert one.train_dataloader.batch_size == batch
        assert one.auto_scale_lr.base_batch_size == batch
        assert one.train_cfg.max_epochs == epochs
        assert one.train_dataloader.drop_last
        assert data.replace('-', '_') in one.train_dataloader.dataset.data_root
    assert fine.model.head.num_classes == dict(
        zip(DATA, (5, 4, 7), strict=True))[data]
    assert fine.default_hooks.load_check.allowed_missing == []
    backbone = 'scratch_1xb256-300e'
    if 'mocov3' in pre:
        return
    scratch = read(f'{CHAINS[pre].split("_")[0]}_{backbone}_{data}')
    assert scratch.train_cfg.max_epochs == 300
    assert not any(node.get('type') == 'Pretrained'
                   for node in nested_dicts(scratch.model))
    rates = scratch.optim_wrapper.paramwise_cfg.layer_decay_rate
    assert rates == 1.0


def test_a_queue_is_shorter_than_an_epoch():
    """1,222 images make 19 batches of 64."""
    cfg = load('mocov2-ccrop_resnet50_1xb64-coslr-300e_messidor2')
    assert cfg.model.queue_len % 64 == 0
    assert cfg.model.queue_len < 1222 // 64 * 64
    hook = cfg.default_hooks.content_crop
    # 20 % of the training.
    assert hook.begin == hook.interval == 60


def test_windows_of_simmim_are_those_of_the_classifier():
    cfg = load('simmim_swin-tiny_1xb64-coslr-300e_ham10000')
    fine = load('swin-tiny_simmim_1xb256-100e_ham10000')
    for key in ('arch', 'img_size', 'stage_cfgs'):
        assert cfg.model.backbone[key] == fine.model.backbone[key]
    mask = next(step for step in cfg.train_dataloader.dataset.pipeline
                if step.type == 'SimMIMMaskGenerator')
    init_default_scope('mmpretrain')
    drawn = TRANSFORMS.build(mask)({})['mask']
    assert drawn.shape == (56, 56)
    # 30 of 49 blocks of 8 x 8 tokens.
    assert drawn.sum() == 30 * 64
    # As its authors' code, no token is decayed.
    decayed = cfg.optim_wrapper.paramwise_cfg.custom_keys
    assert decayed.mask_token.decay_mult == 0


@pytest.mark.parametrize('pre', CHAINS)
def test_models_see_red_first(pre, tmp_path):
    """As in fine-tuning; a step of mmpretrain's views reads blue first."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[..., 0] = 200
    Image.fromarray(pixels).save(tmp_path / 'red.png')
    cfg = load(f'{pre}_1xb64-coslr-300e_messidor2')
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
