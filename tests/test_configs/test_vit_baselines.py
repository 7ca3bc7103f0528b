"""The transformer rows of CMIM's Table 1: parts, chains, configs."""

import math
import re

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmpretrain.models import BEiTPretrainViT, BEiTViT, VisionTransformer
from shipped_configs import (
    groups_of,
    load,
    load_checks,
    parameters_in,
    pretrained,
    read,
    source_of,
    train,
    without_tests,
)
from torch import nn

from mmmedmask.models.detection import BEiTFeatureViT
from mmmedmask.models.layers import FrozenTeacher
from mmmedmask.shrinking.drawn_data import write_clip
from mmmedmask.shrinking.model_sizes import tiny_arch
from mmmedmask.shrinking.shrink import shrink_config

PRETRAINING = {'mae': 'mae_vit-small-p16_8xb32-coslr-800e_nct',
               'beitv2': 'beitv2_vit-small-p16_8xb32-coslr-800e_nct',
               'eva': 'eva_vit-small-p16_8xb32-coslr-800e_nct',
               'supervised': 'supervised_vit-small-p16_8xb32-coslr-100e_nct'}
DATA_SETS = ('glas', 'crag')


def detection(method, dataset):
    return load(f'mask-rcnn_{method}-vit-small-sfp_8xb2-1x_{dataset}')


def pretraining(method):
    return load(PRETRAINING[method])


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def beit():
    """A backbone as pre-training leaves it, with random weights."""
    model = BEiTPretrainViT(arch=tiny_arch(), final_norm=False,
                            out_type='featmap', use_abs_pos_emb=True,
                            use_shared_rel_pos_bias=False)
    for parameter in model.parameters():
        parameter.data.add_(.2 * torch.randn_like(parameter))
    return model


def feature_vit(state_dict):
    model = BEiTFeatureViT(arch=tiny_arch())
    found = model.load_state_dict(state_dict, strict=False)
    assert not found.missing_keys
    assert found.unexpected_keys == ['mask_token']
    return model


def test_beit_features_are_those_of_pre_training(beit):
    model = feature_vit(beit.state_dict())
    images = torch.randn(2, 3, 224, 224)
    torch.testing.assert_close(model(images)[0], beit(images, mask=None)[0])


def test_beit_attention_equals_mmpretrains_for_other_sizes(beit):
    """Outputs and gradients, with positions interpolated to 4 x 7."""
    model = feature_vit(beit.state_dict())
    reference = BEiTViT(arch=tiny_arch(), out_type='featmap',
                        use_abs_pos_emb=True, use_rel_pos_bias=False)
    reference.load_state_dict(model.state_dict())
    images = torch.randn(2, 3, 64, 112)
    found, expected = model(images)[0], reference(images)[0]
    assert found.shape == (2, 16, 4, 7)
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(found)
    (found * weight).sum().backward()
    (expected * weight).sum().backward()
    gradients = {n: p.grad for n, p in reference.named_parameters()}
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(
            parameter.grad, gradients[name], rtol=1e-4, atol=1e-4)
        assert parameter.grad.abs().sum() > 0, name


def test_relative_positions_do_not_fit_other_sizes():
    """Why BEiT v2 is pre-trained with absolute positions here."""
    relative = BEiTViT(arch=tiny_arch(), out_type='featmap')
    with pytest.raises(RuntimeError, match='must match the size'):
        relative(torch.randn(1, 3, 64, 112))


@pytest.mark.parametrize('size', [(32, 48), (50, 70), (224, 96)])
def test_plain_vit_takes_any_size(size):
    model = VisionTransformer(
        arch=tiny_arch(), out_type='featmap', final_norm=False)
    model.pos_embed.data.normal_()
    (features, ) = model(torch.randn(1, 3, *size))
    grid = tuple(math.ceil(side / 16) for side in size)
    assert features.shape == (1, 16, *grid)


def teacher_config(path):
    return dict(type='mmpretrain.CLIPGenerator', tokenizer_path=str(path))


def test_teacher_without_a_file():
    """Said when the model is built: where the file comes from, or which."""
    vqkd = 'mmpretrain.VQKD'
    for teacher in (
            teacher_config('data/weights/none.pth'),
            dict(type=vqkd, init_cfg=pretrained('data/weights/none.pth')),
            dict(type=vqkd, init_cfg=[
                dict(type='Xavier', layer='Linear'),
                pretrained('data/weights/none.pth')])):
        with pytest.raises(FileNotFoundError) as error:
            FrozenTeacher(teacher, source='https://example.org/clip, renamed')
        for part in ('data/weights/none.pth', teacher['type'],
                     'https://example.org/clip, renamed'):
            assert part in str(error.value)
    for unnamed in (dict(encoder_config={}), dict(
            init_cfg=dict(type='TruncNormal')), dict(
                init_cfg=dict(type='Pretrained', checkpoint=None))):
        with pytest.raises(ValueError, match='must name a file'):
            FrozenTeacher(dict(type=vqkd, **unnamed), source='')
    for method in ('beitv2', 'eva'):
        cfg = pretraining(method)
        generator = cfg.model.target_generator
        with DefaultScope.overwrite_default_scope('mmpretrain'), \
                pytest.raises(FileNotFoundError, match='https://download'):
            FrozenTeacher(generator.teacher, generator.source)


