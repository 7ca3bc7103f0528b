"""The warning about two OpenMMLab families in one environment."""

import sys
import warnings

import pytest

from mmmedmask.compat import families


def make_distribution(folder, name):
    """Write the metadata of an installed distribution."""
    info = folder / f'{name.replace("-", "_")}-1.0.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text(
        f'Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n')


@pytest.fixture
def only_these(tmp_path, monkeypatch):
    """Make the distributions of one folder the only ones installed."""

    def install(*names):
        for name in names:
            make_distribution(tmp_path, name)
        monkeypatch.setattr('sys.path', [str(tmp_path)])

    return install


def test_one_family_is_fine(only_these):
    only_these('onedl-mmengine', 'onedl-mmcv', 'mmdet')
    assert families.find_family_clashes() == {}
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        families.warn_about_mixed_families()


def test_both_families_are_named_with_the_way_out(only_these):
    only_these('onedl-mmengine', 'mmengine', 'onedl-mmcv', 'mmcv-lite',
               'onedl-mmdetection')
    assert families.find_family_clashes() == {
        'mmengine': ['onedl-mmengine', 'mmengine'],
        'mmcv': ['onedl-mmcv', 'mmcv-lite']}
    with pytest.warns(UserWarning, match='pip uninstall -y onedl-mmengine '
                      'mmengine onedl-mmcv mmcv-lite && '
                      'pip install onedl-mmengine onedl-mmcv$'):
        families.warn_about_mixed_families()


def test_missing_openmmlab_says_what_to_install(monkeypatch):
    families.require_openmmlab()
    monkeypatch.setitem(sys.modules, 'mmcv', None)
    monkeypatch.setitem(sys.modules, 'mmpretrain', None)
    with pytest.raises(ModuleNotFoundError) as caught:
        families.require_openmmlab()
    assert str(caught.value) == (
        'mmmedmask needs OpenMMLab, and mmcv, mmpretrain cannot be imported: '
        "pip install 'mmmedmask[openmmlab]'")
