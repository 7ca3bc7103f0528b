"""The hook that measures attention on lesions while a model trains."""

import csv
import json
import math
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
from mmengine.model import BaseModel
from mmpretrain.models import ClsDataPreprocessor
from PIL import Image
from tiny_runs import (
    META_KEYS,
    WHOLE_PIPELINE,
    image_runner,
    mask_hook,
    msmae_model,
)
from torch import nn

from mmmedmask.datasets import LabelledImages
from mmmedmask.datasets.image_io import ImageFileError, read_image
from mmmedmask.engine.attention import coverage_hook as hook_module
from mmmedmask.engine.attention.coverage_hook import (
    COLUMNS,
    draw_coverage,
)
from mmmedmask.engine.hooks import (
    AttentionMaskHook,
    LesionCoverageHook,
    SeededDrawsHook,
    TransformEpochHook,
)
from mmmedmask.functional.attention_masking import (
    map_to_patches,
    partition_tokens,
)
from mmmedmask.functional.randomness import sample_generator, stream_seed
from mmmedmask.models.msmae import MSMAEClassifier
from mmmedmask.util.atomic_files import write_csv

SIZE, GRID = 32, 8
CELL = SIZE // GRID
# The lesion of each image as (row, column) of its first cell, two cells
# wide; image 4 has an empty mask, the rest no mask.
LESIONS = [(0, 0), (1, 3), (5, 5), (3, 6), None]
NUM_IMAGES = 8
WHOLE = [dict(type='mmmedmask.LoadTile'),
         dict(type='mmmedmask.ResizeImage', scale=SIZE),
         dict(type='mmmedmask.PackTile', meta_keys=META_KEYS)]


class BrightnessModel(BaseModel):
    """Attends to bright cells, and more so with every iteration."""

    def __init__(self):
        super().__init__(data_preprocessor=ClsDataPreprocessor(
            mean=[0.0] * 3, std=[255.0] * 3))
        self.power = nn.Parameter(torch.ones(()))
        self.noise = nn.Dropout()
        self.mask_ratio, self.throw_ratio = 0.25, 0.5

    def attention_maps(self, inputs):
        assert not self.training
        pooled = nn.functional.avg_pool2d(inputs.mean(dim=1), CELL)
        return pooled**self.power

    def forward(self, inputs, data_samples=None, mode='tensor'):
        assert self.training
        return dict(loss=-self.power * (
            1 + 0.1 * self.noise(inputs.mean(dim=(1, 2, 3)))).mean())


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Dark noise with one bright spot per image, and the spots' masks."""
    root = tmp_path_factory.mktemp('lesions')
    for name in ('images', 'masks', 'splits/paper'):
        (root / name).mkdir(parents=True)
    (root / 'classes.txt').write_text('a\nb\n')
    random = np.random.default_rng(0)
    rows = []
    for number in range(NUM_IMAGES):
        image = random.integers(40, 80, (SIZE, SIZE, 3))
        mask = np.zeros((SIZE, SIZE), np.uint8)
        mask_path = ''
        if number < len(LESIONS):
            mask_path = f'masks/{number}.png'
            if LESIONS[number] is not None:
                row, column = (CELL * place for place in LESIONS[number])
                mask[row:row + 2 * CELL, column:column + 2 * CELL] = 255
            cv2.imwrite(str(root / mask_path), mask)
        image[mask > 0] += 100
        cv2.imwrite(str(root / f'images/{number}.png'), image)
        rows.append(f'images/{number}.png,{"ab"[number % 2]},g{number},'
                    f'{mask_path}\n')
    header = 'path,label,group,mask\n'
    split = root / 'splits/paper'
    (split / 'train.csv').write_text(header + ''.join(rows))
    (split / 'two.csv').write_text(header + ''.join(rows[1:3]))
    (split / 'bare.csv').write_text(header + ''.join(rows[5:]))
    return root


@pytest.fixture(autouse=True)
def quick_pictures(monkeypatch):
    """Most of a short run's time would go into pictures."""
    monkeypatch.setattr(hook_module, 'draw_coverage', lambda rows: np.zeros(
        (1, len(rows), 3), np.uint8))


