"""Rivals of mmpretrain in two processes take the gradient of one."""

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.model import revert_sync_batchnorm
from mmpretrain.registry import MODELS
from processes import run_ranks
from shipped_configs import load
from torch import nn

from mmmedmask.setup_env import register_all_modules
from mmmedmask.shrinking.model_sizes import shrink_model
from mmmedmask.util.nested import nested_dicts

#: One config for each class; ContrastiveCrop's model is MoCo v2's.
RIVALS = {
    'SimCLR': 'simclr_resnet18_8xb128-coslr-200e_nct',
    'BYOL': 'byol_resnet18_8xb128-coslr-200e_nct',
    'MoCo v2': 'mocov2_resnet18_8xb32-coslr-200e_nct',
    'DenseCL': 'densecl_resnet18_8xb32-coslr-200e_nct',
    'MoCo v3': 'mocov3_vit-base-p16_1xb64-coslr-300e_brain-tumor-mri'}
BATCH, SIDE = 4, 64


def build(name):
    """A small model in float64 whose batch norm knows its statistics."""
    register_all_modules()
    cfg = load(RIVALS[name])
    shrink_model(cfg)
    for part in nested_dicts(cfg.model):
        if part.get('type') == 'ResNet':
            part.update(stem_channels=4, base_channels=4)
        if part.get('in_channels') == 512:
            part['in_channels'] = 32
        if 'hid_channels' in part:
            part['hid_channels'] = 16
        if 'img_size' in part:
            part['img_size'] = SIDE
    torch.manual_seed(0)
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    for module in model.train().double().modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    return model


def gradients(model, rows):
    """What a second step asks of each parameter; keys of the first queue."""
    # Of the run that momentum encoders belong to.
    MessageHub.get_current_instance().update_info('max_iters', 100)
    generator = torch.Generator().manual_seed(1)
    for _ in range(2):
        views = [torch.randn(BATCH, 3, SIDE, SIDE, generator=generator,
                             dtype=torch.float64)[rows] for _ in range(2)]
        model.zero_grad()
        sum(model(views, [], mode='loss').values()).backward()
    return {name: parameter.grad for name, parameter in
            getattr(model, 'module', model).named_parameters()
            if parameter.grad is not None}


@pytest.fixture(scope='module')
def models():
    return {name: build(name) for name in RIVALS}


@pytest.fixture(scope='module')
def ranks(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp('ranks')

    def work(rank):
        rows = slice(2 * rank, 2 * rank + 2)
        torch.save({name: gradients(nn.parallel.DistributedDataParallel(
            model, broadcast_buffers=False), rows)
            for name, model in models.items()}, folder / f'{rank}.pth')

    run_ranks(work, folder)
    return [torch.load(folder / f'{rank}.pth') for rank in range(2)]


@pytest.mark.parametrize('name', RIVALS)
def test_gradients_are_those_of_one_process(models, ranks, name):
    want = gradients(models[name], slice(None))
    assert want
    for rank in ranks:
        assert rank[name].keys() == want.keys()
        for key, gradient in want.items():
            torch.testing.assert_close(
                rank[name][key], gradient, atol=1e-10, rtol=1e-8, msg=key)
