"""Encoders of tiles: right sizes, right weights, or an error that helps."""

import json
import math
import re
import sys
import types
import urllib.error

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from mmmedmask.apis import encoder_weights as tile_encoders
from mmmedmask.apis.encoder_weights import build_tile_encoder, encode_tiles
from mmmedmask.models.layers.tile_encoders import TileEncoder


def draw_tiles(number=2, side=48, seed=0):
    return np.random.default_rng(seed).integers(
        0, 255, (number, side, side, 3), dtype=np.uint8)


def test_resnet50_cut_after_block3_is_that_part_of_the_network():
    encoder = build_tile_encoder('resnet50-block3', random_seed=3)
    assert (encoder.dims, encoder.weights_id) == (1024, 'random:3')
    tiles = draw_tiles()
    whole = torchvision.models.resnet50(weights=None).eval()
    missing = whole.load_state_dict(encoder.network.state_dict(), strict=False)
    assert {name.split('.')[0] for name in missing.missing_keys} == {
        'layer4', 'fc'}
    maps = []
    whole.layer3.register_forward_hook(lambda *args: maps.append(args[2]))
    pictures = torch.from_numpy(tiles).permute(0, 3, 1, 2) / 255
    mean = torch.tensor([.485, .456, .406]).view(3, 1, 1)
    std = torch.tensor([.229, .224, .225]).view(3, 1, 1)
    with torch.no_grad():
        whole((pictures - mean) / std)
    wanted = maps[0].mean(dim=(2, 3))
    torch.testing.assert_close(
        torch.from_numpy(encode_tiles(encoder, tiles)), wanted,
        rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.parametrize(('name', 'dims'), [
    ('resnet18', 512), ('resnet18-block3', 256), ('mobilenet_v3_small', 1024)])
def test_classifiers_of_torchvision_lose_their_last_layer(name, dims):
    assert build_tile_encoder(name, random_seed=0).dims == dims


def test_transformers_are_given_the_size_they_take():
    network = nn.Flatten()
    encoder = TileEncoder(network, 'flat', input_size=8)
    assert encoder.dims == 3 * 64
    assert encode_tiles(encoder, draw_tiles(side=20)).shape == (2, 192)


def test_random_weights_follow_their_seed_alone():
    torch.manual_seed(1)
    first = build_tile_encoder('resnet18', random_seed=5)
    state = torch.random.get_rng_state()
    torch.manual_seed(2)
    again = build_tile_encoder('resnet18', random_seed=5)
    other = build_tile_encoder('resnet18', random_seed=6)
    torch.manual_seed(1)
    assert torch.equal(state, torch.random.get_rng_state())
    tiles = draw_tiles()
    np.testing.assert_array_equal(encode_tiles(first, tiles),
                                  encode_tiles(again, tiles))
    assert not np.allclose(encode_tiles(first, tiles),
                           encode_tiles(other, tiles))


@pytest.mark.parametrize('prefix', ['', 'backbone.', 'module.encoder.'])
def test_weights_of_a_file_are_loaded_whatever_their_prefix(tmp_path, prefix):
    source = build_tile_encoder('resnet18', random_seed=1)
    tensors = {f'{prefix}{name}': value
               for name, value in source.network.state_dict().items()}
    torch.save({'state_dict': {**tensors, 'head.weight': torch.ones(2)}},
               tmp_path / 'a.pth')
    loaded = build_tile_encoder('resnet18', str(tmp_path / 'a.pth'))
    assert re.fullmatch('sha256:[0-9a-f]{16}', loaded.weights_id)
    tiles = draw_tiles()
    np.testing.assert_array_equal(encode_tiles(source, tiles),
                                  encode_tiles(loaded, tiles))
    del tensors[f'{prefix}layer2.0.conv1.weight']
    torch.save(tensors, tmp_path / 'b.pth')
    with pytest.raises(ValueError, match='119 of 120 tensors match'):
        build_tile_encoder('resnet18', str(tmp_path / 'b.pth'))


@pytest.mark.parametrize(('given', 'name', 'message'), [
    ('resnet34', 'resnet18', '96 tensors of parts .*layer1.2.conv1.weight'),
    ('resnet101', 'resnet50-block3', '306 tensors of .*layer3.6.conv1.weight'),
    ('resnet50', 'resnet50-block3', None),
    ('vgg11', 'vgg11', None), ('vit_b_32', 'vit_b_32', None)])
def test_files_of_deeper_networks_are_refused(tmp_path, given, name, message):
    file = str(tmp_path / 'a.pth')
    torch.save({f'backbone.{part}': value for part, value in
                torchvision.models.get_model(given).state_dict().items()},
               file)
    if message is None:
        # What was cut off may be left over.
        build_tile_encoder(name, file)
        return
    with pytest.raises(ValueError, match=f'is of another encoder.*{message}'):
        build_tile_encoder(name, file)


@pytest.mark.parametrize('name', [
    'vit_tiny_patch16_224', 'convnext_atto', 'levit_128s'])
def test_files_of_timm_may_have_a_classifier_and_no_more_layers(
        tmp_path, name):
    timm = pytest.importorskip('timm', reason='timm is not installed')
    network = timm.create_model(name)
    file = str(tmp_path / 'a.pth')
    torch.save(network.state_dict(), file)
    build_tile_encoder(f'timm:{name}', file)
    if name == 'vit_tiny_patch16_224':
        layer_scales = {f'blocks.{number}.ls1.gamma': torch.ones(192)
                        for number in range(12)}
        torch.save({**network.state_dict(), **layer_scales}, file)
        with pytest.raises(ValueError, match='12 tensors of .*ls1.gamma'):
            build_tile_encoder(f'timm:{name}', file)


CONFIG = """
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(mean=[100, 110, 120], std=[10, 20, 30]),
    backbone=dict(
        type='mmmedmask.CMIMResNet', depth=18, stem_channels=8,
        base_channels=8))
"""


def test_backbone_of_our_config_with_its_own_normalisation(tmp_path):
    from mmengine.registry import MODELS
    (tmp_path / 'cmim.py').write_text(CONFIG)
    backbone = MODELS.build(dict(type='mmmedmask.CMIMResNet', depth=18,
                                 stem_channels=8, base_channels=8))
    backbone.eval()
    torch.save(backbone.state_dict(), tmp_path / 'a.pth')
    encoder = build_tile_encoder('cmim', str(tmp_path / 'a.pth'),
                                 tmp_path / 'cmim.py')
    tiles = draw_tiles()
    pictures = torch.from_numpy(tiles).permute(0, 3, 1, 2).float()
    normal = (pictures - torch.tensor([100, 110, 120]).view(3, 1, 1)
              ) / torch.tensor([10, 20, 30]).view(3, 1, 1)
    with torch.no_grad():
        wanted = backbone(normal)[-1].mean(dim=(2, 3))
    assert encoder.dims == wanted.shape[1] == 64
    torch.testing.assert_close(
        torch.from_numpy(encode_tiles(encoder, tiles)), wanted)
    for text, seed, message in (
            (CONFIG, None, 'needs a file with weights'),
            (CONFIG.replace('mean=', 'data_range=65535, mean='), 0,
             'another range than 8 bits'),
            (CONFIG.replace('[100', '[300'), 0, 'another range than 8 bits'),
            ('model = dict(type="A")', 0, 'no model with a backbone')):
        (tmp_path / 'cmim.py').write_text(text)
        with pytest.raises(ValueError, match=message):
            build_tile_encoder('cmim', config=tmp_path / 'cmim.py',
                               random_seed=seed)


def test_a_config_that_trains_on_bgr_is_given_bgr(tmp_path):
    config = tmp_path / 'cmim.py'
    config.write_text(CONFIG)
    rgb = build_tile_encoder('cmim', config=config, random_seed=0)
    config.write_text(
        f'{CONFIG}train_dataloader = dict(dataset=dict('
        "pipeline=[dict(type='LoadImageFromFile')]))")
    bgr = build_tile_encoder('cmim', config=config, random_seed=0)
    tiles = draw_tiles()
    np.testing.assert_array_equal(
        encode_tiles(bgr, tiles),
        encode_tiles(rgb, np.ascontiguousarray(tiles[..., ::-1])))


@pytest.mark.parametrize(('model', 'backbone', 'side', 'dims'), [
    ('ImageClassifier', dict(
        type='SwinTransformer', img_size=224, arch=dict(
            embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1])),
     224, 64),
    # It masks in training.
    ('MAE', dict(
        type='MAEViT', img_size=64, patch_size=16, mask_ratio=0.75,
        out_type='avg_featmap', arch=dict(
            embed_dims=16, num_layers=1, num_heads=2,
            feedforward_channels=32)), 64, 16)])
