"""Baselines take steps as DistributedDataParallel has them on several GPUs.

It demands a gradient of every parameter that could have one when the model
was wrapped, which MMEngine does before it initialises the weights.
"""

import pytest
import torch
import torch.distributed as dist
from mmengine.logging import MessageHub
from mmengine.model import MMDistributedDataParallel, revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from shipped_configs import read

from mmmedmask.shrinking.shrink import shrink_config

CONFIGS = ['beitv2_vit-small-p16_8xb32-coslr-800e_nct',
           'byol_resnet18_8xb128-coslr-200e_nct',
           'concl_resnet18_8xb32-coslr-200e_nct',
           'eva_vit-small-p16_8xb32-coslr-800e_nct',
           'spark_sparse-resnet18_8xb32-coslr-800e_nct',
           'mocov3_vit-base-p16_1xb64-coslr-300e_brain-tumor-mri',
           'simmim_swin-tiny_1xb64-coslr-300e_brain-tumor-mri']


@pytest.fixture
def one_process(tmp_path):
    dist.init_process_group('gloo', rank=0, world_size=1,
                            init_method=(tmp_path / 'rendezvous').as_uri())
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize('name', CONFIGS)
def test_every_parameter_is_reduced(name, one_process, tmp_path, drawn_data):
    torch.manual_seed(0)
    cfg = shrink_config(read(name), tmp_path, drawn_data)
    # Beyond warm-ups, in which parts rest.
    hub = MessageHub.get_instance('distributed baselines')
    for key, value in dict(seed=0, epoch=100, iter=0, max_iters=10).items():
        hub.update_info(key, value)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = revert_sync_batchnorm(MODELS.build(cfg.model))
        wrapped = MMDistributedDataParallel(
            model,
            find_unused_parameters=cfg.get('find_unused_parameters', False))
        wrapper = build_optim_wrapper(wrapped, cfg.optim_wrapper)
        model.init_weights()
        wrapped.train()
        loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
        for _ in range(3):
            # The second step would complain of what the first has left.
            losses = wrapped.train_step(next(iter(loader)), wrapper)
            assert losses['loss'].isfinite()
