"""Commands that draw: panels, samples and attention of tiny models."""

import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from commands import TOOLS, call, load, run
from mmengine.registry import DATASETS, MODELS, init_default_scope
from PIL import Image
from shipped_configs import find, write_shrunk

from mmmedmask.apis import load_config
from mmmedmask.datasets.image_io import write_image
from mmmedmask.phantoms.glands import write_gland_dataset
from mmmedmask.phantoms.lesions import write_lesion_dataset
from mmmedmask.visualization.attention_pictures import HATCH_COLOR
from mmmedmask.visualization.grid import GAP, MARGIN, Column, draw_grid
from mmmedmask.visualization.reconstruction import MASK_COLOR, OUTLINE_COLOR
from mmmedmask.visualization.segmentation_visualizer import FRAME

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
TINY_CMIM = """
_base_ = {base!r}
model = dict(
    data_preprocessor=dict(view_size=64, patch_size=16),
    backbone=dict(stem_channels=8, base_channels=8),
    neck=dict(embed_dims=16, num_heads=2, out_stride=16),
    head=dict(patch_size=16))
train_dataloader = dict(dataset=dict(data_root={data!r}, held_out_share=0))
"""
def write_model(config):
    """Write a checkpoint with untrained weights; return both files."""
    init_default_scope('mmpretrain')
    model = MODELS.build(load_config(config).model)
    torch.save(dict(state_dict=model.state_dict()), config.with_suffix('.pth'))
    return config, config.with_suffix('.pth')


@pytest.fixture(scope='module')
def cmim(tmp_path_factory):
    folder = tmp_path_factory.mktemp('cmim')
    random = np.random.default_rng(0)
    (folder / 'tiles').mkdir()
    for number in range(5):
        tile = random.integers(0, 256, (6, 8, 3), np.uint8)
        tile = tile.repeat(16, axis=0).repeat(16, axis=1)
        write_image(folder / 'tiles' / f'{number}.png', tile)
    base = CONFIGS / 'cmim/cmim_resnet18_1xb32-coslr-800e_tile-folder.py'
    (folder / 'tiny.py').write_text(TINY_CMIM.format(
        base=str(base), data=str(folder / 'tiles')))
    return write_model(folder / 'tiny.py')


@pytest.fixture(scope='module')
def msmae(tmp_path_factory):
    return write_model(write_shrunk('msmae_vit-base-p16_1xb64-coslr-300e_busi',
                                    tmp_path_factory.mktemp('msmae'))[0])


def test_browse_refuses_bags(tmp_path):
    name = 'gimp_groupmsa-nystrom_1xb16-coslr-100e-pretrain_tcga-nsclc'
    printed = call('visualizations/browse_dataset.py', write_shrunk(
        name, tmp_path)[0], '--out', tmp_path / 'browse', status=1)
    assert printed.strip().endswith(
        'browse_dataset.py: shown are images, and this config has bags of '
        'patches or genes')


def test_no_picture_is_written_over_a_tile(cmim, tmp_path):
    tile = tmp_path / '000000.png'
    shutil.copy(cmim[0].parent / 'tiles/0.png', tile)
    before = tile.read_bytes()
    options = '--cfg-options', f'train_dataloader.dataset.data_root={tmp_path}'
    for arguments in (
            ('browse_dataset.py', cmim[0], '--out', tmp_path),
            ('visualize_reconstruction.py', *cmim, '--out', tile)):
        name, *rest = arguments
        assert f'overwrite {tile}, which is read' in call(
            f'visualizations/{name}', *rest, *options, status=1)
    assert tile.read_bytes() == before


def test_no_panel_is_written_over_an_image(msmae):
    image = next(msmae[0].parent.glob('data/*/images/train_*'))
    before = image.read_bytes()
    assert 'which is read: name another' in draw_attention(
        msmae, image, status=1)
    assert image.read_bytes() == before


def draw_attention(model, out, *arguments, status=0):
    return call('visualizations/visualize_attention.py', *model, '--out', out,
                *arguments, status=status)


def count(path, color):
    picture = np.asarray(Image.open(path).convert('RGB'))
    return int((picture == color).all(axis=2).sum())


@pytest.mark.slow
def test_reconstruction_panel(cmim, tmp_path):
    """In a process of its own, as users run it."""
    out = tmp_path / 'new' / 'panel.png'
    printed = run(
        sys.executable, TOOLS / 'visualizations/visualize_reconstruction.py',
        *cmim, '--out', out, '--indices', 4, 0)
    assert printed.strip().endswith(str(out))
    # 11 of 16 patches of 16 x 16 pixels in two tiles, enlarged by 2.
    assert count(out, MASK_COLOR) == 2 * 11 * 32 * 32
    assert count(out, OUTLINE_COLOR) > 100


