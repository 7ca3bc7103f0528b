"""Checkpoints are read safely, and compared by name, shape and value."""

import pytest
import torch
from mmengine.logging.history_buffer import HistoryBuffer
from torch import nn

from mmmedmask.engine.checkpoint import reading
from mmmedmask.engine.checkpoint.matching import (
    compare_modules,
    suggest_prefix,
)
from mmmedmask.engine.checkpoint.reading import (
    get_state_dict,
    read_checkpoint,
    select_prefix,
)
from mmmedmask.engine.checkpoint.writing import save_weights


class Reach:
    """Would reach a function through the buffer's class."""

    def __reduce__(self):
        return getattr, (HistoryBuffer, '__init__')


def test_the_door_for_log_histories_is_narrow(tmp_path):
    path = tmp_path / 'reach.pth'
    torch.save({'state_dict': {}, 'extra': Reach()}, path)
    with pytest.raises(ValueError, match='weights_only=True'):
        reading.read_checkpoint(path)


@pytest.mark.parametrize(('content', 'message'), [
    ({}, 'no dictionary of tensors'), ({'epoch': 3}, 'its own keys are epoch'),
    ({0: torch.zeros(1)}, 'its own keys are 0'),
    ({'module.a': torch.zeros(1), 'a': torch.zeros(1)}, 'wrapped and unwr')])
def test_checkpoints_without_clear_tensors(content, message):
    with pytest.raises(ValueError, match=message):
        reading.get_state_dict(content)


def test_files_of_one_name_are_told_apart(tmp_path, monkeypatch):
    """All repositories of the hub call their weights alike."""
    asked = []

    def download_url_to_file(url, target, hash_prefix, progress):
        asked.append(url)
        torch.save({'a': torch.full((1, ), float(len(asked)))}, target)

    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setattr(torch.hub, 'download_url_to_file',
                        download_url_to_file)
    first, second = (f'https://hub.org/{name}/resolve/main/model.bin'
                     for name in ('uni', 'conch'))
    for address, value in ((first, 1), (second, 2), (first, 1)):
        assert reading.read_checkpoint(address)['a'] == value
    assert asked == [first, second]


def test_versions_of_modules_go_with_their_tensors(tmp_path):
    """Modules that have changed load by them."""
    wrapped = nn.DataParallel(nn.ModuleDict(dict(a=nn.BatchNorm2d(1))))
    path = tmp_path / 'a.pth'
    save_weights(path, get_state_dict(dict(state_dict=wrapped.state_dict())),
                 {})
    tensors = get_state_dict(read_checkpoint(path))
    assert tensors._metadata['a'] == dict(version=2)
    assert select_prefix(tensors, 'a')._metadata == {'': dict(version=2)}


def test_safetensors_keep_lists_and_mappings(tmp_path):
    meta = dict(dataset_meta=dict(classes=['a', 'b'], palette=[[1, 2, 3]]),
                source='{no json', epoch='3')
    file = tmp_path / 'a.safetensors'
    save_weights(file, {'a': torch.ones(1)}, meta)
    assert reading.read_checkpoint(file)['meta'] == dict(meta, format='pt')


def test_missing_file_and_unknown_scheme(tmp_path):
    with pytest.raises(FileNotFoundError, match='none.pth'):
        reading.read_checkpoint(tmp_path / 'none.pth')
    with pytest.raises(ValueError, match="scheme 's3' cannot be read"):
        reading.read_checkpoint('s3://bucket/file.pth')
    with pytest.raises(ValueError, match="near are .*resnet18"):
        reading.read_checkpoint('torchvision://resnet18x')
    torch.save([1], tmp_path / 'list.pth')
    with pytest.raises(ValueError, match='holds a list'):
        reading.read_checkpoint(tmp_path / 'list.pth')


def test_match_compares_in_the_dtype_of_the_module():
    module = torch.nn.PReLU(5)
    half = torch.randn(5).half()
    module.weight.data = half.float()
    report = compare_modules([module], {'weight': half}, compare_values=True)
    assert report.matched == ('weight', )
    module.weight.data += 1e-4
    report = compare_modules([module], {'weight': half}, compare_values=True)
    assert report.differing == ('weight', )
    assert report.ratio == 0


def test_names():
    assert reading.strip_wrappers(
        'module.backbone._orig_mod.stem') == 'backbone.stem'
    assert reading.strip_wrappers('neck.module.weight') == 'neck.module.weight'
    given = ['a.b.conv.w', 'a.b.norm.w', 'c.conv.w', 'other']
    assert suggest_prefix(['conv.w', 'norm.w'], given) == ('a.b.', 2)
    assert suggest_prefix(['x'], given) == ('', 0)
