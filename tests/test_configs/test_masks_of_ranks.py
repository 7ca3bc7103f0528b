"""Processes of one run draw different masks, where mmpretrain draws them."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.runner import utils
from mmpretrain.models.selfsup import MAEViT, SparK
from shipped_configs import read

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
    cfg = read(name)
    # The seed of a run stays an option.
    assert cfg.randomness == dict(
        seed=0, deterministic=False, diff_rank_seed=True)
    state = torch.get_rng_state()
    masks = []
    for rank in (0, 1, 7, 0):
        monkeypatch.setattr(utils, 'get_rank', lambda rank=rank: rank)
        utils.set_random_seed(**cfg.randomness)
        masks.append(draw(cfg.model.type))
    torch.set_rng_state(state)
    first, second, third, again = masks
    assert torch.equal(first, again)
    assert first.float().mean() == pytest.approx(
        20 / 49 if cfg.model.type == 'SparK' else .75, abs=1e-6)
    for other in (second, third):
        assert not torch.equal(first, other)
    assert not torch.equal(second, third)