def test_a_transformer_of_a_config_sees_the_whole_tile_at_its_size(
        tmp_path, model, backbone, side, dims):
    config = tmp_path / 'transformer.py'
    config.write_text("default_scope = 'mmpretrain'\n"
                      f'model = dict(type={model!r}, backbone={backbone!r})')
    encoder = build_tile_encoder('cmim', config=config, random_seed=0)
    assert encoder.dims == dims
    tiles = draw_tiles(side=side)
    first, again = (encode_tiles(encoder, tiles) for _ in range(2))
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize(('kind', 'channels'), [
    ('MAEViT', 3), ('BEiTPretrainViT', 3), ('mmmedmask.MSMAEViT', 1)])
def test_transformers_of_pretraining_give_their_class_token(
        tmp_path, kind, channels):
    arch = dict(embed_dims=16, num_layers=1, num_heads=2,
                feedforward_channels=32)
    config = tmp_path / 'tokens.py'
    config.write_text(f"""
default_scope = 'mmpretrain'
units = dict(mean=[99.] * {channels}, std=[50.] * {channels})
model = dict(type='A', data_preprocessor=units, backbone=dict(
    type={kind!r}, img_size=64, patch_size=16, out_type='raw', arch={arch}))
""" + ('model["backbone"]["in_channels"] = 1' if channels == 1 else ''))
    encoder = build_tile_encoder('cmim', config=config, random_seed=0)
    tiles = draw_tiles(side=64)
    images = torch.from_numpy(tiles).float().permute(0, 3, 1, 2)
    if channels == 1:
        # R, G and B are averaged.
        images = images.mean(dim=1, keepdim=True)
    network = encoder.network
    network.out_type = 'raw'
    tokens, = network((images - 99) / 50, **encoder.options)
    assert tokens.shape == (2, 17, 16)
    network.out_type = 'cls_token'
    np.testing.assert_allclose(encode_tiles(encoder, tiles),
                               tokens[:, 0].detach(), atol=1e-5)