def images_of(folder, split='train', pipeline=WHOLE):
    return LabelledImages(str(folder), split=split, pipeline=pipeline)


def train(folder, work_dir, *hooks, max_epochs=4, model=None, split='train',
          attention=True, pipeline=WHOLE, num_workers=0, checkpoint=None,
          **kwargs):
    """Train two iterations per epoch; refreshes before epochs 1 and 3."""
    if attention:
        hooks = (TransformEpochHook(),
                 AttentionMaskHook(begin=1, interval=2, pipeline=pipeline,
                                   num_workers=num_workers), *hooks)
    runner = image_runner(
        work_dir, model or BrightnessModel(),
        images_of(folder, split, pipeline), hooks, epochs=max_epochs,
        batch_size=4, optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1),
                           checkpoint=checkpoint or dict(
                               type='CheckpointHook', interval=1)),
        **kwargs)
    runner.train()
    return runner


def rows_in(work_dir):
    return pd.read_csv(work_dir / 'lesion_coverage.csv',
                       keep_default_na=False).to_dict('records')


def cells_in(work_dir):
    with (work_dir / 'lesion_coverage.csv').open(newline='') as file:
        return list(csv.DictReader(file))


def naive_attention(folder, number, power):
    """Mass on the lesion, gain, and whether the maximum hits it."""
    image = cv2.imread(str(folder / f'images/{number}.png')) / 255.0
    cells = image.reshape(GRID, CELL, GRID, -1).mean(axis=(1, 3))**power
    lesion = np.zeros_like(cells)
    top, left = LESIONS[number]
    lesion[top:top + 2, left:left + 2] = 1
    share = (cells * lesion).sum() / cells.sum()
    return share, share / (4 / GRID**2), bool(lesion.flat[cells.argmax()])


def test_values_and_when_they_are_measured(folder, tmp_path):
    model = BrightnessModel()
    hook = LesionCoverageHook(num_draws=50)
    runner = train(folder, tmp_path, hook, model=model)
    rows = rows_in(tmp_path)
    assert [(row['epoch'], row['iteration'], row['moment']) for row in rows
            ] == [(1, 2, 'refresh'), (3, 6, 'refresh'), (4, 8, 'end')]
    last = rows[-1]
    expected = [naive_attention(folder, number, model.power.item())
                for number in range(4)]
    for column, name in enumerate(('attention_share', 'attention_gain')):
        assert last[name] == pytest.approx(
            np.mean([one[column] for one in expected]), rel=1e-4)
    assert last['pointing'] == np.mean([hit for *_, hit in expected]) == 1
    assert last['lesion_share'] == pytest.approx(4 / 64)
    assert last['pointing_chance'] == pytest.approx(4 / 64)
    for row in rows:
        assert (row['num_images'], row['num_without_lesion']) == (4, 1)
        assert row['masked_chance'] == 16 / 64
        assert row['thrown_chance'] == 32 / 64
        assert row['visible_chance'] == 16 / 64
        assert row['masked'] > 1.5 * 16 / 64
        assert row['masked_gain'] == pytest.approx(
            row['masked'] / 0.25, rel=1e-5)
        assert row['masked'] + row['thrown'] + row['visible'] == \
            pytest.approx(1, abs=1e-5)
    # The model learns to attend to what is bright.
    gains = [row['attention_gain'] for row in rows]
    assert 1 < gains[0] < gains[1] < gains[2]
    # The maps of the refresh are those that the store has.
    store = mask_hook(runner).store
    shares = []
    for number, (top, left) in enumerate(LESIONS[:4]):
        one = store.lookup(f'{folder}/images/{number}.png').double()
        shares.append(one[top:top + 2, left:left + 2].sum() / one.sum())
    assert gains[1] == pytest.approx(np.mean(shares) * GRID**2 / 4, rel=1e-5)
    (log, ) = tmp_path.glob('*/vis_data/scalars.json')
    logged = [json.loads(line) for line in log.read_text().splitlines()]
    logged = [line for line in logged if 'lesion_coverage/pointing' in line]
    assert [line['step'] for line in logged] == [2, 6, 8]
    assert logged[1]['lesion_coverage/masked'] == pytest.approx(
        rows[1]['masked'], rel=1e-5)
    picture = cv2.imread(str(tmp_path / 'lesion_coverage.png'))
    assert picture.shape[1] == 3
    picture = draw_coverage(cells_in(tmp_path))
    assert picture.shape[1] > 4 * 400


