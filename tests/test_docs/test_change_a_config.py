"""The configs of docs/how_to/change_a_config.md train, and change that."""

import re

import numpy as np
import pytest
from documents import ROOT, load_written, read_blocks
from mmengine.hooks import Hook

from mmmedmask import apis
from mmmedmask.datasets.image_io import write_image
from mmmedmask.shrinking.shrink import shrink_config

PAGE = ROOT / 'docs/how_to/change_a_config.md'
CONFIGS = {
    re.findall(r'`(my_\w+\.py)`', block.before)[-1]: block.code
    for block in read_blocks(PAGE.read_text('utf-8'))
    if block.language == 'python'}


def _shrunk(name, folder):
    config, _ = load_written(CONFIGS[name], PAGE, folder)
    return config, shrink_config(config, folder)


def _train(config, *hooks):
    runner = apis.build_runner(config)
    for hook in hooks:
        runner.register_hook(hook)
    runner.train()
    return runner


def test_every_example_is_tried():
    assert set(CONFIGS) == {
        'my_large_tiles.py', 'my_large_images.py', 'my_short_run.py',
        'my_quiet_run.py', 'my_gray_tiles.py', 'my_nuclei.py'}


def test_size_of_tiles(tmp_path):
    config, shrunk = _shrunk('my_large_tiles.py', tmp_path)
    assert config.model.data_preprocessor.view_size == 256
    assert _train(shrunk).iter == 2


def test_size_of_images(tmp_path):
    """At its own size, with a small network."""
    config, shrunk = _shrunk('my_large_images.py', tmp_path)
    for pipeline in (config.train_dataloader.dataset.pipeline,
                     *(config.default_hooks[name].pipeline for name in (
                         'attention_mask', 'attention_panel',
                         'lesion_coverage'))):
        assert [step.scale for step in pipeline if 'scale' in step] == [384]
    assert config.model.backbone.img_size == 384
    assert _train(shrunk).iter == 2


def test_a_short_run(tmp_path):
    config, shrunk = _shrunk('my_short_run.py', tmp_path)
    warm_up, cosine = config.param_scheduler
    assert (warm_up['end'], cosine['begin']) == (4, 4)
    assert 'end' not in cosine
    # The shrunk run keeps its length and its schedule.
    shrunk.train_cfg.max_epochs = 6
    shrunk.param_scheduler = config.param_scheduler
    shrunk.default_hooks.attention_mask.update(begin=4, interval=4)
    assert _train(shrunk).epoch == 6


def test_without_hooks(tmp_path):
    _, shrunk = _shrunk('my_quiet_run.py', tmp_path)
    names = {type(hook).__name__ for hook in _train(shrunk).hooks}
    assert not {'LesionCoverageHook', 'AttentionPanelHook'} & names
    assert 'AttentionMaskHook' in names


def test_gray_tiles_of_16_bits(tmp_path):
    class Look(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            assert {len(one) for one in data_batch['inputs']} == {1}
            assert max(one.max() for one in data_batch['inputs']) > 255

    _, shrunk = _shrunk('my_gray_tiles.py', tmp_path)
    tiles = np.random.default_rng(0).integers(0, 40000, (4, 64, 64))
    for number, tile in enumerate(tiles.astype(np.uint16)):
        write_image(tmp_path / f'gray/{number}.png', tile)
    shrunk.train_dataloader.dataset.data_root = str(tmp_path / 'gray')
    assert _train(shrunk, Look()).iter == 2


def test_a_coco_set_and_its_pictures(tmp_path):
    pytest.importorskip('mmdet')
    config, shrunk = _shrunk('my_nuclei.py', tmp_path)
    assert config.train_dataloader.dataset.metainfo.classes == (
        'epithelial', 'lymphocyte')
    assert _train(shrunk).iter == 2
    checkpoint = tmp_path / 'run/iter_2.pth'
    assert checkpoint.is_file()
    apis.prepare_test(shrunk, str(checkpoint))
    apis.draw_predictions(shrunk, str(tmp_path / 'pictures'))
    apis.build_runner(shrunk).test()
    assert len(list((tmp_path / 'pictures').iterdir())) == 4
