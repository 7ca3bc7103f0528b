"""The attention panel hook: what it draws and when, and that it only looks."""

import numpy as np
import pytest
import tiny_runs
import torch
from mmengine.dataset import Compose
from mmpretrain.registry import MODELS

import mmmedmask.models  # noqa: F401
from mmmedmask.datasets import LabelledImages
from mmmedmask.datasets.image_io import ImageFileError, write_image
from mmmedmask.engine.attention import attention_panel_hook
from mmmedmask.engine.attention.attention_panel_hook import (
    draw_panel,
    follows_attention,
    load_panel,
    read_lesion,
)
from mmmedmask.engine.hooks import AttentionPanelHook
from mmmedmask.engine.hooks.panel_hook import choose_positions
from mmmedmask.engine.wrapped_datasets import list_sources
from mmmedmask.phantoms.lesions import write_lesion_dataset
from mmmedmask.visualization import PictureUnits
from mmmedmask.visualization.reconstruction import MASK_COLOR, OUTLINE_COLOR

SIZE, PATCH, NUM_IMAGES = 32, 8, 6
WHOLE = [
    dict(type='mmmedmask.LoadTile'),
    dict(type='mmmedmask.ResizeImage', scale=SIZE),
    # It need not keep what a masking is drawn from.
    dict(type='mmmedmask.PackTile', meta_keys=('img_path', )),
]
VIT = dict(
    type='mmmedmask.MSMAEViT', img_size=SIZE, patch_size=PATCH, drop_rate=0.2,
    arch=dict(
        embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32))
PREPROCESSOR = dict(
    type='ClsDataPreprocessor', mean=[150.0, 100.0, 80.0], std=[40.0] * 3)


def pretraining_model(**arguments):
    return MODELS.build(dict(
        type='mmmedmask.MSMAE', data_preprocessor=dict(PREPROCESSOR),
        backbone=dict(VIT),
        neck=dict(type='mmmedmask.MSMAEDecoder', embed_dims=16, num_layers=1,
                  num_heads=2),
        head=dict(type='mmmedmask.MSMAEHead', num_classes=4, norm_pix=True),
        **arguments))


def classifier(**arguments):
    return MODELS.build(dict(
        type='mmmedmask.MSMAEClassifier', data_preprocessor=dict(PREPROCESSOR),
        backbone=dict(VIT, out_type='cls_token'),
        head=dict(type='LinearClsHead', num_classes=4, in_channels=16),
        **arguments))


@pytest.fixture(scope='module')
def lesions(tmp_path_factory):
    """Six images, the first and fifth without a lesion."""
    return write_lesion_dataset(tmp_path_factory.mktemp('lesions'), NUM_IMAGES,
                                1, size=48, normal=True)


def dataset(root, pipeline=(), **arguments):
    return LabelledImages(
        str(root), pipeline=list(pipeline), serialize_data=False, **arguments)


def train(root, work_dir, *hooks, mask=True, model=pretraining_model,
          **settings):
    """Train 2 iterations per epoch; return runner, losses and weights."""
    training = [WHOLE[0], dict(type='mmmedmask.RandomResizedCrop', scale=SIZE),
                dict(type='mmmedmask.RandomFlip'),
                dict(type='mmmedmask.PackTile', meta_keys=tiny_runs.META_KEYS)]
    hooks = [dict(type='mmmedmask.TransformEpochHook'), *hooks]
    if mask:
        hooks.append(dict(type='mmmedmask.AttentionMaskHook', begin=1,
                          interval=1, pipeline=WHOLE))
    return tiny_runs.train_watched(
        work_dir, model, dataset(root, training), hooks=hooks, **settings)


def count(picture, color):
    return int((picture == color).all(axis=-1).sum())


def test_training_is_the_same_to_the_bit(lesions, tmp_path):
    drawn = train(
        lesions, tmp_path / 'drawn', AttentionPanelHook(1, num_samples=3))
    tiny_runs.assert_same_training(drawn, train(lesions, tmp_path / 'plain'))
    assert all(module.training for module in drawn[0].model.modules())
    assert sorted(tiny_runs.pictures_in(tmp_path / 'drawn')) == [
        'attention_0', 'attention_2', 'attention_4']


def test_rows_are_whole_images_with_their_lesions(lesions, tmp_path):
    """What the picture's first column has to be, computed from the files."""
    hook = AttentionPanelHook(indices=[4, 2], min_side=SIZE)
    train(lesions, tmp_path / 'one', hook, epochs=1)
    panel = tiny_runs.pictures_in(tmp_path / 'one')['attention_0']
    loaded = dataset(lesions, WHOLE)
    whole = [loaded[i]['inputs'].numpy().transpose(1, 2, 0) for i in (4, 2)]
    found = [place for place in range(panel.shape[0] - SIZE)
             if (panel[place:place + SIZE, 14:14 + SIZE] == whole[0]).all()]
    assert len(found) == 1
    # The other has a lesion, in whose colours a line is drawn around it.
    green = count(panel[found[0] + SIZE:, 14:14 + SIZE], OUTLINE_COLOR)
    assert 8 < green < 40
    assert count(panel, OUTLINE_COLOR) == green
    # 16 tokens at 0.45 are 7 masked ones, in two rows.
    assert count(panel, MASK_COLOR) == 2 * 7 * PATCH**2
    # A resumed run draws the same images.
    hook = AttentionPanelHook(indices=[4, 2], min_side=SIZE)
    train(lesions, tmp_path / 'two', hook, resume=True,
          load_from=str(tmp_path / 'one' / 'epoch_1.pth'))
    resumed = tiny_runs.pictures_in(tmp_path / 'two')
    assert sorted(resumed) == ['attention_2', 'attention_4']
    first_column = slice(found[0], None), slice(14, 14 + SIZE)
    for picture in resumed.values():
        np.testing.assert_array_equal(
            picture[first_column], panel[first_column])


