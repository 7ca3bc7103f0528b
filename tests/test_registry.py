"""``mmmedmask.X`` is found from every host's scope, in a fresh process."""

import cv2
import numpy as np
import pytest
from processes import run_fresh

# Nothing of ours or of a host library: what they share is imported once.
SHARED = """
import matplotlib.pyplot
import mmcv
import pycocotools.cocoeval
import scipy.stats
import sklearn.linear_model
"""
CHECK = """
import importlib
import sys

from mmengine import registry as root

images, scope = sys.argv[1], {scope!r}
# Our parts need mmpretrain and no other host.
for host in {{'mmdet', 'mmseg'}} - {{scope}}:
    sys.modules[host] = None
root.init_default_scope(scope)
host = root if scope == 'mmengine' else importlib.import_module(
    f'{{scope}}.registry')
assert 'mmmedmask' not in sys.modules
if scope in ('mmdet', 'mmpretrain'):
    # mmdet's own registry imports mmdet, and mmdet needs mmcv's ops;
    # mmpretrain's models are not imported beside transformers 5. That is
    # why our configs have custom_imports and our tools this import.
    import mmmedmask

configs = dict(
    MODELS=dict(type='mmmedmask.CMIMResNet', depth=18),
    HOOKS=dict(type='mmmedmask.NaNGuardHook'),
    TRANSFORMS=dict(type='mmmedmask.LoadTile'),
    # The loader is ours, too, and written with its scope.
    DATASETS=dict(type='mmmedmask.TileFolder', data_root=images,
                  pipeline=[dict(type='mmmedmask.LoadTile')]))
for name, config in configs.items():
    for registries in (root, host):
        built = getattr(registries, name).build(config)
        assert type(built).__name__ == config['type'].split('.')[1]
        assert type(built).__module__.startswith('mmmedmask.')
assert built[0]['img'].shape == (8, 8, 3)
"""


@pytest.mark.slow
def test_types_build_from_every_scope(tmp_path):
    cv2.imwrite(str(tmp_path / 'tile.png'), np.zeros((8, 8, 3), np.uint8))
    result = run_fresh(
        *(CHECK.format(scope=scope)
          for scope in ('mmengine', 'mmpretrain', 'mmdet', 'mmseg')),
        before=SHARED, arguments=[tmp_path])
    assert result.returncode == 0, result.stderr