def test_maskings_are_drawn_as_the_model_draws_them(folder, tmp_path):
    """From the store's maps, whole, with ratios and seed of the run."""
    hook = LesionCoverageHook(num_draws=5)
    runner = train(folder, tmp_path, hook, max_epochs=2)
    store = mask_hook(runner).store
    counted = []
    for number, (top, left) in enumerate(LESIONS[:4]):
        one = store.lookup(f'{folder}/images/{number}.png').float()
        weights = map_to_patches(
            one[None], torch.tensor([[0., 0, 1, 1]]),
            torch.tensor([[False, False]]), (GRID, GRID)).repeat(5, 1)
        noise = torch.empty(5, GRID**2).exponential_(
            generator=sample_generator(
                stream_seed(3, 'lesion_coverage'), 1, number))
        ids = partition_tokens(weights, noise, 0.25, 0.5).masked
        lesion = {(top + i) * GRID + left + j
                  for i in range(2) for j in range(2)}
        counted.append(
            sum(patch in lesion for patch in ids.flatten().tolist()) / 20)
    assert rows_in(tmp_path)[0]['masked'] == pytest.approx(
        np.mean(counted), abs=1e-6)


def test_uniform_maps_mask_at_random(folder, tmp_path):
    """As with the code released for the paper: chance, within 4 sigma."""
    model = BrightnessModel()
    model.attention_maps = lambda inputs: torch.ones(len(inputs), GRID, GRID)
    train(folder, tmp_path, LesionCoverageHook(num_draws=400), max_epochs=2,
          model=model)
    for row in rows_in(tmp_path):
        assert row['attention_gain'] == pytest.approx(1, abs=1e-6)
        assert row['pointing'] == row['pointing_chance']
        sigma = math.sqrt(0.25 * 0.75 / 4 * 60 / 63 / (4 * 400))
        assert abs(row['masked'] - 0.25) < 4 * sigma


def test_training_is_the_same_to_the_bit(folder, tmp_path):
    plain, measured = BrightnessModel(), BrightnessModel()
    train(folder, tmp_path / 'plain', model=plain)
    state = torch.get_rng_state()
    train(folder, tmp_path / 'measured', LesionCoverageHook(), model=measured)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(plain.power, measured.power)


def test_resumed_runs_have_the_same_table(folder, tmp_path, monkeypatch):
    """Rows after the checkpoint are replaced, others stay."""
    # Resuming does not bring back the generator behind the dropout.
    monkeypatch.setattr(nn.functional, 'dropout', lambda inputs, *args: inputs)
    train(folder, tmp_path / 'whole', LesionCoverageHook())
    train(folder, tmp_path / 'cut', LesionCoverageHook(), max_epochs=2)
    first = rows_in(tmp_path / 'cut')
    assert [row['moment'] for row in first] == ['refresh', 'end']
    # As if it had been killed in the next epoch but one.
    row, _ = cells_in(tmp_path / 'cut')
    write_csv(tmp_path / 'cut/lesion_coverage.csv', COLUMNS, [
        row.values(), (row | dict(epoch=3, iteration=6)).values()])
    go_on = dict(resume=True,
                 load_from=str(tmp_path / 'cut' / 'epoch_2.pth'))
    train(folder, tmp_path / 'cut', LesionCoverageHook(), **go_on)
    whole = rows_in(tmp_path / 'whole')
    assert rows_in(tmp_path / 'cut') == whole
    assert not (tmp_path / 'cut' / 'superseded').exists()
    # What is measured in another way, and a fresh start, begin anew.
    train(folder, tmp_path / 'cut', LesionCoverageHook(num_draws=2), **go_on)
    assert [row['epoch'] for row in rows_in(tmp_path / 'cut')] == [3, 4]
    train(folder, tmp_path / 'cut', LesionCoverageHook(), max_epochs=1)
    assert [row['epoch'] for row in rows_in(tmp_path / 'cut')] == [1]
    kept = [tmp_path / 'cut' / 'superseded' / number for number in '12']
    assert rows_in(kept[0]) == whole
    assert len(rows_in(kept[1])) == 2
    assert all((place / 'lesion_coverage.png').is_file() for place in kept)


