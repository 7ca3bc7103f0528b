"""From files to both trainings: gray, 16 bit, many channels, not square."""

import csv
import math

import numpy as np
import pytest
import tifffile
import torch
from mmengine.runner import Runner

from .tiny_msmae import ARCH, INIT

META_KEYS = ('img_path', 'sample_idx', 'crop_box', 'flip', 'flip_direction')
SIZE = (32, 48)


def write_images(root, channels, dtype):
    """Write noisy TIFFs of different sizes, two classes: six to train."""
    random = np.random.default_rng(0)
    (root / 'splits' / 'paper').mkdir(parents=True)
    (root / 'classes.txt').write_text('healthy\ndiseased\n')
    rows = []
    for number in range(8):
        shape = (40 + number, 60 - number, channels)
        top = np.iinfo(dtype).max
        pixels = random.integers(0, top, shape).astype(dtype)
        tifffile.imwrite(
            root / f'{number}.tif', pixels[..., 0] if channels == 1 else
            pixels, photometric='minisblack', planarconfig=None
            if channels == 1 else 'contig')
        rows.append([f'{number}.tif', ('healthy', 'diseased')[number % 2],
                     number])
    for split, part in (('train', rows[:6]), ('val', rows[6:])):
        with (root / 'splits' / 'paper' / f'{split}.csv').open('w') as file:
            csv.writer(file).writerows([['path', 'label', 'group'], *part])


def config(root, model, channels, dtype, validate):
    load = dict(type='mmmedmask.LoadTile', in_channels=channels, dtype=dtype)
    pack = dict(type='mmmedmask.PackTile', meta_keys=META_KEYS)
    whole = [load, dict(type='mmmedmask.ResizeImage', scale=SIZE), pack]
    train = [load, dict(type='mmmedmask.RandomResizedCrop', scale=SIZE),
             dict(type='mmmedmask.RandomFlip'), pack]

    def loader(split, pipeline):
        return dict(
            batch_size=3, num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=split == 'train'),
            collate_fn=dict(type='default_collate'),
            dataset=dict(type='mmmedmask.LabelledImages', data_root=str(root),
                         split=split, pipeline=pipeline))

    middle = float(np.iinfo(dtype).max) / 2
    model = dict(
        data_preprocessor=dict(
            type='ClsDataPreprocessor', mean=[middle] * channels,
            std=[middle / 2] * channels),
        **model)
    arguments = dict(
        model=model, work_dir=str(root / 'run'),
        train_dataloader=loader('train', train),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-3)),
        custom_hooks=[
            dict(type='mmmedmask.TransformEpochHook'),
            dict(type='mmmedmask.AttentionMaskHook', begin=int(not validate),
                 interval=1, pipeline=whole)],
        default_scope='mmpretrain', randomness=dict(seed=0),
        log_level='ERROR')
    if validate:
        arguments |= dict(val_dataloader=loader('val', whole), val_cfg={},
                          val_evaluator=dict(type='Accuracy'))
    return arguments


KINDS = [(1, 'uint8', 8), (1, 'uint16', 16), (5, 'uint16', 8)]


@pytest.mark.parametrize(('channels', 'dtype', 'patch'), KINDS)
def test_pretraining(tmp_path, channels, dtype, patch):
    write_images(tmp_path, channels, dtype)
    model = dict(
        type='mmmedmask.MSMAE',
        backbone=dict(type='mmmedmask.MSMAEViT', arch=dict(ARCH),
                      img_size=SIZE, patch_size=patch, in_channels=channels),
        neck=dict(type='mmmedmask.MSMAEDecoder', embed_dims=16, num_layers=1,
                  num_heads=2),
        head=dict(type='mmmedmask.MSMAEHead', num_classes=2),
        mask_ratio=0.5, throw_ratio=0.2, init_cfg=INIT)
    runner = Runner(**config(tmp_path, model, channels, dtype, False))
    runner.train()
    store = next(hook for hook in runner.hooks if hasattr(hook, 'store')).store
    assert store.values.shape == (6, SIZE[0] // patch, SIZE[1] // patch)
    assert store.epoch == 1
    assert not torch.equal(store.values[0], store.values[1])
    losses = runner.message_hub.log_scalars
    assert math.isfinite(losses['train/loss'].current())
    assert runner.model.head.target(
        torch.zeros(1, channels, *SIZE),
        torch.zeros(1, 2).long()).shape[2] == patch**2 * channels


@pytest.mark.parametrize(('channels', 'dtype', 'patch'), KINDS[2:])
def test_fine_tuning(tmp_path, channels, dtype, patch):
    write_images(tmp_path, channels, dtype)
    model = dict(
        type='mmmedmask.MSMAEClassifier',
        backbone=dict(type='mmmedmask.MSMAEViT', arch=dict(ARCH),
                      img_size=SIZE, patch_size=patch, in_channels=channels,
                      out_type='cls_token', fixed_pos_embed=False),
        head=dict(type='LinearClsHead', num_classes=2,
                  in_channels=ARCH['embed_dims'],
                  loss=dict(type='CrossEntropyLoss')))
    runner = Runner(**config(tmp_path, model, channels, dtype, True))
    runner.train()
    metrics = runner.val()
    assert 0 <= metrics['accuracy/top1'] <= 100
