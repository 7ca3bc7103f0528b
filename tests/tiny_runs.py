"""Tiny models and runs of the engine's tests."""

import copy
import csv
import itertools
import random
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.runner import Runner
from mmpretrain.models.utils import SelfSupDataPreprocessor
from mmpretrain.registry import MODELS
from PIL import Image
from torch import nn
from torch.utils.data import Dataset

import mmmedmask.models  # noqa: F401
from mmmedmask.engine.hooks import AttentionMaskHook, ContrastiveCropHook
from mmmedmask.functional.contrastive_crop import heat_map_boxes
from mmmedmask.models.cmim import CMIM

# MMEngine wants each run to have a name of its own.
NUMBERS = itertools.count()


class TinyImages(Dataset):
    """Images drawn from the index; the same index is the same image."""

    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return dict(inputs=torch.rand(3, 6, 6, generator=generator)
                    * (1 + index % 5))


class TinyModel(BaseModel):
    """Two convolutions with BatchNorm and a head with one more.

    ``poison`` maps an iteration (from 1) to what happens in it: ``loss``
    makes one part of the loss NaN, ``gradient`` makes one gradient infinite
    while the loss stays finite.
    """

    def __init__(self, poison=None):
        super().__init__(data_preprocessor=BaseDataPreprocessor())
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(.5),
            nn.Conv2d(4, 2, 3), nn.BatchNorm2d(2))
        self.head_norm = nn.BatchNorm2d(2)
        self.poison = poison or {}
        self.iteration = 0

    def extract_feat(self, inputs):
        return self.backbone(inputs)

    def forward(self, inputs, mode='tensor'):
        if isinstance(inputs, list):
            inputs = torch.stack(inputs)
        features = self.extract_feat(inputs)
        if mode == 'tensor':
            return features
        if mode == 'predict':
            return [features]
        self.iteration += self.training and torch.is_grad_enabled()
        value = self.head_norm(features)
        losses = dict(
            loss_a=value.square().mean(), loss_b=features.abs().mean())
        what = self.poison.get(self.iteration)
        if what == 'loss':
            losses['loss_b'] = losses['loss_b'] * float('nan')
        if what == 'gradient':
            # Large in the backward pass alone: sqrt'(0) is infinite.
            bias = self.backbone[3].bias
            losses['loss_a'] = losses['loss_a'] + (
                bias - bias.detach()).abs().sqrt().sum()
        return losses


TINY_CMIM = dict(data_preprocessor=dict(mean=[120.0] * 3, std=[50.0] * 3,
                                        view_size=64, patch_size=16),
                 backbone=dict(type='mmmedmask.CMIMResNet', depth=18,
                               stem_channels=8, base_channels=8),
                 neck=dict(type='mmmedmask.CMIMNeck', embed_dims=16,
                           num_heads=2, out_stride=16),
                 head=dict(type='mmmedmask.CMIMHead', patch_size=16))


class TinyCMIM(CMIM):
    """A small CMIM; ``lr=0`` in a test keeps its first weights."""

    def __init__(self):
        super().__init__(**copy.deepcopy(TINY_CMIM))


def noting(moment, note, priority='NORMAL'):
    """A hook that writes down something at a moment; and its notes."""
    hook, notes = Hook(), []
    hook.priority = priority

    def write(runner, *_, **more):
        notes.append(note(runner, **more))

    setattr(hook, moment, write)
    return hook, notes


def copies(tensors):
    """What a state dict holds, for when it has changed."""
    return {name: value.clone() for name, value in tensors.items()}


def tiny_runner(work_dir, model, hooks=(), max_iters=4, length=8,
                batch_size=2, by_epoch=False, **settings):
    """Build a runner around a tiny model, of iterations or of epochs."""
    cycle = dict(by_epoch=True, max_epochs=max_iters) if by_epoch else \
        dict(by_epoch=False, max_iters=max_iters, val_interval=max_iters)
    return image_runner(
        work_dir, model, TinyImages(length), hooks, batch_size=batch_size,
        loader=dict(
            sampler=dict(type='DefaultSampler' if by_epoch else
                         'InfiniteSampler', shuffle=False),
            collate_fn=dict(type='default_collate')),
        **dict(train_cfg=cycle, default_scope='mmengine',
               optim_wrapper=dict(optimizer=dict(type='SGD', lr=.01)),
               default_hooks=dict(checkpoint=dict(
                   type='CheckpointHook', interval=1, by_epoch=by_epoch)))
        | settings)


def first_samples(dataset, number):
    """What a loader with num_batch_per_epoch reads of a data set."""
    return Runner.build_dataloader(dict(
        dataset=dataset, batch_size=1, num_batch_per_epoch=number,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False))).dataset