def test_starts_of_a_run_that_is_over_keep_its_table(folder, tmp_path):
    """Its only row is of after the last state."""
    for settings in ({}, *[dict(resume=True, load_from=str(
            tmp_path / 'epoch_1.pth'))] * 2):
        train(folder, tmp_path, LesionCoverageHook(WHOLE), max_epochs=1,
              attention=False, **settings)
        assert [row['moment'] for row in rows_in(tmp_path)] == ['end']
    assert not (tmp_path / 'superseded').exists()


def test_maps_stay_in_the_middle_of_an_epoch(folder, tmp_path):
    """Nor are they measured again."""
    ends = []
    for settings in ({}, dict(resume=True,
                              load_from=str(tmp_path / 'iter_3.pth'))):
        runner = train(
            folder, tmp_path, LesionCoverageHook(), SeededDrawsHook(),
            max_epochs=2, checkpoint=dict(
                type='mmmedmask.SafeCheckpointHook', by_epoch=False,
                interval=1), **settings)
        ends.append((rows_in(tmp_path), mask_hook(runner).store.values))
    (rows, maps), (resumed_rows, resumed_maps) = ends
    assert [row['moment'] for row in rows] == ['refresh', 'end']
    assert resumed_rows == rows
    assert torch.equal(resumed_maps, maps)


def test_other_data_set(folder, tmp_path):
    """Its maps come from the model, at refreshes too."""
    config = dict(
        type='mmmedmask.LabelledImages', data_root=str(folder), split='two')
    for workers in (0, 1):
        train(folder, tmp_path / str(workers), LesionCoverageHook(
            dataset=config, batch_size=1), split='bare', max_epochs=2,
              num_workers=workers)
    rows = rows_in(tmp_path / '0')
    assert [row['num_images'] for row in rows] == [2, 2]
    assert rows[0]['lesion_share'] == pytest.approx(4 / 64)
    assert rows[0]['attention_gain'] > 1.2
    assert rows_in(tmp_path / '1') == rows


def test_the_end_is_that_of_the_averaged_weights(folder, tmp_path):
    """As checkpoints have it; refreshes are of the weights that mask."""
    config = dict(
        type='mmmedmask.LabelledImages', data_root=str(folder), split='train')
    average = dict(type='EMAHook', momentum=.1)
    for name, hooks in (('raw', ()), ('averaged', (average, ))):
        runner = train(folder, tmp_path / name, LesionCoverageHook(
            dataset=config), *hooks)
    raw, averaged = (rows_in(tmp_path / name) for name in ('raw', 'averaged'))
    assert raw[:-1] == averaged[:-1]
    assert len(raw) == 3
    state = torch.load(tmp_path / 'averaged/epoch_4.pth', weights_only=False)
    for row, power in ((raw[-1], runner.model.power.item()),
                       (averaged[-1], state['state_dict']['power'].item())):
        want = [naive_attention(folder, number, power)[1]
                for number in range(4)]
        assert row['attention_gain'] == pytest.approx(np.mean(want), rel=1e-3)
    assert raw[-1]['attention_gain'] > averaged[-1]['attention_gain']


def test_some_of_the_images(folder, tmp_path):
    hook = LesionCoverageHook(num_images=3)
    train(folder, tmp_path, hook, max_epochs=1)
    assert [source.info['img_path'][-5] for source in hook._sources] == [
        '0', '2', '4']


def test_maps_alone(folder, tmp_path):
    """Without AttentionMaskHook, or with random masking."""
    train(folder, tmp_path / 'a', LesionCoverageHook(pipeline=WHOLE),
          max_epochs=1, attention=False)
    (row, ) = rows_in(tmp_path / 'a')
    assert row['moment'] == 'end'
    picture = draw_coverage(cells_in(tmp_path / 'a'))
    assert 2 * 400 < picture.shape[1] < 3 * 600
    model = BrightnessModel()
    model.masking = 'random'
    train(folder, tmp_path / 'b', LesionCoverageHook(), max_epochs=2,
          model=model)
    for measured in [row, *rows_in(tmp_path / 'b')]:
        assert measured['masked'] == measured['masked_chance'] == ''
        assert measured['attention_gain'] > 1


