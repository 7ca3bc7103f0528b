"""Two epochs and two more after a resume are the four epochs of one run."""

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mmmedmask.phantoms.tiny_datasets import write_tile_folder

from .tiny_concl import tiny_config


def train(folder, tiles, name, epochs, resume=False):
    """Train a tiny ConCL whose warm-up is one epoch; return its state."""
    runner = Runner.from_cfg(Config(dict(
        default_scope='mmpretrain',
        work_dir=str(folder / name),
        model=tiny_config(warm_up_epochs=1, queue_len=16,
                          backbone=dict(norm_cfg=dict(type='BN')),
                          data_preprocessor=dict(color=dict(), seed=None)),
        train_dataloader=dict(
            batch_size=2, num_workers=0, drop_last=True,
            sampler=dict(type='DefaultSampler', shuffle=True),
            collate_fn=dict(type='pseudo_collate'),
            dataset=dict(
                type='mmmedmask.TileFolder', data_root=str(tiles),
                serialize_data=False, pipeline=[
                    dict(type='mmmedmask.LoadTile'),
                    dict(type='mmmedmask.PackTile')])),
        optim_wrapper=dict(type='OptimWrapper',
                           optimizer=dict(type='SGD', lr=.05, momentum=.9)),
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=epochs),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=2)),
        randomness=dict(seed=7),
        log_level='ERROR', resume=resume,
        experiment_name=f'{folder.name}_{name}_{epochs}')))
    runner.train()
    return runner.model.state_dict(), runner.message_hub.get_scalar(
        'train/loss').data[0]


@pytest.mark.slow
def test_a_resumed_run_is_the_whole_run(tmp_path):
    tiles = tmp_path / 'tiles'
    write_tile_folder(tiles, num_tiles=4, size=(72, 72))
    whole, losses = train(tmp_path, tiles, 'whole', 4)
    part, first = train(tmp_path, tiles, 'parts', 2)
    again, rest = train(tmp_path, tiles, 'parts', 4, resume=True)
    assert len(losses) == 8
    assert losses[:4].tolist() == first[:4].tolist()
    assert losses[4:].tolist() == rest[4:].tolist()
    for name, value in whole.items():
        assert torch.equal(again[name], value), name
    for name in ('backbone.conv1.weight', 'concept_queue.keys',
                 'key_encoder.module.0.conv1.weight'):
        assert not torch.equal(part[name], whole[name]), name