def test_a_failed_download_says_how_to_give_a_file(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise urllib.error.URLError('no network')

    monkeypatch.setattr(torch.hub, 'download_url_to_file', fail)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    with pytest.raises(ValueError, match=(
            r'cannot download the weights IMAGENET1K_V1 from https://\S+'
            r'resnet50\S+ \(<urlopen error no network>\): download the file '
            r'elsewhere and give it with --weights FILE')):
        build_tile_encoder('resnet50-block3')


def test_weights_of_torchvision_are_asked_for_by_name(monkeypatch):
    asked = []

    def read(address):
        asked.append(address)
        return torchvision.models.resnet18(weights=None).state_dict()

    monkeypatch.setattr(tile_encoders, 'read_checkpoint', read)
    encoder = build_tile_encoder('resnet18')
    assert encoder.weights_id == 'torchvision:IMAGENET1K_V1'
    assert asked == ['torchvision://resnet18.imagenet1k_v1']


def test_weights_of_torchvision_bring_the_units_they_are_for(
        tmp_path, monkeypatch):
    source = torchvision.models.googlenet(weights=None, init_weights=False)
    source.transform_input = True
    monkeypatch.setattr(tile_encoders, 'read_checkpoint',
                        lambda address: source.state_dict())
    encoder = build_tile_encoder('googlenet')
    source.fc = nn.Identity()
    tiles = draw_tiles()
    pictures = torch.from_numpy(tiles).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        wanted = source.eval()(torchvision.transforms.functional.normalize(
            pictures, [.485, .456, .406], [.229, .224, .225]))
    torch.testing.assert_close(
        torch.from_numpy(encode_tiles(encoder, tiles)), wanted,
        rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))
    # A file is known by its content.
    (tmp_path / 'mine.pth').touch()
    for digest, mean in (('1378be20' + 56 * '0', 127.5), (64 * '0', 123.675)):
        monkeypatch.setattr(tile_encoders, 'sha256_of', lambda _, d=digest: d)
        found = build_tile_encoder('googlenet', str(tmp_path / 'mine.pth'))
        assert found.mean[0, 0].item() == pytest.approx(mean)
    units = tile_encoders.tile_encoders.torchvision_units(
        nn.Identity(), torchvision.models.EfficientNet_V2_L_Weights.DEFAULT)
    assert units == dict(mean=(127.5, ) * 3, std=(127.5, ) * 3)


