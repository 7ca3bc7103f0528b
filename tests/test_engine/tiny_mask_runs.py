"""Tiny MSMAE trainings with attention masking, for tests and their scripts."""

import csv
from pathlib import Path

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from PIL import Image

import mmmedmask.models  # noqa: F401
from mmmedmask.engine.hooks import AttentionMaskHook

SIZE = (16, 24)
GRID = (4, 6)
CLASSES = ('benign', 'malignant')
META_KEYS = ('img_path', 'sample_idx', 'crop_box', 'flip', 'flip_direction')
WHOLE_PIPELINE = (
    dict(type='mmmedmask.LoadTile'),
    dict(type='mmmedmask.ResizeImage', scale=SIZE),
    dict(type='mmmedmask.PackTile', meta_keys=META_KEYS))
TRAIN_PIPELINE = (
    dict(type='mmmedmask.LoadTile'),
    dict(type='mmmedmask.RandomResizedCrop', scale=SIZE),
    dict(type='mmmedmask.RandomFlip'),
    dict(type='mmmedmask.PackTile', meta_keys=META_KEYS))


def write_images(root: Path, count: int = 7, seed: int = 0) -> Path:
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


def dataset(root: Path, pipeline=TRAIN_PIPELINE, **arguments) -> dict:
    """Config of the data set that :func:`write_images` drew."""
    return dict(
        type='mmmedmask.LabelledImages', data_root=str(root),
        # Serializing collects all garbage, which takes seconds.
        serialize_data=False,
        pipeline=[dict(step) for step in pipeline], **arguments)


def tiny_model(drop_rate: float = 0.) -> torch.nn.Module:
    """Build an MSMAE; in runners of one seed always with the same weights."""
    torch.manual_seed(1)
    return MODELS.build(
        dict(
            type='mmmedmask.MSMAE',
            data_preprocessor=dict(
                type='ClsDataPreprocessor', mean=[80.] * 3, std=[60.] * 3),
            backbone=dict(
                type='mmmedmask.MSMAEViT', img_size=SIZE, patch_size=4,
                drop_rate=drop_rate,
                arch=dict(
                    embed_dims=16, num_layers=2, num_heads=2,
                    feedforward_channels=32)),
            neck=dict(
                type='mmmedmask.MSMAEDecoder', embed_dims=16, num_layers=1,
                num_heads=2),
            head=dict(type='mmmedmask.MSMAEHead', num_classes=2)))


class Recorder(Hook):
    """Write down losses, what was attached, and the stores."""

    priority = 'LOWEST'

    def __init__(self):
        self.losses = []
        self.attached = []
        self.stores = {}
        self.naive = {}

    def before_train_epoch(self, runner):
        hook = mask_hook(runner)
        if hook.last_refresh_epoch == runner.epoch:
            self.stores[runner.epoch] = hook.store.values
            self.naive[runner.epoch] = naive_maps(runner)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.attached += [
            (runner.epoch, sample.img_path, sample.get('attention_map'))
            for sample in data_batch['data_samples']]

    def after_train_iter(self, runner, batch_idx, data_batch=None,
                         outputs=None):
        self.losses.append(outputs['loss'].item())


def mask_hook(runner: Runner) -> AttentionMaskHook:
    """The hook under test."""
    hook, = (hook for hook in runner.hooks
             if isinstance(hook, AttentionMaskHook))
    return hook


def naive_maps(runner: Runner) -> torch.Tensor:
    """Maps of all whole images, one after the other, in float32."""
    model = getattr(runner.model, 'module', runner.model)
    hook = mask_hook(runner)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    maps = []
    with torch.no_grad():
        for key in hook.store.images.keys:
            path = Path(runner.train_dataloader.dataset.root) / key
            pixels = Image.open(path).resize(
                SIZE[::-1], Image.Resampling.BICUBIC)
            image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)
            maps.append(model.attention_maps((image[None] - 80.) / 60.)[0])
    for module, mode in modes:
        module.training = mode
    return torch.stack(maps)


def tiny_runner(work_dir: Path, data: dict, mask=None, epochs: int = 4,
                hooks=(), model=None, loader=None, transform_hook=True,
                **arguments) -> tuple[Runner, Recorder]:
    """Build a runner: SGD, batches of 3, a checkpoint after every epoch."""
    recorder = Recorder()
    if mask is not None:
        mask = dict(
            type='mmmedmask.AttentionMaskHook', batch_size=3, begin=1,
            interval=2, pipeline=list(WHOLE_PIPELINE)) | mask
    settings = dict(
        model=model or tiny_model(),
        work_dir=str(work_dir),
        train_dataloader=dict(
            dataset=data, batch_size=3, num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=True),
            collate_fn=dict(type='pseudo_collate')) | (loader or {}),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(
            type='OptimWrapper',
            optimizer=dict(type='SGD', lr=.2, momentum=.9)),
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', interval=1)),
        custom_hooks=[
            *hooks, *([mask] if mask else []),
            *([dict(type='mmmedmask.TransformEpochHook')]
              if transform_hook else []), recorder],
        randomness=dict(seed=3),
        default_scope='mmpretrain',
        log_level='WARNING',
        experiment_name=f'{Path(work_dir).parent.name}_{id(recorder)}')
    return Runner(**settings | arguments), recorder
