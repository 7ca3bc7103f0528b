"""Tiny trainings with ContrastiveCrop, for tests and their scripts."""

import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmpretrain.models.utils import SelfSupDataPreprocessor
from PIL import Image
from tiny_mask_runs import dataset, tiny_runner
from torch import nn

from mmmedmask.engine.hooks import ContrastiveCropHook
from mmmedmask.functional.contrastive_crop import heat_map_boxes

SIZE = (40, 64)
THRESHOLD = 0.6
PACK = dict(type='PackInputs', meta_keys=('img_path', 'sample_idx'))
WHOLE_PIPELINE = (
    dict(type='mmmedmask.LoadTile'),
    dict(type='mmmedmask.ResizeImage', scale=SIZE),
    PACK)


def crop_pipeline(views=(0, 1)):
    """A view for each number."""
    crops = [dict(type='mmmedmask.ContrastiveCrop', scale=SIZE, view=view)
             for view in views]
    return [
        dict(type='mmmedmask.LoadTile'),
        dict(type='MultiView', num_views=[1] * len(crops),
             transforms=[[crop] for crop in crops]),
        PACK]


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


class CropRecorder(Hook):
    """Write down losses, the regions of refreshes, and those of loops."""

    priority = 'LOWEST'

    def __init__(self):
        self.losses, self.regions, self.naive = [], {}, {}

    def before_train_epoch(self, runner):
        hook = crop_hook(runner)
        if hook.last_refresh_epoch == runner.epoch:
            self.regions[runner.epoch] = hook.regions.clone()
            self.naive[runner.epoch] = naive_regions(runner)

    def after_train_iter(self, runner, batch_idx, data_batch=None,
                         outputs=None):
        self.losses.append(outputs['loss'].item())


def crop_hook(runner):
    """The hook under test."""
    hook, = (hook for hook in runner.hooks
             if isinstance(hook, ContrastiveCropHook))
    return hook


def naive_regions(runner):
    """Regions of all whole images, one after the other."""
    model = getattr(runner.model, 'module', runner.model)
    boxes = []
    root = runner.train_dataloader.dataset.root
    with torch.no_grad():
        for number in range(len(crop_hook(runner).regions)):
            pixels = Image.open(root / f'images/{number}.png').resize(
                SIZE[::-1], Image.Resampling.BICUBIC)
            image = torch.tensor(list(pixels.getdata())).view(*SIZE, 3)
            image = (image.permute(2, 0, 1)[None] - 80.) / 60.
            boxes.append(
                heat_map_boxes(model.conv(image), SIZE, THRESHOLD)[0])
    return torch.stack(boxes)


def crop_runner(work_dir, data_root, crop=None, pipeline=None, loader=None,
                transform_hook=True, **arguments):
    """Build a runner: batches of 3, a checkpoint after every epoch."""
    recorder = CropRecorder()
    hooks = [dict(
        type='mmmedmask.ContrastiveCropHook', begin=1, interval=2,
        threshold=THRESHOLD, batch_size=3,
        pipeline=list(WHOLE_PIPELINE)) | (crop or {}), recorder]
    if transform_hook:
        hooks.append(dict(type='mmmedmask.TransformEpochHook'))
    runner, _ = tiny_runner(
        work_dir, dataset(data_root, pipeline or crop_pipeline()),
        model=Siamese(), custom_hooks=hooks,
        loader=dict(collate_fn=dict(type='default_collate'), drop_last=True)
        | (loader or {}), **arguments)
    return runner, recorder