def test_inverse_attention_leaves_lesions_visible(folder, tmp_path):
    model = BrightnessModel()
    model.masking = 'inverse_attention'
    train(folder, tmp_path, LesionCoverageHook(num_draws=50), max_epochs=2,
          model=model)
    for row in rows_in(tmp_path):
        assert row['visible'] > 1.5 * row['visible_chance']
        assert row['masked'] < .75 * row['masked_chance']


def test_start_is_measured_once(folder, tmp_path):
    """The weights that training starts with, and not those of a resume."""
    train(folder, tmp_path, LesionCoverageHook(at_start=True), max_epochs=2)
    start, refresh, end = rows_in(tmp_path)
    assert [start['epoch'], start['iteration'], start['moment']] == [
        0, 0, 'start']
    want = [naive_attention(folder, number, 1.0)[1] for number in range(4)]
    assert start['attention_gain'] == pytest.approx(np.mean(want), rel=1e-4)
    train(folder, tmp_path, LesionCoverageHook(at_start=True), max_epochs=3,
          resume=True)
    # The end of what has become a longer run was none.
    *rows, last = rows_in(tmp_path)
    assert rows == [start, refresh]
    assert (end['epoch'], last['epoch'], last['moment']) == (2, 3, 'end')


class SpotClassifier(MSMAEClassifier):
    """Reads off each patch how bright it is; class b is a bright spot."""

    def init_weights(self):
        super().init_weights()
        vit = self.backbone
        for layer in vit.layers:
            for parameter in layer.parameters():
                parameter.data.zero_()
        with torch.no_grad():
            vit.pos_embed.zero_()
            weight = vit.patch_embed.projection.weight
            weight.zero_()
            vit.patch_embed.projection.bias.zero_()
            weight[0] = 1 / weight[0].numel()
            self.head.fc.weight.zero_()
            self.head.fc.weight[:, 0] = torch.tensor([-1.0, 1.0])


def test_class_activation_lies_on_what_tells_the_class(folder, tmp_path):
    """Known truth: brightness speaks for class b and against class a.

    Patches are above or below the mean of their channels by how bright they
    are, so the map of an image of class b is its brightness, and that of
    class a is empty, which counts as uniform.
    """
    torch.manual_seed(0)
    model = SpotClassifier(
        dict(type='mmmedmask.MSMAEViT', img_size=SIZE, patch_size=CELL,
             arch=dict(embed_dims=8, num_layers=1, num_heads=2,
                       feedforward_channels=8), out_type='avg_featmap',
             final_norm=False), mask_ratio=0.0, throw_ratio=0.0,
        head=dict(type='LinearClsHead', num_classes=2, in_channels=8),
        data_preprocessor=dict(type='ClsDataPreprocessor', mean=[0.0] * 3,
                               std=[255.0] * 3, num_classes=2))
    model.init_weights()
    hook = LesionCoverageHook(
        pipeline=WHOLE, maps='class_activation', at_start=True)
    train(folder, tmp_path, hook, max_epochs=1, model=model, attention=False)
    start, _ = rows_in(tmp_path)
    want = [naive_attention(folder, number, 1.0)[1] if number % 2 else 1.0
            for number in range(4)]
    assert start['attention_gain'] == pytest.approx(np.mean(want), rel=1e-4)
    # All cells share the maximum of an empty map.
    assert start['pointing'] == pytest.approx((2 + 2 * 4 / 64) / 4)
    assert start['masked'] == ''
    with pytest.raises(ValueError, match='no method class_activation_maps'):
        train(folder, tmp_path / 'bare', LesionCoverageHook(
            pipeline=WHOLE, maps='class_activation'), attention=False)


