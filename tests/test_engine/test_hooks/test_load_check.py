"""The load check: what fits passes, everything else ends the run."""

import re

import pytest
import torch
from mmengine.model import BaseDataPreprocessor, BaseModel, BaseModule
from mmengine.registry import MODEL_WRAPPERS
from mmpretrain.models.backbones import VisionTransformer
from tiny_runs import heard, tiny_runner
from torch import nn

from mmmedmask.engine.checkpoint import reading
from mmmedmask.engine.hooks import LoadCheckHook


class Backbone(BaseModule):
    def __init__(self, width=4, depth=2, init_cfg=None):
        super().__init__(init_cfg)
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.layers = nn.Sequential(
            *[nn.Conv2d(width, width, 1) for _ in range(depth)])

    def forward(self, x):
        return self.layers(self.norm(self.stem(x)))


class Head(BaseModule):
    def __init__(self, init_cfg=None):
        super().__init__(init_cfg)
        self.top = nn.Conv2d(4, 4, 1)


class Detector(BaseModel):
    def __init__(self, head_cfg=None, **backbone):
        super().__init__(data_preprocessor=BaseDataPreprocessor())
        self.backbone = Backbone(**backbone)
        self.head = Head(head_cfg)

    def forward(self, inputs, mode='tensor'):
        return dict(loss=self.head.top(self.backbone(inputs)).square().mean())


NUM_BACKBONE = len(Backbone().state_dict())


@pytest.fixture
def pretrained(tmp_path):
    """A file as a CMIM run leaves it, more parts than the backbone."""
    torch.manual_seed(0)
    tensors = {f'backbone.{k}': torch.randn_like(v) if v.is_floating_point()
               else v for k, v in Backbone().state_dict().items()}
    tensors['mask_token'] = torch.zeros(1)
    tensors['neck.weight'] = torch.zeros(2)
    path = tmp_path / 'pretrained.pth'
    torch.save({'state_dict': tensors, 'meta': {'epoch': 3}}, path)
    return path


def _init(path, prefix='backbone.'):
    return dict(type='Pretrained', checkpoint=str(path), prefix=prefix)


def _run(tmp_path, model, hook=None, **kwargs):
    runner = tiny_runner(tmp_path / 'run', model, [hook or LoadCheckHook()],
                         max_iters=2, **kwargs)
    return '\n'.join(heard(runner, 'info'))


def _loaded(source, tensors):
    """A model whose backbone has what MMEngine would load into it."""
    model = Detector(init_cfg=_init(source, 'backbone'))
    model.backbone.load_state_dict(tensors)
    model.backbone._is_init = model._is_init = True
    return model


def test_weights_that_arrived_pass_and_are_counted(tmp_path, pretrained):
    assert f'{NUM_BACKBONE} of {NUM_BACKBONE} tensors are equal (100.0 %)' \
        in _run(tmp_path, Detector(init_cfg=_init(pretrained)))
    # What a runner writes is read.
    checkpoint = reading.read_checkpoint(tmp_path / 'run' / 'iter_2.pth')
    assert checkpoint['meta']['iter'] == 2
    assert 'message_hub' in checkpoint
    assert 'backbone.stem.weight' in reading.get_state_dict(checkpoint)


@pytest.mark.parametrize('form', ['bare', 'model', 'ddp', 'compiled'])
def test_forms_of_checkpoints(tmp_path, pretrained, form):
    tensors = torch.load(pretrained)['state_dict']
    if form == 'ddp':
        content = {'state_dict': {f'module.{k}': v
                                  for k, v in tensors.items()}}
    elif form == 'compiled':
        content = {k.replace('backbone.', 'backbone._orig_mod.'): v
                   for k, v in tensors.items()}
    else:
        content = tensors if form == 'bare' else {'model': tensors}
    path = tmp_path / 'other.pth'
    torch.save(content, path)
    assert 'tensors are equal (100.0 %)' in _run(tmp_path, _loaded(
        path, reading.select_prefix(tensors, 'backbone')))


@pytest.mark.parametrize(('prefix', 'size', 'message'), [
    ('encoder.', {}, r"(?s)0 of 10 names and shapes fit \(0\.0 %\).*"
     "under the prefix 'backbone.'"),
    # The case that MMEngine lets through without an error.
    (None, {}, "under the prefix 'backbone.'"),
    ('backbone.', dict(width=5), r'stem.weight: \(4, 3, 3, 3\) in the '
     r'checkpoint, \(5, 3, 3, 3\) in the model'),
    ('backbone.', dict(depth=3), r'(?s)2 are not in the checkpoint.*'
     r'layers\.2\.weight \(similar names there: layers\.'),
])
def test_what_does_not_fit_is_named(tmp_path, pretrained, prefix, size,
                                    message):
    model = Detector(**size, init_cfg=_init(pretrained, prefix))
    with pytest.raises(ValueError, match=message):
        _run(tmp_path, model)


