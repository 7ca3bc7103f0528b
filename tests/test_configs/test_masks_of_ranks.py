"""Processes of one run draw different masks, where mmpretrain draws them."""

from types import SimpleNamespace

import pytest
import torch
from mmpretrain.models.selfsup import MAEViT, SparK
from shipped_configs import read

from mmmedmask.engine.hooks import seeded_draws
from mmmedmask.engine.preserved_state import preserve_random_state
from mmmedmask.registry import HOOKS

CONFIGS = ['mae_vit-small-p16_8xb32-coslr-800e_nct',
           'eva_vit-small-p16_8xb32-coslr-800e_nct',
           'spark_sparse-resnet18_8xb32-coslr-800e_nct']


def draw(kind):
    """Masks of two images, from torch's generator as it is."""
    if kind == 'SparK':
        return SparK.mask(SimpleNamespace(feature_map_size=7, len_keep=20),
                          (2, 3, 224, 224), 'cpu')
    return MAEViT.random_masking(None, torch.zeros(2, 196, 1))[1]


@pytest.mark.parametrize('name', CONFIGS)
def test_ranks_mask_different_patches(name, monkeypatch):
    """With one seed for all of them, which views need."""
    cfg = read(name)
    assert not cfg.randomness.get('diff_rank_seed')
    hook = HOOKS.build(cfg.default_hooks.seeded_draws)
    run = SimpleNamespace(seed=cfg.randomness.seed, iter=0)
    masks = []
    with preserve_random_state():
        for rank in (0, 1, 7, 0):
            monkeypatch.setattr(seeded_draws, 'get_rank', lambda rank=rank:
                                rank)
            hook.before_train_iter(run, 0)
            masks.append(draw(cfg.model.type))
    first, second, third, again = masks
    assert torch.equal(first, again)
    assert first.float().mean() == pytest.approx(
        20 / 49 if cfg.model.type == 'SparK' else .75, abs=1e-6)
    for other in (second, third):
        assert not torch.equal(first, other)
    assert not torch.equal(second, third)