def image_runner(work_dir, model, data, hooks=(), epochs=2, batch_size=3,
                 loader=None, lr=.05, **settings):
    """Build a runner on images: SGD, a checkpoint after every epoch.

    Pictures and scalars go into files.
    """
    return Runner(**dict(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=dict(
            dataset=data, batch_size=batch_size, num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=True),
            collate_fn=dict(type='pseudo_collate')) | (loader or {}),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(type='OptimWrapper',
                           optimizer=dict(type='SGD', lr=lr, momentum=.9)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
        custom_hooks=list(hooks),
        visualizer=dict(
            type='Visualizer', vis_backends=[dict(type='LocalVisBackend')]),
        randomness=dict(seed=3),
        default_scope='mmpretrain',
        log_level='WARNING',
        experiment_name=f'{Path(work_dir).parent.name}_{next(NUMBERS)}')
        | settings)


class Losses(Hook):
    def __init__(self):
        self.losses = []

    def after_train_iter(self, runner, batch_idx, data_batch=None,
                         outputs=None):
        self.losses.append(outputs['loss'].item())


def train_watched(work_dir, model, data, hooks=(), **settings):
    """Train from fixed random states; return runner, losses and weights.

    The model may be a function that builds it, from these states too.
    """
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    losses = Losses()
    runner = image_runner(
        work_dir, model if isinstance(model, nn.Module) else model(), data,
        hooks=[losses, *hooks], **settings)
    runner.train()
    return runner, losses.losses, copies(runner.model.state_dict())


def assert_same_training(one, other):
    """Two runs of :func:`train_watched` are equal to the bit."""
    assert len(one[1]) > 0
    assert one[1] == other[1]
    assert one[2].keys() == other[2].keys()
    for name, value in one[2].items():
        assert torch.equal(value, other[2][name]), name


def heard(runner, level='warning'):
    """Train, and return the lines that are logged at a level."""
    said = []
    setattr(runner.logger, level, said.append)
    runner.train()
    return said


def pictures_in(work_dir):
    """What a run has drawn, RGB, by name."""
    files = sorted(Path(work_dir).glob('*/vis_data/vis_image/*.png'))
    return {file.stem: cv2.imread(str(file))[..., ::-1] for file in files}


# Trainings of MSMAE with attention masking.
SIZE = (16, 24)
GRID = (4, 6)
CLASSES = ('benign', 'malignant')
META_KEYS = ('img_path', 'sample_idx', 'crop_box', 'flip', 'flip_direction')
WHOLE_PIPELINE = (dict(type='mmmedmask.LoadTile'),
                  dict(type='mmmedmask.ResizeImage', scale=SIZE),
                  dict(type='mmmedmask.PackTile', meta_keys=META_KEYS))
TRAIN_PIPELINE = (dict(type='mmmedmask.LoadTile'),
                  dict(type='mmmedmask.RandomResizedCrop', scale=SIZE),
                  dict(type='mmmedmask.RandomFlip'),
                  dict(type='mmmedmask.PackTile', meta_keys=META_KEYS))


def write_images(root, count=7, seed=0):
    """Draw a labelled data set: noise, and one bright patch per image."""
    random = np.random.default_rng(seed)
    (root / 'splits' / 'paper').mkdir(parents=True)
    (root / 'images').mkdir()
    (root / 'classes.txt').write_text('\n'.join(CLASSES))
    with (root / 'splits' / 'paper' / 'train.csv').open('w') as file:
        table = csv.writer(file)
        table.writerow(['path', 'label', 'group'])
        for number in range(count):
            pixels = random.integers(0, 120, (20, 36, 3), np.uint8)
            row, column = random.integers(0, 15, 2)
            pixels[row:row + 5, 2 * column:2 * column + 8] = 255
            name = f'images/{number}.png'
            Image.fromarray(pixels).save(root / name)
            table.writerow([name, CLASSES[number % 2], number])
    return root


def dataset(root, pipeline=TRAIN_PIPELINE, **arguments):
    """Config of the data set that :func:`write_images` drew."""
    return dict(
        type='mmmedmask.LabelledImages', data_root=str(root),
        # Serializing collects all garbage, which takes seconds.
        serialize_data=False,
        pipeline=[dict(step) for step in pipeline], **arguments)


def msmae_config(drop_rate=0.):
    """A tiny MSMAE."""
    return dict(type='mmmedmask.MSMAE',
                data_preprocessor=dict(type='ClsDataPreprocessor',
                                       mean=[80.] * 3, std=[60.] * 3),
                backbone=dict(type='mmmedmask.MSMAEViT', img_size=SIZE,
                              patch_size=4, drop_rate=drop_rate,
                              arch=dict(embed_dims=16, num_layers=2,
                                        num_heads=2, feedforward_channels=32)),
                neck=dict(type='mmmedmask.MSMAEDecoder', embed_dims=16,
                          num_layers=1, num_heads=2),
                head=dict(type='mmmedmask.MSMAEHead', num_classes=2))


def msmae_model(drop_rate=0.):
    """Build an MSMAE; in runners of one seed always with the same weights."""
    torch.manual_seed(1)
    return MODELS.build(msmae_config(drop_rate))