@pytest.mark.parametrize(('size', 'fits'), [
    ((32, 128), False), ((64, 64), True)])
def test_positions_of_another_grid_are_refused(tmp_path, size, fits):
    """Of 8 x 8 patches, and 4 x 16 are as many."""
    options = dict(arch=dict(embed_dims=8, num_layers=1, num_heads=1,
                             feedforward_channels=8), patch_size=8)
    path = tmp_path / 'a.pth'
    tensors = VisionTransformer(**options, img_size=64).state_dict()
    torch.save(dict(
        state_dict={f'backbone.{name}': tensor
                    for name, tensor in tensors.items()},
        meta=dict(cfg='model = dict(backbone=dict(img_size=64, patch_size=8))'
                  )), path)
    model = Detector()
    model.backbone = VisionTransformer(
        **options, img_size=size, init_cfg=_init(path))
    model.forward = lambda inputs, mode: dict(
        loss=model.backbone(torch.zeros(1, 3, *size))[0].square().mean())
    if fits:
        assert 'tensors are equal (100.0 %)' in _run(tmp_path, model)
    else:
        with pytest.raises(ValueError, match=(
                r"a.pth' are of 8 x 8 patches.*the model has 4 x 16")):
            _run(tmp_path, model)


@pytest.mark.parametrize(('cfg', 'fits'), [
    # 13 columns, as the last one is padded.
    ('model = dict(backbone=dict(img_size=(56, 100), patch_size=8))', True),
    ('model = dict(backbone=dict(img_size=(104, 56), patch_size=8))', False),
    ('model = dict(backbone=dict(img_size=(104, 56), patch_size=8,'
     'patch_cfg=dict(stride=4)))', True),
    # What says nothing that can be read.
    ('a = 1 +', True), ('model = "x"', True), ('model = None', True),
    ('model = dict(backbone="x")', True), (None, True), (3, True),
    ('model = dict(backbone=dict(img_size=None))', True),
    ('model = dict(backbone=dict(img_size="56"))', True),
    ('model = dict(backbone=dict(img_size=56, patch_size=(16, )))', True),
    ('model = dict(backbone=dict(img_size=56, patch_size=0))', True),
    ('model = dict(backbone=dict(img_size=(inf, 56)))', True)])
def test_grids_by_the_config_in_a_checkpoint(cfg, fits):
    module = VisionTransformer(
        arch=dict(embed_dims=8, num_layers=1, num_heads=1,
                  feedforward_channels=8), patch_size=8, img_size=(56, 100))
    content = dict(meta=dict(cfg=cfg), state_dict={
        f'backbone.{name}': tensor
        for name, tensor in module.state_dict().items()})

    def compare():
        return LoadCheckHook().compare([module], 'a', content, 'backbone.')

    if fits:
        assert compare().complete
    else:
        with pytest.raises(ValueError, match="'a' are of 13 x 7 patches.*"
                           'the model has 7 x 13'):
            compare()


def test_shallower_model_is_noticed(tmp_path, pretrained):
    """All names of the small network are in the file of the large one."""
    model = Detector(depth=1, init_cfg=_init(pretrained))
    with pytest.raises(ValueError, match='used by nothing: layers.1.weight'):
        _run(tmp_path, model)
    model = Detector(depth=1, init_cfg=_init(pretrained))
    _run(tmp_path, model, LoadCheckHook(allowed_unused=['layers.1.*']))


def test_two_modules_share_a_checkpoint(tmp_path, pretrained):
    content = torch.load(pretrained)
    for name, value in Head().state_dict().items():
        content['state_dict'][f'backbone.{name}'] = value
    torch.save(content, pretrained)
    init = _init(pretrained)
    model = Detector(head_cfg=init, init_cfg=init)
    total = NUM_BACKBONE + 2
    assert f'{total} of {total} tensors' in _run(
        tmp_path, model, LoadCheckHook(['backbone', 'head']))


@pytest.mark.parametrize('modules', [('backbone', 'twin'),
                                     ('twin', 'backbone')])
def test_each_of_two_modules_of_equal_names_is_compared(tmp_path, pretrained,
                                                        modules):
    def build():
        model = Detector(init_cfg=_init(pretrained))
        model.twin = Backbone(init_cfg=_init(pretrained)).requires_grad_(False)
        model.init_weights()
        return model

    log = _run(tmp_path, build(), LoadCheckHook(modules))
    assert f'{2 * NUM_BACKBONE} of {2 * NUM_BACKBONE} tensors' in log
    model = build()
    nn.init.zeros_(model.backbone.stem.weight)
    with pytest.raises(ValueError, match=r'1 have other values: stem\.weight'):
        _run(tmp_path, model, LoadCheckHook(modules))