@pytest.mark.parametrize(('name', 'size', 'dims'), [
    ('inception_v3', None, 2048), ('maxvit_t', 224, 512)])
def test_networks_are_tried_at_a_size_that_they_take(name, size, dims):
    encoder = build_tile_encoder(name, random_seed=0)
    assert (encoder.input_size, encoder.dims) == (size, dims)


@pytest.mark.parametrize('ending', ['pth', 'safetensors'])
def test_networks_that_load_by_their_version(tmp_path, ending):
    source = build_tile_encoder('mnasnet0_5', random_seed=1)
    file = str(tmp_path / f'a.{ending}')
    if ending == 'pth':
        wrapped = nn.ModuleDict(dict(backbone=source.network))
        torch.save({'state_dict': wrapped.state_dict()}, file)
    else:
        save_file({name: value.contiguous() for name, value in
                   source.network.state_dict().items()}, file)
    tiles = draw_tiles()
    np.testing.assert_array_equal(
        encode_tiles(build_tile_encoder('mnasnet0_5', file), tiles),
        encode_tiles(source, tiles))


def test_files_of_torchvision_with_older_names(monkeypatch):
    old = {re.sub(r'(denselayer\d+\.(?:norm|conv))(?=[12]\.)', r'\1.', name):
           value for name, value in
           torchvision.models.densenet121(weights=None).state_dict().items()}
    assert 'features.denseblock1.denselayer1.norm.1.weight' in old
    monkeypatch.setattr(tile_encoders, 'read_checkpoint', lambda _: old)
    assert build_tile_encoder('densenet121').dims == 1024
    # Vision transformers rename what they load by themselves.
    vit = torchvision.models.VisionTransformer(32, 16, 1, 2, 8, 16)
    old = {name.replace('mlp.0', 'mlp.linear_1').replace(
        'mlp.3', 'mlp.linear_2'): torch.ones_like(value)
        for name, value in vit.state_dict().items()}
    tile_encoders._load_all(vit, old, 'a.pth')
    assert all((value == 1).all() for value in vit.state_dict().values())


@pytest.mark.parametrize(('options', 'error', 'message'), [
    (dict(name='resnet81', random_seed=0), ValueError,
     "no classifier 'resnet81'. Did you mean resnet18"),
    (dict(name='vgg11-block3', random_seed=0), ValueError,
     'only ResNets can be cut'),
    (dict(name='squeezenet1_0', random_seed=0), ValueError,
     'has no linear layer of classes'),
    (dict(name='resnet18', weights='a', random_seed=0), ValueError,
     'not both'),
    (dict(name='resnet18', weights='nowhere.pth'), FileNotFoundError,
     r"weights 'nowhere.pth', and torchvision has only \['DEFAULT', "),
    (dict(name='cmim', random_seed=0), ValueError, 'needs the config'),
    (dict(name='resnet18', config='a.py', random_seed=0), ValueError,
     'no other takes one'),
    (dict(name='resnet18', random_seed=0, input_size=0), ValueError,
     'input_size must be at least 1, got 0')])
def test_bad_arguments_are_explained(options, error, message):
    with pytest.raises(error, match=message):
        build_tile_encoder(**options)


