"""No file of weights can run code, whatever way it comes in.

That no config has another way in is in ``test_configs.py``.
"""

import contextlib
import gzip
import io
import json
import os
import pickle
import struct
import zipfile

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.runner.checkpoint import CheckpointLoader
from tiny_runs import NUMBERS
from torch import nn

from mmmedmask import apis
from mmmedmask.engine.checkpoint import get_state_dict, read_checkpoint
from mmmedmask.models.layers.frozen_teacher import FrozenTeacher


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark), )


@pytest.fixture
def mark(tmp_path):
    return tmp_path / 'executed'


@pytest.fixture(params=['zip', 'old format', 'config'])
def evil(request, tmp_path, mark):
    """A checkpoint with code: of both formats, and in its own config.

    MMEngine evaluates ``meta['config']`` when it resumes.
    """
    path = tmp_path / 'evil.pth'
    content = dict(
        state_dict={'layer.weight': torch.zeros(1, 1),
                    'layer.bias': torch.zeros(1)},
        message_hub=dict(log_scalars={}, runtime_info={}, resumed_keys={}),
        meta=dict(epoch=1, iter=1))
    if request.param == 'config':
        content['meta']['config'] = f'import os\nos.mkdir({str(mark)!r})'
    else:
        content['x'] = Evil(mark)
    torch.save(content, path, _use_new_zipfile_serialization=(
        request.param != 'old format'))
    return path


class Layer(BaseModel):
    """One layer, perhaps pre-trained."""

    def __init__(self, init_cfg=None):
        super().__init__(init_cfg=init_cfg)
        self.layer = nn.Linear(1, 1)

    def forward(self, inputs, mode='tensor'):
        return dict(loss=self.layer(torch.stack(list(inputs))).mean())


def config(folder):
    return Config(dict(
        work_dir=str(folder),
        train_dataloader=dict(
            dataset=[torch.ones(1)] * 2, batch_size=1,
            sampler=dict(type='DefaultSampler', shuffle=False)),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=.1)),
        model=None, default_scope='mmengine', log_level='CRITICAL',
        experiment_name=f'trust_{next(NUMBERS)}'))


def by_resume(config, evil):
    apis.set_resume(config, str(evil))


def by_pointer(config, evil):
    os.makedirs(config.work_dir, exist_ok=True)
    with open(f'{config.work_dir}/last_checkpoint', 'w') as pointer:
        pointer.write(str(evil))
    apis.set_resume(config, 'auto')


def by_load_from(config, evil):
    config.load_from = str(evil)


def by_init_cfg(config, evil):
    config.init_cfg = dict(type='Pretrained', checkpoint=str(evil))


def by_prefix(config, evil):
    config.init_cfg = dict(type='Pretrained', checkpoint=str(evil),
                           prefix='layer')


@pytest.mark.parametrize('way', [
    by_resume, by_pointer, by_load_from, by_init_cfg, by_prefix])
def test_no_way_in_runs_code(tmp_path, evil, mark, way):
    cfg = config(tmp_path / 'run')
    way(cfg, evil)
    cfg.model = Layer(cfg.pop('init_cfg', None))
    with contextlib.suppress(Exception):
        # Most files are refused; what is left has to do no harm.
        Runner.from_cfg(cfg).train()
    assert not mark.exists()


def test_a_teacher_runs_no_code(evil, mark):
    with contextlib.suppress(Exception):
        FrozenTeacher(dict(type='mmpretrain.CLIPGenerator',
                           tokenizer_path=str(evil)), 'nowhere')
    assert not mark.exists()


def test_every_reader_of_mmengine_is_ours():
    assert {reader.__module__ for reader in CheckpointLoader._schemes.values()
            } == {'mmmedmask.compat.safe_loading'}
    for address in ('s3://bucket/a.pth', 'open-mmlab://resnet',
                    'mmcls://resnet', 'pavi://a'):
        with pytest.raises(ValueError, match='cannot be read safely'):
            CheckpointLoader.load_checkpoint(address)


def _zipped(name, content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr(name, content)
    return file.getvalue()


SAFETENSORS = json.dumps({'a': {
    'dtype': 'F32', 'shape': [1], 'data_offsets': [0, 4]}}).encode()


@pytest.mark.parametrize(('make', 'what'), [
    (lambda whole: b'', r'is empty \(0 bytes\)'),
    (lambda whole: whole[:len(whole) // 2], r'is cut off \(\d+ bytes'),
    (lambda whole: b'version https://git-lfs.github.com/spec/v1\n',
     "pointer of Git LFS, .*'git lfs pull'"),
    (lambda whole: b'\n<!DOCTYPE html><html>virus warning', 'is a web page'),
    (lambda whole: gzip.compress(whole), 'is compressed with gzip'),
    # Safetensors without their last bytes.
    (lambda whole: struct.pack('<Q', len(SAFETENSORS)) + SAFETENSORS,
     'is damaged'),
    (lambda whole: b'\x89HDF\r\n\x1a\n' + bytes(100), 'is HDF5'),
    (lambda whole: b'{"a": 1}', 'begins with .*"a": 1'),
    (lambda whole: b'\x80\x02garbage', 'is damaged'),
    (lambda whole: whole.replace(b'data.pkl', b'atad.pkl'),
     'is an archive of .*atad.pkl'),
    # One byte of a tensor, which PyTorch reads as another number.
    (lambda whole: whole.replace(b'\x80\x3f\0\0', b'\x90\x3f\0\0', 1),
     "checksum of 'weights/data/0' is wrong"),
    (lambda whole: _zipped('m.pth', whole), 'an archive of m.pth, .*unpack'),
    (lambda whole: _zipped('m/constants.pkl', whole), 'TorchScript'),
    (lambda whole: b'\xef\xbb\xbf<html>', 'is a web page'),
    (lambda whole: pickle.dumps({'a': 1}), 'damaged: Unsupported operand'),
])
def test_what_is_not_a_checkpoint_is_called_by_its_name(tmp_path, make, what):
    path = tmp_path / 'weights.pth'
    torch.save({'state_dict': {'a': torch.ones(9)}}, path)
    path.write_bytes(make(path.read_bytes()))
    with pytest.raises(ValueError, match=f'weights.pth.*{what}'):
        read_checkpoint(path)
    # The same words where MMEngine reads.
    with pytest.raises(ValueError, match=what):
        CheckpointLoader.load_checkpoint(str(path))


def test_a_number_among_tensors_is_named():
    with pytest.raises(ValueError, match=r'not alone: steps \(int\)'):
        get_state_dict({'state_dict': {'a': torch.zeros(1), 'steps': 5}})