def the_panel(root, by_attention, indices=(1, 2, 3)):
    sources = list_sources(dataset(root))
    return load_panel([sources[i] for i in indices], indices,
                      Compose(WHOLE), by_attention)


def spy_on_columns(monkeypatch):
    """Record what is drawn."""
    calls = []
    original = attention_panel_hook.attention_columns

    def spy(*args):
        calls.append(args)
        return original(*args)

    monkeypatch.setattr(attention_panel_hook, 'attention_columns', spy)
    return calls


@pytest.mark.parametrize('by_attention', [True, False])
def test_masking_follows_the_map_that_is_shown(lesions, monkeypatch,
                                               by_attention):
    model = pretraining_model(seed=0).eval()
    hot = torch.zeros(3, 4, 4)
    hot[0, 1, 2] = hot[1, 3, 3] = hot[2, 0, 1] = 1
    monkeypatch.setattr(model, 'attention_maps', lambda inputs: hot)
    calls = spy_on_columns(monkeypatch)
    units = PictureUnits.from_preprocessor(model.data_preprocessor)
    panel = the_panel(lesions, by_attention)
    first = draw_panel(model, panel, units)
    np.testing.assert_array_equal(first, draw_panel(model, panel, units))
    images, maps, partition, _, masks, reconstruction = calls[0]
    assert maps is hot
    assert (partition.flags()[:, 0] != partition.flags()[:, 1]).any()
    if by_attention:
        chosen = partition.flags().unflatten(1, (4, 4))[hot > 0]
        assert (chosen == 1).all()
        assert partition.thrown.shape[1] == 5
    else:
        # As in training before the first maps, and in that of an MAE.
        assert partition.masked.shape[1] == 12
        assert partition.thrown.shape[1] == 0
    assert all(mask.shape == (SIZE, SIZE) and mask.any() for mask in masks)
    # Only masked patches are predicted.
    changed = (reconstruction != images).any(dim=1)
    cells = changed.unflatten(2, (4, PATCH)).unflatten(1, (4, PATCH))
    cells = cells.any(dim=4).any(dim=2).flatten(1)
    assert (cells == (partition.flags() == 1)).all()


def test_tokens_are_masked_by_chance_if_training_does_so():
    assert follows_attention(pretraining_model(), True)
    assert not follows_attention(pretraining_model(), False)
    assert not follows_attention(classifier(masking='random'), True)
    # A plain vision transformer in fine-tuning.
    assert follows_attention(classifier(mask_ratio=0, throw_ratio=0), False)


@pytest.mark.parametrize('arguments', [
    dict(), dict(masking='random'), dict(mask_ratio=0.0, throw_ratio=0.0)])
def test_classifiers_have_no_reconstruction(lesions, monkeypatch, arguments):
    model = classifier(seed=0, **arguments).eval()
    calls = spy_on_columns(monkeypatch)
    draw_panel(model, the_panel(lesions, follows_attention(model, True)),
               PictureUnits.from_preprocessor(model.data_preprocessor))
    assert calls[0][-1] is None
    masked = calls[0][2].masked.shape[1]
    assert masked == (0 if 'mask_ratio' in arguments else 7)


def test_titles_and_lesions_of_images(lesions):
    panel = the_panel(lesions, True, (0, 1))
    assert panel.titles == ['train_0000.png: normal', 'train_0001.png: bright']
    assert panel.lesions[0] is None
    assert panel.lesions[1].dtype == bool
    mask = read_lesion(str(lesions / 'masks' / 'train_0001.png'), (96, 96))
    assert abs(mask.sum() / (4 * mask[::2, ::2].sum()) - 1) < 0.1


def test_broken_files(lesions, tmp_path):
    root = tmp_path / 'lesions'
    write_lesion_dataset(root, 3, 1, size=48)
    write_image(root / 'images' / 'train_0001.png', np.zeros((8, 8), np.uint8))
    for on_error in ('raise', 'skip'):
        sources = list_sources(dataset(root, on_error=on_error))
        if on_error == 'raise':
            with pytest.raises(ImageFileError, match='train_0001'):
                load_panel(sources, range(3), Compose(WHOLE), True)
            continue
        panel = load_panel(sources, range(3), Compose(WHOLE), True)
        assert [title[:10] for title in panel.titles] == ['train_0000',
                                                          'train_0002']
        with pytest.raises(ValueError, match='none of 1 images'):
            load_panel(sources[1:2], [1], Compose(WHOLE), True)


def test_positions():
    assert choose_positions(10, 3) == [0, 4, 9]
    assert choose_positions(2, 6) == [0, 1]
    assert choose_positions(10, 3, [7, 0]) == [7, 0]
    for indices in ([], [3, 10], [-1]):
        with pytest.raises(ValueError, match='0 to 9, got'):
            choose_positions(10, 3, indices)


def test_models_without_attention(tmp_path):
    runner = tiny_runs.tiny_runner(
        tmp_path, tiny_runs.TinyModel(), [AttentionPanelHook()])
    with pytest.raises(ValueError, match='TinyModel has no method '
                       'attention_maps and partition'):
        runner.train()


@pytest.mark.parametrize(('arguments', 'mask', 'message'), [
    (dict(), False, 'pipeline for whole images'),
    (dict(channels=[7]), True, 'three channels of 0 to 2'),
    (dict(indices=[6]), True, 'one of 0 to 5, got')])
def test_what_stops_before_training(lesions, tmp_path, arguments, mask,
                                    message):
    with pytest.raises(ValueError, match=message):
        train(lesions, tmp_path, AttentionPanelHook(**arguments), mask=mask)
