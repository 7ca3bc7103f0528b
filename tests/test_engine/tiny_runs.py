"""A tiny model and runner for the hook tests."""

import torch
from mmengine.hooks import Hook
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset


class TinyImages(Dataset):
    """Images drawn from the index; the same index is the same image."""

    def __init__(self, length: int, height: int = 6):
        self.length = length
        self.height = height

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        image = torch.rand(
            3, self.height, 6, generator=generator) * (1 + index % 5)
        return dict(inputs=image)


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


class Recorder(Hook):
    """Write down what happens in which order."""

    priority = 'LOWEST'

    def __init__(self):
        self.events = []

    def after_train_iter(self, runner, batch_idx, data_batch=None,
                         outputs=None):
        self.events.append(('iter', runner.iter + 1))

    def before_save_checkpoint(self, runner, checkpoint):
        self.events.append(('save', {
            k: v.clone()
            for k, v in checkpoint['state_dict'].items()
        }))

    def before_val(self, runner):
        self.events.append(('val', {
            k: v.clone()
            for k, v in runner.model.state_dict().items()
        }))


def tiny_runner(work_dir, model, hooks=(), max_iters=4, length=8,
                batch_size=2, by_epoch=False, **kwargs):
    """Build a runner around a tiny model; arguments replace defaults."""
    settings = dict(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=dict(
            dataset=TinyImages(length),
            batch_size=batch_size,
            num_workers=0,
            sampler=dict(
                type='DefaultSampler' if by_epoch else 'InfiniteSampler',
                shuffle=False),
            collate_fn=dict(type='default_collate')),
        train_cfg=dict(by_epoch=True, max_epochs=max_iters) if by_epoch else
        dict(by_epoch=False, max_iters=max_iters, val_interval=max_iters),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=.01)),
        default_hooks=dict(
            checkpoint=dict(
                type='CheckpointHook', interval=1, by_epoch=by_epoch)),
        custom_hooks=list(hooks),
        default_scope='mmengine',
        log_level='WARNING',
        experiment_name=f'tiny_{id(model)}')
    settings.update(kwargs)
    return Runner(**settings)