def test_odd_networks_and_precisions_are_refused():
    with pytest.raises(ValueError, match=r'shape \(1, 4, 64\), expected'):
        TileEncoder(nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.Flatten(2)), 'odd')
    for std, message in (([1.], 'std of R, G, B .* 3 numbers'),
                         ([1.] * 4, 'std of R, G, B .* 3 numbers'),
                         ([1., 1., math.nan], 'positive, got nan')):
        with pytest.raises(ValueError, match=message):
            TileEncoder(nn.Flatten(), 'flat', std=std)
    encoder = TileEncoder(nn.Conv2d(3, 4, 1), 'plain')
    with pytest.raises(ValueError, match="got 'float8'"):
        encode_tiles(encoder, draw_tiles(), 'float8')
    assert not encoder.train().network.training
    assert encode_tiles(encoder, draw_tiles(), 'bfloat16').dtype == np.float32


def test_a_folder_of_timm_brings_its_units_and_weights(tmp_path, monkeypatch):
    timm = pytest.importorskip('timm', reason='timm is not installed')
    (tmp_path / 'config.json').write_text(json.dumps(dict(
        architecture='vit_tiny_patch16_224', num_classes=0,
        model_args=dict(img_size=32, depth=1), pretrained_cfg=dict(
            input_size=[3, 32, 32], fixed_input_size=True, num_classes=0,
            mean=[.7, .5, .6], std=[.1, .2, .3]))))
    name = f'timm:local-dir:{tmp_path}'
    with pytest.raises(FileNotFoundError, match=r'model\.safetensors'):
        build_tile_encoder(name)
    theirs = timm.create_model(name.removeprefix('timm:'), num_classes=0)
    save_file(theirs.state_dict(), tmp_path / 'model.safetensors')
    encoder = build_tile_encoder(name)
    assert encoder.input_size == 32
    assert encoder.weights_id.startswith('sha256:')
    tiles = draw_tiles(side=32)
    pictures = torch.from_numpy(tiles).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(value).view(3, 1, 1)
                 for value in ((.7, .5, .6), (.1, .2, .3)))
    with torch.no_grad():
        wanted = theirs.eval()((pictures - mean) / std)
    torch.testing.assert_close(
        torch.from_numpy(encode_tiles(encoder, tiles)), wanted)
    (tmp_path / 'config.json').write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="cannot build 'local-dir:"):
        build_tile_encoder(name)


def test_other_units_beside_weights_are_told(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(tile_encoders, 'print_log',
                        lambda line, **_: lines.append(line))
    weights = str(tmp_path / 'model.safetensors')
    save_file(torchvision.models.resnet18().state_dict(), weights)
    imagenet = dict(mean=[.485, .456, .406], std=[.229, .224, .225])
    for text in (None, '[1]', '{"a": 1}', '{"mean": null}',
                 json.dumps(imagenet), json.dumps(dict(
                     pretrained_cfg=imagenet))):
        if text is not None:
            (tmp_path / 'config.json').write_text(text)
        build_tile_encoder('resnet18', weights)
    assert lines == []
    (tmp_path / 'config.json').write_text(json.dumps(dict(
        pretrained_cfg=imagenet | dict(mean=[.7, .5, .6]))))
    build_tile_encoder('resnet18', weights)
    assert '[0.7, 0.5, 0.6]' in lines[0]
    assert f"'timm:local-dir:{tmp_path}'" in lines[0]


def test_timm_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, 'timm', None)
    with pytest.raises(ModuleNotFoundError,
                       match="'timm:vit_tiny' needs timm.*encoders"):
        build_tile_encoder('timm:vit_tiny', random_seed=0)
    network = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.Flatten())
    network.pretrained_cfg = dict(
        mean=(.5, .5, .5), std=(.5, .5, .5), input_size=(3, 16, 16),
        fixed_input_size=True)
    timm = types.ModuleType('timm')
    timm.is_model = lambda name: name == 'small'
    timm.list_models = lambda: ['small']
    timm.create_model = lambda name, pretrained, num_classes: network
    monkeypatch.setitem(sys.modules, 'timm', timm)
    encoder = build_tile_encoder('timm:small', random_seed=0)
    assert (encoder.dims, encoder.input_size) == (16, 16)
    assert encoder.mean.flatten().tolist() == [127.5] * 3
    with pytest.raises(ValueError, match="network 'smal'. Did you mean small"):
        build_tile_encoder('timm:smal', random_seed=0)