def test_overwritten_weights_are_noticed(tmp_path, pretrained):
    model = Detector(init_cfg=_init(pretrained))
    original = model.init_weights

    def init_weights():
        original()
        with torch.no_grad():
            model.backbone.norm.weight[1] += 1e-6

    model.init_weights = init_weights
    with pytest.raises(ValueError, match='1 have other values: norm.weight'):
        _run(tmp_path, model)


def test_nan_and_counters_in_the_checkpoint(tmp_path, pretrained):
    """Counters may be missing, but nothing else."""
    content = torch.load(pretrained)
    del content['state_dict']['backbone.norm.num_batches_tracked']
    torch.save(content, pretrained)
    model = Detector(init_cfg=_init(pretrained))
    _run(tmp_path, model)
    with pytest.raises(ValueError, match='norm.num_batches_tracked'):
        _run(tmp_path, model, LoadCheckHook(allowed_missing=()))
    content['state_dict']['backbone.norm.running_var'][0] = float('nan')
    torch.save(content, pretrained)
    with pytest.raises(ValueError, match='not finite: norm.running_var'):
        _run(tmp_path, model)


def test_scratch_only_when_allowed(tmp_path):
    with pytest.raises(ValueError, match='trained from scratch'):
        _run(tmp_path, Detector())
    assert 'from scratch, as allowed' in _run(
        tmp_path, Detector(), LoadCheckHook(allow_scratch=True))
    with pytest.raises(ValueError, match=r"no module 'encoder', its parts"):
        _run(tmp_path, Detector(), LoadCheckHook('encoder'))


def test_resume_is_not_compared(tmp_path, pretrained):
    _run(tmp_path, Detector(init_cfg=_init(pretrained)))
    (tmp_path / 'run' / 'iter_2.pth').rename(tmp_path / 'two.pth')
    messages = _run(tmp_path, Detector(init_cfg=_init(pretrained)),
                    resume=True, load_from=str(tmp_path / 'two.pth'),
                    train_cfg=dict(by_epoch=False, max_iters=3))
    assert 'skipped: the run was resumed at iteration 2' in messages
    assert 'tensors are equal' not in messages


def test_resume_without_anything_to_resume_is_compared(tmp_path, pretrained):
    with pytest.raises(ValueError, match='not in the checkpoint'):
        _run(tmp_path, Detector(depth=3, init_cfg=_init(pretrained)),
             resume=True)


def test_load_from_is_what_must_have_arrived(tmp_path, pretrained):
    source = Detector()
    path = tmp_path / 'detector.pth'
    torch.save({'state_dict': source.state_dict()}, path)
    assert re.search(r'detector\.pth.*\(100\.0 %\)', _run(
        tmp_path, Detector(init_cfg=_init(pretrained)), load_from=str(path)))
    broken = {k: v for k, v in source.state_dict().items() if 'stem' not in k}
    torch.save({'state_dict': broken}, path)
    with pytest.raises(ValueError, match='stem.weight'):
        _run(tmp_path, Detector(init_cfg=_init(pretrained)),
             load_from=str(path))


def test_wrapped_model(tmp_path, pretrained):
    model = Detector(init_cfg=_init(pretrained))
    model.init_weights()

    class Wrapper(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

    MODEL_WRAPPERS.register_module(module=Wrapper, force=True)
    runner = tiny_runner(tmp_path, model)
    runner.model = Wrapper(model)
    LoadCheckHook().before_train(runner)
    with torch.no_grad():
        model.backbone.stem.bias += 1
    with pytest.raises(ValueError, match='stem.bias'):
        LoadCheckHook().before_train(runner)


class Payload:
    """Unpickling it would leave a mark."""

    loaded = False

    def __reduce__(self):
        return setattr, (Payload, 'loaded', True)


def test_a_file_with_code_is_refused_before_anything_runs(tmp_path):
    path = tmp_path / 'foreign.pth'
    torch.save({'state_dict': Backbone().state_dict(), 'extra': Payload()},
               path)
    with pytest.raises(ValueError, match='it uses .*setattr'):
        _run(tmp_path, Detector(init_cfg=_init(path)))
    assert not Payload.loaded


def test_addresses_are_read_safely_too(tmp_path, monkeypatch):
    asked = []

    def download_url_to_file(url, target, hash_prefix, progress):
        asked.append((url, hash_prefix))
        torch.save({f'backbone.{k}': v for k, v in weights.items()}, target)

    weights = Backbone().state_dict()
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setattr(torch.hub, 'download_url_to_file',
                        download_url_to_file)
    assert 'tensors are equal (100.0 %)' in _run(
        tmp_path, _loaded('https://example.org/file.pth', weights))
    reading.read_checkpoint('torchvision://resnet18')
    # Once, with the hash that torchvision's names have.
    assert asked[0] == ('https://example.org/file.pth', None)
    assert 'resnet18' in asked[1][0]
    assert asked[1][1] in asked[1][0]
    assert len(asked) == 2
