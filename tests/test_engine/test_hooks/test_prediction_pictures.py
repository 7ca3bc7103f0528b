"""Predictions are drawn on what the loaders read, whatever its format."""

from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import torch
from mmengine.structures import BaseDataElement, PixelData
from PIL import Image
from processes import run_ranks

from mmmedmask.datasets.image_io import read_image, write_image
from mmmedmask.engine.hooks import PredictionPicturesHook, prediction_pictures
from mmmedmask.visualization.pictures import picture_of

IMAGE = np.random.default_rng(0).integers(0, 255, (30, 50, 3), np.uint8)


class Notes:
    """A visualizer that notes what it gets."""

    def __init__(self):
        self.calls = []

    def add_datasample(self, **options):
        self.calls.append(options)


def runner_with(tmp_path, visualizer):
    return SimpleNamespace(work_dir=str(tmp_path), timestamp='now', iter=10,
                           visualizer=visualizer)


def save_tiff(path, compression=None, turned=1):
    tifffile.imwrite(path, IMAGE, photometric='rgb', compression=compression,
                     extratags=[(274, 3, 1, turned, True)])


def save_volume(path):
    nibabel = pytest.importorskip('nibabel')
    nibabel.save(nibabel.Nifti1Image(
        IMAGE.astype(np.int16), np.eye(4)), path)


@pytest.mark.parametrize(('name', 'part', 'save', 'drawn'), [
    ('a.tif', '', lambda path: save_tiff(path, 'jpeg2000'), 'a.tif'),
    ('a.tif', '', lambda path: save_tiff(path, 'zstd'), 'a.tif'),
    ('a.tif', '', lambda path: save_tiff(path, turned=6), 'a.tif'),
    ('a.nii.gz', '#axial=1', save_volume, 'a.nii.gz#axial=1.png')])
def test_a_picture_is_the_image_that_was_read(name, part, save, drawn,
                                              tmp_path):
    """OpenCV shows the first as black, and knows neither zstd nor NIfTI."""
    pytest.importorskip('mmdet')
    from mmdet.structures import DetDataSample
    from mmdet.visualization import DetLocalVisualizer
    file = tmp_path / name
    save(file)
    image = read_image(f'{file}{part}')
    hook = PredictionPicturesHook(draw=True, test_out_dir='pictures')
    hook.after_test_iter(
        runner_with(tmp_path, DetLocalVisualizer(f'pictures_{drawn}')), 0, {},
        [DetDataSample(metainfo=dict(img_path=f'{file}{part}'))])
    result = np.asarray(Image.open(tmp_path / 'now/pictures' / drawn))
    # Truth and prediction, of which there is none.
    np.testing.assert_array_equal(result, np.hstack([picture_of(image)] * 2))


def test_segmentation_is_drawn_into_the_folder(tmp_path):
    from mmmedmask.visualization import SegmentationVisualizer
    samples = []
    for folder in ('a', 'b'):
        path = tmp_path / folder / '1.png'
        write_image(path, IMAGE)
        samples.append(BaseDataElement(
            metainfo=dict(img_path=str(path)), pred_sem_seg=PixelData(
                data=torch.ones(1, 30, 50, dtype=torch.int64))))
    hook = PredictionPicturesHook(draw=True, test_out_dir=str(tmp_path / 'c'))
    hook.after_test_iter(runner_with(
        tmp_path, SegmentationVisualizer('two pictures')), 0, {}, samples)
    # None replaces another of its name.
    assert {path.name for path in (tmp_path / 'c').iterdir()} == {
        '1.png', '2_1.png'}


def test_classes_are_drawn_on_images_of_any_depth_and_name(tmp_path):
    from mmpretrain.structures import DataSample
    from mmpretrain.visualization import UniversalVisualizer
    gray = np.tile(np.linspace(100, 60000, 64).astype(np.uint16), (48, 1))
    samples = []
    for folder in ('a', 'b', None):
        path = tmp_path / str(folder) / '1.png'
        write_image(path, gray)
        samples.append(DataSample(
            metainfo=dict(img_path=str(path)) if folder else {}
        ).set_pred_label(0))
    visualizer = UniversalVisualizer('classes')
    hook = PredictionPicturesHook(draw=True, test_out_dir=str(tmp_path / 'c'),
                                  options=dict(draw_pred=False))
    # The third has no file: what the network was shown is drawn.
    shown = torch.from_numpy(gray.astype(np.float32)).expand(3, 1, -1, -1)
    hook.after_test_iter(runner_with(tmp_path, visualizer), 0,
                         dict(inputs=shown), samples)
    pictures = {path.name: np.asarray(Image.open(path))
                for path in (tmp_path / 'c').iterdir()}
    assert set(pictures) == {'1.png', '2_1.png', '3.png'}
    for picture in pictures.values():
        np.testing.assert_array_equal(
            picture, picture_of(gray[..., np.newaxis]))


def test_processes_draw_their_images_under_names_of_their_own(tmp_path):
    """Each as one process does, with the classes."""
    from mmmedmask.visualization import SegmentationVisualizer

    def draw(rank, out='together'):
        path = tmp_path / str(rank) / '1.png'
        write_image(path, IMAGE)
        visualizer = SegmentationVisualizer(f'{out} {rank}')
        visualizer.dataset_meta = dict(classes=('background', 'lesion'))
        PredictionPicturesHook(
            draw=True, test_out_dir=str(tmp_path / out)).after_test_iter(
                runner_with(tmp_path, visualizer), 0, {}, [BaseDataElement(
                    metainfo=dict(img_path=str(path)), pred_sem_seg=PixelData(
                        data=torch.full((1, 30, 50), rank)))])

    run_ranks(draw, tmp_path)
    for rank in range(2):
        draw(rank, f'alone{rank}')
        assert (tmp_path / f'together/rank{rank}_1.png').read_bytes() == (
            tmp_path / f'alone{rank}/1.png').read_bytes()
    assert len(list((tmp_path / 'together').iterdir())) == 2


def test_what_other_processes_do_not_draw_is_told(tmp_path, monkeypatch):
    from mmengine.visualization import Visualizer

    from mmmedmask.visualization import SegmentationVisualizer
    monkeypatch.setattr(prediction_pictures, 'get_world_size', lambda: 8)
    said = []
    for kind in (Visualizer, SegmentationVisualizer):
        runner = runner_with(tmp_path, kind(f'told by {kind.__name__}'))
        runner.logger = SimpleNamespace(warning=said.append)
        PredictionPicturesHook(draw=True).before_test(runner)
    line, = said
    assert 'Visualizer draws in the main process alone: of 8 processes' in line


def test_when_and_how_it_draws(tmp_path):
    write_image(tmp_path / 'a.png', IMAGE)
    outputs = [BaseDataElement(metainfo=dict(
        img_path=str(tmp_path / 'a.png')))] * 2
    for draw in (False, True):
        notes = Notes()
        runner = runner_with(tmp_path, notes)
        hook = PredictionPicturesHook(draw, interval=4, score_thr=.7)
        for batch in range(4):
            hook.after_val_iter(runner, batch, {}, outputs)
        hook.after_test_iter(runner, 0, {}, outputs)
        assert [(options['name'], options['step']) for options in
                notes.calls] == draw * [
                    ('val_img', 12), ('test_img', 1), ('test_img', 2)]
        for options in notes.calls:
            np.testing.assert_array_equal(options['image'], IMAGE)
            assert options['pred_score_thr'] == .7
            assert options['out_file'] is None