def test_teacher_never_learns(tmp_path):
    write_clip(tmp_path / 'clip.pth')
    teacher = FrozenTeacher(teacher_config(tmp_path / 'clip.pth'), '')
    model = nn.Sequential(teacher, nn.Identity()).train()
    assert teacher.training
    assert not any(module.training for module in teacher.teacher.modules())
    assert not any(one.requires_grad for one in model.parameters())
    images = torch.randn(1, 3, 224, 224, requires_grad=True)
    features, attention = teacher(images)
    assert not features.requires_grad
    assert features.shape == (1, 197, 8)
    # The weights are the file's.
    state = torch.load(tmp_path / 'clip.pth', weights_only=True)
    found = teacher.teacher.tokenizer.state_dict()
    assert set(found) == set(state)
    assert all(torch.equal(found[name], state[name]) for name in state)


class Detector(nn.Module):
    """What an optimiser sees of one."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.neck = nn.Linear(2, 2)
        self.head = nn.LayerNorm(2)


def depth_of(name):
    """Layers above a parameter, counted by hand; there are 4."""
    if re.match(r'backbone\.(cls_token|pos_embed|patch_embed)', name):
        return 5
    layer = re.match(r'backbone\.layers\.(\d)\.', name)
    return 4 - int(layer[1]) if layer else 0


@pytest.mark.parametrize('kind', ['vit', 'beit'])
def test_rates_and_decay_of_each_parameter(kind):
    method = {'vit': 'mae', 'beit': 'beitv2'}[kind]
    options = detection(method, 'glas').optim_wrapper
    backbone = BEiTFeatureViT(arch=tiny_arch()) if kind == 'beit' else \
        VisionTransformer(arch=tiny_arch(), out_type='featmap')
    model = Detector(backbone)
    backbone.cls_token.requires_grad_(False)
    groups = groups_of(model, options)
    norms = parameters_in(model, nn.LayerNorm)
    assert {name for name, _ in model.named_parameters()} - set(groups) == {
        'backbone.cls_token'}
    seen = set()
    for name, group in groups.items():
        assert group['lr'] == pytest.approx(1e-4 * .7**depth_of(name)), name
        spared = name in norms or 'pos_embed' in name or 'gamma' in name
        assert group['weight_decay'] == (0 if spared else .1), name
        seen.add(depth_of(name))
    assert seen == {0, 1, 2, 3, 4, 5}


def test_backbones_without_depths():
    model = Detector(nn.Linear(2, 2))
    with pytest.raises(ValueError, match='Linear of Detector has no get_la'):
        build_optim_wrapper(model, detection('mae', 'glas').optim_wrapper)


def picture():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(1, 3, 224, 224, generator=generator)


def pretrained_features(backbone):
    """Patch tokens (1, C, 14, 14) of the picture behind the last layer."""
    backbone.eval()
    if 'ln1' in dict(backbone.named_children()):
        backbone.ln1 = nn.Identity()
    backbone.final_norm, backbone.out_type = False, 'featmap'
    with torch.no_grad():
        if isinstance(backbone, BEiTPretrainViT):
            return backbone(picture(), mask=None)[-1]
        return VisionTransformer.forward(backbone, picture())[0]


@pytest.mark.parametrize('method', PRETRAINING)
def test_pretrained_weights_arrive_whole(method, tmp_path, drawn_data):
    cfg = shrink_config(pretraining(method), tmp_path / 'a', drawn_data)
    cfg.train_cfg.val_interval = 1
    before, _, messages = train(cfg)
    if method == 'supervised':
        accuracy = before.message_hub.log_scalars['val/accuracy/top1']
        assert 0 <= accuracy.current() <= 100
    if method == 'beitv2':
        # Random codes would do without a word.
        assert any('target_generator.teacher' in message
                   and '(100.0 %)' in message for message in messages)
        teacher = before.model.target_generator.teacher.state_dict()
        given = torch.load(
            drawn_data / 'teachers/vqkd.pth', weights_only=True)['state_dict']
        for name, value in given.items():
            # A running count of use, which nothing reads.
            if name != 'quantize.cluster_size':
                assert torch.equal(teacher[name], value), name
    cfg = shrink_config(detection(method, 'glas'), tmp_path / 'b', drawn_data)
    cfg.train_cfg.max_iters = 1
    cfg.default_hooks.checkpoint = None
    cfg.model.backbone.init_cfg = pretrained(tmp_path / 'a/run/epoch_1.pth')
    cfg.default_hooks.load_check.allow_scratch = False
    runner, start, messages = train(without_tests(cfg))
    weights = {name.removeprefix('backbone.'): value
               for name, value in start.tensors.items()
               if name.startswith('backbone.')}
    line, = load_checks(messages)
    assert f'{len(weights)} of {len(weights)} tensors are equal' in line
    trained = before.model.backbone.state_dict()
    for name, value in weights.items():
        assert torch.equal(value, trained[name]), name
    left_over = set(trained) - set(weights)
    assert left_over == ({'mask_token'} if method == 'beitv2' else
                         {'ln1.weight', 'ln1.bias'})
    # The same function, not only the same names.
    backbone = runner.model.backbone
    backbone.eval()
    backbone.load_state_dict(weights)
    with torch.no_grad():
        (features, ) = backbone(picture())
    torch.testing.assert_close(
        features, pretrained_features(before.model.backbone))


def test_all_are_vit_small():
    """384 channels, 12 layers, 6 heads; mmpretrain's 'small' is not."""
    small = VisionTransformer.arch_zoo['deit-small']
    assert small == dict(
        embed_dims=384, num_layers=12, num_heads=6, feedforward_channels=1536)
    assert BEiTViT.arch_zoo['deit-small'] == small
    configs = [pretraining(name) for name in PRETRAINING]
    configs += [detection(name, 'glas') for name in (*PRETRAINING, 'scratch')]
    for cfg in configs:
        arch = cfg.model.backbone.arch
        arch = dict(small if arch == 'deit-small' else arch)
        arch.pop('depth', None)
        assert arch == small
        assert cfg.model.backbone.get('img_size', 224) == 224
        assert cfg.model.backbone.patch_size == 16


