"""The same seed gives the same run of a baseline for any number of workers.

Crops, colours and masks of mmpretrain draw from global generators, which
each worker has of its own. Each family is a shipped config, shrunk: all
batches, losses and weights are compared by the bit.
"""

import pytest
import torch
from mmengine.hooks import Hook
from shipped_configs import read, train, without_tests

from mmmedmask.shrinking.shrink import shrink_config
from mmmedmask.util.nested import walk_nested

#: One config for each way in which a baseline draws.
FAMILIES = {
    'CMIM': 'cmim_loader-views_resnet18_8xb32-coslr-800e_nct',
    'BEiT v2': 'beitv2_vit-small-p16_8xb32-coslr-800e_nct',
    'SimMIM': 'simmim_swin-tiny_1xb64-coslr-300e_brain-tumor-mri',
    'SimCLR': 'simclr_resnet18_8xb128-coslr-200e_nct',
    'MoCo v2': 'mocov2_resnet18_8xb32-coslr-200e_nct',
    'MoCo v3': 'mocov3_vit-base-p16_1xb64-coslr-300e_brain-tumor-mri',
    'ContrastiveCrop': 'mocov2-ccrop_resnet50_1xb64-coslr-300e_messidor2',
    'ConCL': 'concl_resnet18_8xb32-coslr-200e_nct',
    'MAE': 'mae_vit-small-p16_8xb32-coslr-800e_nct',
    'supervised': 'supervised_resnet18_8xb32-steplr-100e_nct'}
#: Hooks that draw, or tell others what to draw from.
HOOKS = ('seeded_draws', 'sampler_seed', 'transform_epoch', 'content_crop')


class Batches(Hook):
    def __init__(self):
        self.seen = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        samples = data_batch.get('data_samples') or []
        self.seen.append({keys: value.clone() for keys, value in walk_nested(
            [data_batch, [sample.to_dict() for sample in samples]])
                          if isinstance(value, torch.Tensor)})


def run(name, folder, data, workers):
    cfg = without_tests(shrink_config(read(name), folder, data))
    cfg.train_cfg.max_epochs = 2
    cfg.train_dataloader.update(
        num_workers=workers, persistent_workers=workers > 0)
    # Views of our own transforms follow seed, epoch and sample by themselves.
    hooks = HOOKS[1:] if 'loader-views' in name else HOOKS
    for hook in [*cfg.default_hooks]:
        if hook not in hooks:
            del cfg.default_hooks[hook]
    cfg.default_hooks.checkpoint = None
    batches = Batches()
    runner, start, _ = train(cfg, batches)
    return batches.seen, start.losses, runner.model.state_dict()


@pytest.mark.parametrize('family', FAMILIES)
def test_workers_change_nothing(family, tmp_path, drawn_data):
    batches, losses, weights = run(
        FAMILIES[family], tmp_path / '0', drawn_data, 0)
    assert len(batches) == len(losses) >= 4
    assert all(batches)
    # Epochs differ.
    assert losses[0]['loss'] != losses[len(losses) // 2]['loss']
    for workers in (1, 2):
        others, theirs, ends = run(
            FAMILIES[family], tmp_path / str(workers), drawn_data, workers)
        assert theirs == losses
        for ours, other in zip(batches, others, strict=True):
            # A sample's keys are a set, whose order is another per process.
            assert ours.keys() == other.keys()
            assert all(torch.equal(ours[key], other[key]) for key in ours)
        assert all(torch.equal(value, ends[key])
                   for key, value in weights.items())
