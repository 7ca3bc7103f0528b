"""MSMAE at the size of a test: a grid of 4 x 6 patches, two layers."""

import torch
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

import mmmedmask.models  # noqa: F401

ARCH = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)
IMAGE_SIZE = (16, 24)
GRID = (4, 6)
INIT = [dict(type='Xavier', layer='Linear', distribution='uniform'),
        dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0)]


def tiny_encoder(**arguments):
    return dict(type='mmmedmask.MSMAEViT', arch=dict(ARCH),
                img_size=IMAGE_SIZE, patch_size=4) | arguments


def tiny_pretraining(backbone=None, neck=None, head=None, seed=0,
                     data_preprocessor=None, **arguments):
    """Build and initialise a tiny MSMAE; one seed, one set of weights."""
    torch.manual_seed(seed)
    model = MODELS.build(
        dict(
            type='mmmedmask.MSMAE',
            data_preprocessor=data_preprocessor,
            backbone=tiny_encoder(**backbone or {}),
            neck=dict(type='mmmedmask.MSMAEDecoder', embed_dims=16,
                      num_layers=2, num_heads=2) | (neck or {}),
            head=dict(type='mmmedmask.MSMAEHead', num_classes=3) |
            (head or {}),
            seed=5,
            init_cfg=INIT,
            **arguments))
    model.init_weights()
    return model


def tiny_classifier(backbone=None, head=None, seed=0, **arguments):
    """Build and initialise a tiny classifier of three classes."""
    torch.manual_seed(seed)
    model = MODELS.build(
        dict(type='mmmedmask.MSMAEClassifier', backbone=tiny_encoder(
            **dict(out_type='avg_featmap', final_norm=False,
                   fixed_pos_embed=False) | (backbone or {})),
             head=dict(type='LinearClsHead', num_classes=3,
                       in_channels=ARCH['embed_dims'],
                       loss=dict(type='CrossEntropyLoss')) | (head or {}),
             seed=5) | arguments)
    model.init_weights()
    return model


def batch(count=4, channels=3, size=IMAGE_SIZE, maps=True, labels=True,
          hot=False, seed=0):
    """Draw images and their samples, whole and not mirrored.

    Maps are drawn, too, or ``hot``: on the left third alone.
    """
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, channels, *size, generator=generator)
    samples = []
    for index in range(count):
        sample = DataSample(
            metainfo=dict(img_path=f'{index}.png', sample_idx=index,
                          crop_box=(0.0, 0.0, 1.0, 1.0), flip=False,
                          flip_direction=None))
        if labels:
            sample.set_gt_label(index % 3)
        if maps:
            weights = torch.rand(4, 6, generator=generator).half()
            if hot:
                weights = torch.full((4, 6), 1e-6)
                weights[:, :2] = 1.0
            sample.set_field(weights, 'attention_map', field_type='data')
        samples.append(sample)
    return images, samples


def flags_of_pixels(partition, images):
    """1 = masked, -1 = thrown, 0 = visible, of each pixel of patches of 4."""
    grid = partition.flags().view(-1, 1, *GRID)
    return grid.repeat_interleave(4, 2).repeat_interleave(4, 3).expand_as(
        images)