def test_with_msmae(folder, tmp_path):
    """The real model, whose tokens make a grid of 4 x 6."""
    train(folder, tmp_path, LesionCoverageHook(), max_epochs=2,
          model=msmae_model(), pipeline=WHOLE_PIPELINE)
    rows = rows_in(tmp_path)
    assert [row['moment'] for row in rows] == ['refresh', 'end']
    for row in rows:
        assert row['masked_chance'] == pytest.approx(10 / 24, rel=1e-5)
        assert row['thrown_chance'] == pytest.approx(8 / 24, rel=1e-5)
        assert all(math.isfinite(row[name]) for name in COLUMNS
                   if name != 'moment')


def test_other_processes_measure_nothing(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(hook_module, 'is_main_process', lambda: False)
    train(folder, tmp_path, LesionCoverageHook(), max_epochs=2)
    assert not (tmp_path / 'lesion_coverage.csv').exists()


def test_nothing_to_measure(folder, tmp_path):
    # Without masks it rests.
    train(folder, tmp_path, LesionCoverageHook(), split='bare')
    assert not (tmp_path / 'lesion_coverage.csv').exists()
    with pytest.raises(ValueError, match='no AttentionMaskHook to take'):
        train(folder, tmp_path, LesionCoverageHook(), attention=False)
    with pytest.raises(ValueError, match='nor turn them.* CenterCrop;'):
        train(folder, tmp_path, LesionCoverageHook(pipeline=[
            *WHOLE[:2], dict(type='CenterCrop', crop_size=SIZE // 2),
            WHOLE[2]]))

    class Blind(BrightnessModel):
        attention_maps = property()

    with pytest.raises(ValueError, match='Blind has no method'):
        train(folder, tmp_path, LesionCoverageHook(pipeline=WHOLE),
              model=Blind(), attention=False)
    hook = LesionCoverageHook()
    hook.priority = 'VERY_HIGH'
    with pytest.raises(ValueError, match='must come after'):
        train(folder, tmp_path, hook)


def test_images_that_cannot_be_read_end_no_run():
    """Not after hours: what is left has no lesion, and that is said."""
    warnings = []
    runner = SimpleNamespace(model=torch.nn.Identity(), seed=0, epoch=3,
                             logger=SimpleNamespace(warning=warnings.append))
    hook = LesionCoverageHook()
    hook._sources = [None]
    hook._measure(runner, [None], 'end')
    assert '1 of 1 images could not be read' in warnings[0]
    assert 'nothing is measured' in warnings[1]


@pytest.mark.parametrize(('pixels', 'error', 'message'), [
    (np.full((SIZE, SIZE), 7, np.uint8), ImageFileError, r'0.png.* 0 and 255'),
    (np.full((SIZE, 20), 255, np.uint8), ValueError,
     r'masks/0.png has \(32, 20\) pixels.*0.png has \(32, 32\)')])
def test_wrong_masks_stop_before_training(folder, tmp_path, pixels, error,
                                          message):
    root = tmp_path / 'data'
    (root / 'masks').mkdir(parents=True)
    (root / 'splits/paper').mkdir(parents=True)
    (root / 'images').symlink_to(folder / 'images')
    (root / 'classes.txt').write_text('a\nb\n')
    cv2.imwrite(str(root / 'masks/0.png'), pixels)
    (root / 'splits/paper/train.csv').write_text(
        'path,label,group,mask\nimages/0.png,a,g,masks/0.png\n')
    model = BrightnessModel()
    with pytest.raises(error, match=message):
        train(root, tmp_path / 'run', LesionCoverageHook(), model=model)
    assert model.power.item() == 1


@pytest.mark.parametrize('orientation', [1, 3, 5, 6])
def test_size_of_an_image_is_that_of_the_upright_one(tmp_path, orientation):
    pixels = np.zeros((8, 12, 3), np.uint8)
    exif = Image.Exif()
    exif[274] = orientation
    for name in ('a.png', 'a.jpg', 'a.webp', 'a.tif'):
        path = tmp_path / name
        if name == 'a.tif':
            tifffile.imwrite(path, pixels, photometric='rgb', extratags=[
                (274, 'H', 1, orientation, True)])
        else:
            Image.fromarray(pixels).save(path, exif=exif)
        assert hook_module.image_size(path) == read_image(path).shape[:2]
