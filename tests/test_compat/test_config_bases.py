"""``mmmedmask::`` bases resolve, and keep the host library's scope."""

import pytest
from mmengine.config import Config

from mmmedmask.compat import config_bases, resolve_config_bases


@pytest.fixture
def configs(tmp_path, monkeypatch):
    """A package with configs beside it, as in an editable install."""
    monkeypatch.setattr(config_bases, 'PACKAGE_FOLDER', tmp_path / 'mmmedmask')
    folder = tmp_path / 'configs' / 'method'
    folder.mkdir(parents=True)
    (folder / 'parent.py').write_text(
        "default_scope = 'mmpretrain'\n"
        "model = dict(type='ImageClassifier', backbone=dict(depth=18))\n")
    return folder


def write_child(tmp_path, base):
    child = tmp_path / 'child.py'
    child.write_text(f'_base_ = {base!r}\n'
                     'model = dict(backbone=dict(depth=34))\n')
    return child


def test_base_beside_the_package(tmp_path, configs):
    child = write_child(tmp_path, 'mmmedmask::method/parent.py')
    config = Config.fromfile(child)
    # No _scope_: the parent's unprefixed types are those of its host.
    assert config.model == dict(
        type='ImageClassifier', backbone=dict(depth=34))
    assert config.default_scope == 'mmpretrain'


def test_base_in_a_wheel_comes_first(tmp_path, configs):
    packed = tmp_path / 'mmmedmask' / '.mim' / 'configs' / 'method'
    packed.mkdir(parents=True)
    (packed / 'parent.py').write_text('model = dict(packed=True)\n')
    child = write_child(tmp_path, 'mmmedmask::method/parent.py')
    assert Config.fromfile(child).model.packed is True


def test_missing_base_names_the_path(tmp_path, configs):
    child = write_child(tmp_path, 'mmmedmask::method/absent.py')
    with pytest.raises(FileNotFoundError, match='absent.py is not a file'):
        Config.fromfile(child)


def test_missing_configs_say_how_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(config_bases, 'PACKAGE_FOLDER',
                        tmp_path / 'elsewhere' / 'mmmedmask')
    with pytest.raises(FileNotFoundError, match='without its configs'):
        config_bases.find_config_folder()


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


def test_resolving_twice_changes_nothing():
    before = Config._get_cfg_path
    resolve_config_bases()
    assert Config._get_cfg_path is before
