"""Weights are channels-last while a run trains, and it trains as without."""

import torch
from tiny_runs import TinyModel, copies, noting, tiny_runner

from mmmedmask.engine.hooks import ChannelsLastHook
from mmmedmask.registry import HOOKS


def layouts(runner, **_):
    return [value.is_contiguous(memory_format=torch.channels_last)
            and not value.is_contiguous()
            for value in runner.model.parameters() if value.dim() == 4]


def train(work_dir, *hooks, **settings):
    """Train in float64 without dropout; return the runner."""
    torch.manual_seed(0)
    model = TinyModel().double()
    model.backbone[2].p = 0.
    model.data_preprocessor.cast_data = lambda data: {
        name: torch.stack(list(value)).double()
        for name, value in data.items()}
    runner = tiny_runner(work_dir, model, hooks, **settings)
    runner.train()
    return runner


def test_the_layout_changes_and_the_result_does_not(tmp_path):
    hook = HOOKS.build(dict(type='mmmedmask.ChannelsLastHook'))
    assert isinstance(hook, ChannelsLastHook)
    watch, seen = noting('after_train_iter', layouts)
    plain_watch, plain_seen = noting('after_train_iter', layouts)
    last = train(tmp_path / 'last', hook, watch)
    plain = train(tmp_path / 'plain', plain_watch)
    assert seen == 4 * [[True, True]]
    assert plain_seen == 4 * [[False, False]]
    for name, value in plain.model.state_dict().items():
        torch.testing.assert_close(last.model.state_dict()[name], value)


def test_a_resumed_run_is_in_the_layout_again(tmp_path):
    optimizer = dict(optimizer=dict(type='AdamW', lr=.01))
    whole = train(tmp_path / 'whole', ChannelsLastHook(),
                  optim_wrapper=optimizer)
    weights = copies(whole.model.state_dict())
    train(tmp_path / 'part', ChannelsLastHook(), optim_wrapper=optimizer,
          train_cfg=dict(by_epoch=False, max_iters=2, val_interval=2))
    watch, seen = noting('after_train_iter', layouts)
    resumed = train(tmp_path / 'part', ChannelsLastHook(), watch,
                    optim_wrapper=optimizer, resume=True)
    assert seen == 2 * [[True, True]]
    for name, value in resumed.model.state_dict().items():
        torch.testing.assert_close(weights[name], value)


def test_other_weights_stay(tmp_path):
    """Of volumes, which have a layout of their own, and of embeddings."""
    torch.manual_seed(0)
    model = TinyModel()
    model.volume = torch.nn.Conv3d(1, 2, 3)
    model.table = torch.nn.Embedding(3, 4)
    tiny_runner(tmp_path, model, [ChannelsLastHook()]).train()
    assert model.volume.weight.is_contiguous()
    assert model.table.weight.is_contiguous()