class RefreshRecorder(Losses):
    """Write down what each refresh has made, and what loops make, too."""

    priority = 'LOWEST'

    def __init__(self, kind, values_of, naive):
        super().__init__()
        self.kind, self.values_of, self.naive_of = kind, values_of, naive
        self.attached, self.stores, self.naive = [], {}, {}

    def before_train_epoch(self, runner):
        hook = the_hook(runner, self.kind)
        if hook.store.epoch == runner.epoch:
            self.stores[runner.epoch] = self.values_of(hook).clone()
            self.naive[runner.epoch] = self.naive_of(runner)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if self.kind is AttentionMaskHook:
            self.attached += [
                (runner.epoch, sample.img_path, sample.get('attention_map'))
                for sample in data_batch['data_samples']]


def the_hook(runner, kind):
    hook, = (hook for hook in runner.hooks if isinstance(hook, kind))
    return hook


def mask_hook(runner):
    return the_hook(runner, AttentionMaskHook)


def whole_images(runner, hook, size):
    """All whole images, one after the other, as the models take them."""
    for key in hook.store.images.keys:
        pixels = Image.open(runner.train_dataloader.dataset.root / key).resize(
            size[::-1], Image.Resampling.BICUBIC)
        image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)
        yield (image[None] - 80.) / 60.


@torch.no_grad()
def naive_maps(runner):
    """Maps of all whole images, one after the other, in float32."""
    model = getattr(runner.model, 'module', runner.model)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    maps = [model.attention_maps(image)[0] for image in whole_images(
        runner, mask_hook(runner), SIZE)]
    for module, mode in modes:
        module.training = mode
    return torch.stack(maps)


def mask_runner(work_dir, data, mask=None, epochs=4, hooks=(), model=None,
                transform_hook=True, **arguments):
    """Build a runner that records its maps."""
    recorder = RefreshRecorder(
        AttentionMaskHook, lambda hook: hook.store.values, naive_maps)
    if mask is not None:
        hooks = [*hooks, dict(
            type='mmmedmask.AttentionMaskHook', batch_size=3, begin=1,
            interval=2, pipeline=list(WHOLE_PIPELINE)) | mask]
    if transform_hook:
        hooks = [*hooks, dict(type='mmmedmask.TransformEpochHook')]
    runner = image_runner(
        work_dir, model or msmae_model(), data, hooks=[*hooks, recorder],
        epochs=epochs, lr=.2, **arguments)
    return runner, recorder


# Trainings with ContrastiveCrop.
CROP_SIZE = (40, 64)
THRESHOLD = 0.6
PACK = dict(type='PackInputs', meta_keys=('img_path', 'sample_idx'))
WHOLE_CROP_PIPELINE = (dict(type='mmmedmask.LoadTile'),
                       dict(type='mmmedmask.ResizeImage', scale=CROP_SIZE),
                       PACK)


def crop_pipeline():
    """Two views of an image."""
    crop = dict(type='mmmedmask.ContrastiveCrop', scale=CROP_SIZE)
    return [dict(type='mmmedmask.LoadTile'),
            dict(type='MultiView', num_views=2, transforms=[[crop]]), PACK]


class Siamese(BaseModel):
    """One convolution, and views of an image that should look alike."""

    def __init__(self):
        super().__init__(SelfSupDataPreprocessor(
            mean=[80.] * 3, std=[60.] * 3))
        torch.manual_seed(1)
        self.conv = nn.Conv2d(3, 4, 8, stride=8)

    def extract_feat(self, inputs):
        return (self.conv(inputs), )

    def forward(self, inputs, data_samples=None, mode='loss'):
        first, second = (
            self.extract_feat(view)[0].mean((2, 3)) for view in inputs)
        return dict(loss=((first - second) ** 2).mean()
                    - 0.1 * first.var(dim=0).mean())


def crop_hook(runner):
    return the_hook(runner, ContrastiveCropHook)


@torch.no_grad()
def naive_regions(runner):
    """Regions of all whole images, one after the other."""
    return torch.stack([
        heat_map_boxes(runner.model.conv(image), CROP_SIZE, THRESHOLD)[0]
        for image in whole_images(runner, crop_hook(runner), CROP_SIZE)])


def crop_runner(work_dir, data_root, crop=None, pipeline=None, loader=None,
                transform_hook=True, epochs=4, **arguments):
    """Build a runner that records its regions."""
    recorder = RefreshRecorder(
        ContrastiveCropHook, lambda hook: hook.regions, naive_regions)
    hooks = [dict(type='mmmedmask.ContrastiveCropHook', begin=1, interval=2,
                  threshold=THRESHOLD, batch_size=3,
                  pipeline=list(WHOLE_CROP_PIPELINE)) | (crop or {}), recorder]
    if transform_hook:
        hooks.append(dict(type='mmmedmask.TransformEpochHook'))
    runner = image_runner(
        work_dir, Siamese(), dataset(data_root, pipeline or crop_pipeline()),
        hooks=hooks, epochs=epochs, lr=.2,
        loader=dict(collate_fn=dict(type='default_collate'), drop_last=True)
        | (loader or {}), **arguments)
    return runner, recorder