def test_what_the_panel_tool_refuses(cmim, tmp_path):
    weights = torch.load(cmim[1])['state_dict']
    weights.pop('neck.norm.weight')
    torch.save(weights, tmp_path / 'incomplete.pth')
    for name, message in (('absent.pth', 'absent.pth'),
                          ('incomplete.pth', 'neck.norm.weight')):
        printed = call('visualizations/visualize_reconstruction.py', cmim[0],
                       tmp_path / name, '--out', tmp_path / 'a.png', status=1)
        assert message in printed
        assert 'Traceback' not in printed
    # Before the model is read.
    for tool in ('reconstruction', 'attention', 'embeddings'):
        assert "must end with .png" in call(
            f'visualizations/visualize_{tool}.py', cmim[0], 'absent.pth',
            '--out', tmp_path / 'panel', status=2)


def browse(config, folder, number):
    """Draw samples: what is printed, and the files."""
    printed = call('visualizations/browse_dataset.py', config, '--out',
                   folder / 'browse', '--num-samples', number)
    return printed, sorted((folder / 'browse').iterdir())


def inherit(name, folder, **dataset):
    """Write a config whose data set has other settings."""
    config = folder / 'child.py'
    config.write_text(f'_base_ = {str(find(name))!r}\ntrain_dataloader = '
                      f'dict(dataset={dataset!r})\n')
    return config


def build_dataset(config):
    config = load_config(config)
    init_default_scope(config.default_scope)
    return DATASETS.build(config.train_dataloader.dataset)


def test_browse_tiles(cmim, tmp_path):
    printed, files = browse(cmim[0], tmp_path, 3)
    assert [file.name for file in files] == [
        '000000.png', '000002.png', '000004.png']
    assert str(files[0]) in printed
    for file in files:
        # One masked view, enlarged by 3.
        assert count(file, MASK_COLOR) == 11 * 48 * 48


def read_rgb(file):
    return np.asarray(Image.open(file).convert('RGB')).astype(int)


def cells(file, number, side):
    """The pictures of a grid of one row, each side x side pixels."""
    sheet = read_rgb(file)
    rows = slice(len(sheet) - MARGIN - side, len(sheet) - MARGIN)
    lefts = [MARGIN + place * (side + GAP) for place in range(number)]
    return [sheet[rows, left:left + side] for left in lefts]


def test_browse_instances(tmp_path):
    """Each is filled where its mask is, here that of a mirrored image."""
    glands = write_gland_dataset(tmp_path / 'glands', 3, 1, 96)
    _, (file, _) = browse(inherit(
        'mask-rcnn_scratch-resnet18-fpn_8xb2-1x_glas', tmp_path,
        data_root=str(glands), pipeline=[
            dict(type='mmmedmask.LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True,
                 poly2mask=True),
            dict(type='RandomFlip', prob=1.), dict(type='PackDetInputs')]),
        tmp_path, 2)
    # 96 pixels are enlarged by 2.
    image, instances = cells(file, 2, 192)
    expected = read_rgb(glands / 'images/train/0000.png')[:, ::-1]
    assert abs(image[::2, ::2] - expected).max() <= 1
    mask = Image.open(glands / 'masks/train/0000.png')
    inside = np.asarray(mask)[:, ::-1] > 0
    changed = (image != instances).any(axis=2)[::2, ::2]
    assert changed[inside].mean() > .99
    # The outline may stand out by its width.
    around = cv2.dilate(inside.astype(np.uint8), np.ones((5, 5))) > 0
    assert not around.all()
    assert not changed[~around].any()


def test_attention_panel_of_a_checkpoint(msmae, tmp_path):
    out = tmp_path / 'new' / 'panel.png'
    printed = draw_attention(msmae, out, '--indices', 3, 0)
    assert printed.strip().endswith(str(out))
    # 7 of 16 patches of 16 x 16 pixels in two images, enlarged by 2.
    assert count(out, MASK_COLOR) == 2 * 7 * 32 * 32
    assert count(out, OUTLINE_COLOR) > 100
    assert count(out, HATCH_COLOR) > 100


def test_a_reconstruction_of_msmae_is_the_panel_of_its_attention(
        msmae, tmp_path):
    for name in ('attention', 'reconstruction'):
        call(f'visualizations/visualize_{name}.py', *msmae, '--out',
             tmp_path / f'{name}.png', '--num-samples', 2)
    one, other = (np.asarray(Image.open(file))
                  for file in sorted(tmp_path.iterdir()))
    assert np.array_equal(one, other)


def test_attention_panel_of_any_files(msmae, tmp_path):
    out = tmp_path / 'panel.png'
    draw_attention(msmae, out, '--random-masking', '--images',
         *sorted(msmae[0].parent.glob('data/*/images/train_*'))[:3])
    assert count(out, MASK_COLOR) == 3 * 12 * 32 * 32
    assert count(out, OUTLINE_COLOR) == count(out, HATCH_COLOR) == 0


