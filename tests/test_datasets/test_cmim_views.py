"""The views that loader workers make, against those made on the device."""

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from skimage import data
from torch import nn

from mmmedmask.datasets import TileFolder
from mmmedmask.datasets.transforms import CMIMTwoViews, PackTile
from mmmedmask.functional.randomness import per_sample_uniform
from mmmedmask.functional.views import VIEW_DRAWS
from mmmedmask.models.cmim import CMIMDataPreprocessor


def tissue(size: int, index: int) -> np.ndarray:
    """A piece of a real section, uint8 (size, size, 3)."""
    picture = data.immunohistochemistry()
    top, left = 31 * index, 43 * index
    return np.ascontiguousarray(picture[top:top + size, left:left + size])


@pytest.mark.parametrize('size', [96, 224], ids=['enlarge', 'shrink'])
@pytest.mark.parametrize('color', [None, {}, dict(stain_prob=1)],
                         ids=['plain', 'color', 'stains'])
@pytest.mark.parametrize('implementation', ['torchvision', 'kornia'])
def test_loader_and_device_agree(size, color, implementation):
    """The same numbers give the same matrices and, up to rounding, pixels."""
    transform = CMIMTwoViews(view_size=96, color=color)
    preprocessor = CMIMDataPreprocessor(
        view_size=96, color=color, color_impl=implementation)
    for index in range(4):
        tile = tissue(size, index)
        uniform = per_sample_uniform(3, 1, [index], VIEW_DRAWS)
        loaded = transform.make_views(dict(img=tile), uniform)
        query, key, theta_query, theta_key = preprocessor.draw_views(
            [torch.from_numpy(tile).permute(2, 0, 1)], uniform)
        assert np.array_equal(loaded['theta_query'], theta_query[0].numpy())
        assert np.array_equal(loaded['theta_key'], theta_key[0].numpy())
        views = torch.from_numpy(loaded['img']).permute(0, 3, 1, 2).float()
        assert (key[0] - views[1]).abs().max() <= 1.01
        # Every colour step of the 8-bit path rounds; gray amplifies hue.
        difference = (query[0] - views[0]).abs()
        assert difference.mean() < (0.5 if color is None else 2.5)
        assert difference.max() <= (1.01 if color is None else 16)
        # And the views are not trivially alike.
        assert (query[0] - key[0]).abs().mean() > 5


def test_shared_view():
    """With same_view both views show the same place."""
    transform = CMIMTwoViews(view_size=64, same_view=True)
    results = transform(dict(img=tissue(96, 0), sample_idx=0))
    assert np.array_equal(results['theta_query'], results['theta_key'])
    assert np.array_equal(results['img'][0], results['img'][1])


@pytest.mark.parametrize(('pixels', 'found'), [
    (np.zeros((8, 8, 3), np.uint16), 'uint16'),
    (np.zeros((8, 8, 5), np.uint8), '5 channels')])
def test_unsuitable_tiles(pixels, found):
    """Tiles that Pillow cannot colour are refused with their file's name."""
    transform = CMIMTwoViews(view_size=8)
    with pytest.raises(ValueError, match=found) as error:
        transform(dict(img=pixels, sample_idx=0, img_path='a/b.tif'))
    assert 'a/b.tif' in str(error.value)


@pytest.mark.parametrize('views', [
    dict(max_angle=10), dict(max_shear=5), dict(vertical_flip_prob=0.5)])
def test_only_crops_and_flips(views):
    """Other families are sent to the device path."""
    with pytest.raises(ValueError, match='on the device'):
        CMIMTwoViews(views=views)


class Recorder(nn.Module):
    """Stands for a model: keeps the matrices it is given."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen = []

    def train_step(self, batch, optim_wrapper):
        """Note every sample's query matrix."""
        self.seen += [(sample.sample_idx, sample.theta_query.tobytes())
                      for sample in batch['data_samples']]
        return dict(loss=self.weight.detach())


def run_epochs(tmp_path, num_workers: int, name: str, seed: int = 1) -> list:
    """Train two epochs and return what the model saw in each."""
    model = Recorder()
    pipeline = [dict(type='mmmedmask.LoadTile', in_channels=3),
                dict(type='mmmedmask.CMIMTwoViews', view_size=16),
                dict(type='mmmedmask.PackTile',
                     meta_keys=('sample_idx', 'theta_query', 'theta_key'))]
    runner = Runner(
        model,
        str(tmp_path / name),
        train_dataloader=dict(
            batch_size=2, num_workers=num_workers,
            persistent_workers=num_workers > 0,
            sampler=dict(type='DefaultSampler', shuffle=True),
            dataset=TileFolder(str(tmp_path / 'tiles'), pipeline=pipeline),
            collate_fn=dict(type='pseudo_collate')),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=OptimWrapper(torch.optim.SGD(model.parameters(), 0.1)),
        custom_hooks=[dict(type='mmmedmask.TransformEpochHook')],
        experiment_name=name,
        randomness=dict(seed=seed))
    runner.train()
    half = len(model.seen) // 2
    return [dict(model.seen[:half]), dict(model.seen[half:])]


def test_epochs_reach_persistent_workers(tmp_path):
    """Views change with the epoch and do not depend on the workers."""
    import cv2
    (tmp_path / 'tiles').mkdir()
    for index in range(4):
        cv2.imwrite(str(tmp_path / f'tiles/{index}.png'), tissue(32, index))
    MMLogger.get_instance('mmengine', log_level='ERROR')
    alone = run_epochs(tmp_path, 0, 'alone')
    workers = run_epochs(tmp_path, 2, 'workers')
    assert alone == workers
    assert len(alone[0]) == 4
    assert all(alone[0][index] != alone[1][index] for index in range(4))
    other = run_epochs(tmp_path, 0, 'other', seed=2)
    assert all(alone[0][index] != other[0][index] for index in range(4))


def test_preprocessor_takes_loaded_views(tmp_path):
    """view_source='loader' passes views and matrices on."""
    transform = CMIMTwoViews(view_size=32, color={})
    pack = PackTile(meta_keys=('sample_idx', 'theta_query', 'theta_key'))
    samples = [pack(transform(dict(img=tissue(48, index), sample_idx=index)))
               for index in range(2)]
    preprocessor = CMIMDataPreprocessor(
        view_size=32, patch_size=8, view_source='loader')
    batch = preprocessor(pseudo_collate(samples), training=True)['inputs']
    expected = torch.stack([sample['inputs'] for sample in samples]).float()
    restored = batch['query'] * preprocessor.std + preprocessor.mean
    torch.testing.assert_close(restored, expected[:, 0], atol=1e-3, rtol=0)
    assert batch['theta_query'].shape == (2, 3, 3)
    assert batch['mask'].sum(dim=(1, 2, 3)).tolist() == [11.0, 11.0]
