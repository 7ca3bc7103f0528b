"""Bases of every host library resolve, and so does our runtime."""

import pytest
from mmengine.config import Config

import mmmedmask  # noqa: F401

BASES = [('mmpretrain', 'mmpretrain::_base_/models/resnet18.py', 'ResNet'),
         ('mmdet', 'mmdet::_base_/models/mask-rcnn_r50_fpn.py', 'ResNet'),
         ('mmseg', 'mmseg::_base_/models/setr_naive.py', 'VisionTransformer')]


@pytest.mark.parametrize(('scope', 'base', 'backbone'), BASES)
def test_bases_of_hosts_and_our_runtime(tmp_path, scope, base, backbone):
    child = tmp_path / 'child.py'
    child.write_text(
        f"_base_ = [{base!r}, 'mmmedmask::_base_/default_runtime.py']\n"
        f'default_scope = {scope!r}\n'
        'model = dict(backbone=dict(init_cfg=None))\n'
        'randomness = dict(seed=3)\n')
    config = Config.fromfile(child)
    assert config.model.backbone.type == backbone
    assert config.model._scope_ == scope
    assert config.default_scope == scope
    assert config.randomness == dict(seed=3, deterministic=False)
    # Nothing in the runtime belongs to one host.
    assert config.visualizer.type == 'Visualizer'
    assert '_scope_' not in config.default_hooks.logger