def test_attention_panel_of_a_classifier_on_any_file(msmae, tmp_path):
    """Its validation packs the group, which no file has."""
    model = write_model(write_shrunk('vit-base-p16_msmae_1xb256-100e_busi',
                                     tmp_path)[0])
    draw_attention(model, tmp_path / 'panel.png', '--images', next(
        msmae[0].parent.glob('data/*/images/train_*')))
    assert count(tmp_path / 'panel.png', MASK_COLOR) > 100


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--images', 'absent.png'], 'absent.png'), (['--indices', '4'], '0 to 3'),
    (['--num-samples', '0'], 'at least 1, got 0'),
    (['--split', 'val'], 'no val_dataloader')])
def test_what_the_attention_tool_refuses(msmae, tmp_path, arguments, message):
    out = tmp_path / 'a.png'
    printed = draw_attention(msmae, out, *arguments, status=1)
    assert 'visualize_attention.py: ' in printed
    assert message in printed
    assert not out.exists()


def without_frame(picture):
    return picture[FRAME:-FRAME, FRAME:-FRAME]


def sheet_of(titles, pictures, heading):
    return draw_grid([Column(*title, [picture.astype(np.uint8)])
                      for title, picture in zip(titles, pictures, strict=True)
                      ], heading=heading)


@pytest.mark.parametrize(('name', 'views'), [
    ('vit-base-p16_amt_1xb256-100e_busi', ['Image']),
    ('mocov2-ccrop_resnet50_1xb64-coslr-300e_brain-tumor-mri',
     ['View 1', 'View 2']),
    ('setr-pup_msmae-vit-base-p16_1xb8-200e_busi', ['Image', 'Truth'])])
def test_browse_labelled_images(name, views, tmp_path):
    """The class stands above; a lesion is outlined beside the image."""
    data = write_lesion_dataset(tmp_path / 'data', 3, 1, size=224, normal=True,
                                lesion_size=32)
    config = inherit(name, tmp_path, data_root=str(data),
                     split_folder='splits/paper')
    _, files = browse(config, tmp_path, 2)
    for number, label, file in zip((0, 2), ('normal', 'dark'), files,
                                   strict=True):
        framed = cells(file, len(views), 224 + 2 * FRAME)
        pictures = list(map(without_frame, framed))
        assert pictures[0].std() > 20
        titles = [(view, '224 x 224 pixels, after all transforms')
                  for view in views]
        if views[-1] == 'Truth':
            lesion = data / f'masks/train_{number:04d}.png'
            pixels = int((read_rgb(lesion)[..., 0] > 0).sum()) \
                if lesion.is_file() else 0
            sample = build_dataset(config)[number]['data_samples']
            labels = sample.gt_sem_seg.data[0].numpy()
            assert labels.sum() == pixels
            assert bool(pixels) == (label == 'dark')
            titles[-1] = 'Truth', f'lesion: {pixels} pixels'
            # Outlined outside of it.
            changed = (pictures[0] != pictures[1]).any(axis=2)
            around = cv2.dilate(labels.astype(np.uint8), np.ones((7, 7))) > 0
            assert not changed[(labels > 0) | ~around].any()
            assert changed.any() == bool(pixels)
        assert np.array_equal(read_rgb(file), sheet_of(
            titles, framed, f'train_{number:04d}.png: {label}'))


def test_a_seed_draws_crops_and_flips(tmp_path):
    """Those of our transforms, which do not ask NumPy."""
    data = write_lesion_dataset(tmp_path / 'data', 1, 1, size=64)
    config = load_config(inherit(
        'msmae_vit-base-p16_1xb64-coslr-300e_busi', tmp_path,
        data_root=str(data), split_folder='splits/paper'))
    build = load('visualizations/picture_tool.py').build_dataset
    first, again, other = (build(config, 'train', seed)[0]['inputs']
                           for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_browse_class_folders(tiny_classification, tmp_path):
    """A folder per class, as mmpretrain reads it; the heading names it."""
    _, files = browse(tiny_classification, tmp_path, 8)
    folder = Path(load_config(
        tiny_classification).train_dataloader.dataset.data_prefix)
    for number, name in ((0, 'bright/0.png'), (7, 'dark/3.png')):
        # 32 pixels are enlarged by 8; the network gets them as BGR.
        [picture] = cells(files[number], 1, 256 + 2 * FRAME)
        expected = read_rgb(folder / name).astype(int)
        assert abs(without_frame(picture)[::8, ::8] - expected).max() <= 1
        label, file = name.split('/')
        assert np.array_equal(read_rgb(files[number]), sheet_of(
            [('Image', '32 x 32 pixels, after all transforms')], [picture],
            f'{file}: {label}'))