@pytest.mark.parametrize('method', PRETRAINING)
def test_pre_training_is_cmims(method):
    """Batches of 256, 800 epochs without labels, ImageNet's statistics."""
    cfg = pretraining(method)
    assert cfg.auto_scale_lr.base_batch_size == 256
    assert cfg.train_dataloader.batch_size == 32
    assert cfg.train_cfg.max_epochs == (100 if method == 'supervised' else 800)
    assert cfg.model.data_preprocessor.mean == [123.675, 116.28, 103.53]
    dataset = cfg.train_dataloader.dataset
    assert dataset.type == 'mmmedmask.NCTCRC'
    assert dataset.get('with_labels', False) == (method == 'supervised')
    first, second = cfg.param_scheduler
    assert first.end == second.begin
    assert 'end' not in second


@pytest.mark.parametrize('dataset', DATA_SETS)
def test_detectors_differ_in_the_backbone_alone(dataset):
    main = detection('mae', dataset)
    for method in ('supervised', 'eva', 'beitv2', 'scratch'):
        other = detection(method, dataset)
        if method == 'scratch':
            assert other.model.backbone.init_cfg is None
            assert other.default_hooks.load_check.allow_scratch
            assert other.optim_wrapper.paramwise_cfg.layer_decay_rate == 1
            other.optim_wrapper.paramwise_cfg.layer_decay_rate = .7
        else:
            assert source_of(other.model.backbone.init_cfg) == \
                PRETRAINING[method]
        if method == 'beitv2':
            backbone = other.model.backbone
            before = pretraining(method).model.backbone
            assert backbone.layer_scale_init_value == \
                before.layer_scale_init_value
            assert backbone.drop_path_rate == \
                main.model.backbone.drop_path_rate
            other.optim_wrapper.paramwise_cfg.custom_keys.pop('gamma')
        base = detection('mae', dataset)
        for cfg in (base, other):
            cfg.pop('checkpoint')
            cfg.model.backbone = None
            cfg.default_hooks.load_check = None
        assert other._cfg_dict == base._cfg_dict


@pytest.mark.parametrize('dataset', DATA_SETS)
def test_schedule_is_that_of_the_other_rows(dataset):
    """Sizes, iterations, steps and heads of the ResNet-18 rows."""
    ours = detection('mae', dataset)
    theirs = read(f'mask-rcnn_cmim-resnet18-fpn_8xb2-1x_{dataset}')
    for key in ('train_cfg', 'param_scheduler', 'train_dataloader',
                'test_dataloader', 'test_evaluator', 'auto_scale_lr'):
        assert ours[key] == theirs[key], key
    for key in ('rpn_head', 'roi_head', 'train_cfg', 'test_cfg',
                'data_preprocessor'):
        assert ours.model[key] == theirs.model[key], key
    assert ours.optim_wrapper.optimizer.type == 'AdamW'
