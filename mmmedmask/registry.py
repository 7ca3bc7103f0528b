"""Registries of mmmedmask, children of MMEngine's root registries.

The parent is MMEngine's root, not mmpretrain: a child of mmpretrain could not
be reached from a config whose host is mmdet or mmseg. Configs keep their host
library as ``default_scope`` and write our types as ``mmmedmask.X``.
"""

from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import FUNCTIONS as MMENGINE_FUNCTIONS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import (
    OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
)
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import VISUALIZERS as MMENGINE_VISUALIZERS
from mmengine.registry import Registry

MODELS = Registry(
    'model', parent=MMENGINE_MODELS, locations=['mmmedmask.models'])
DATASETS = Registry(
    'dataset', parent=MMENGINE_DATASETS, locations=['mmmedmask.datasets'])
TRANSFORMS = Registry('transform', parent=MMENGINE_TRANSFORMS,
                      locations=['mmmedmask.datasets.transforms'])
DATA_SAMPLERS = Registry('data sampler', parent=MMENGINE_DATA_SAMPLERS,
                         locations=['mmmedmask.engine'])
FUNCTIONS = Registry('function', parent=MMENGINE_FUNCTIONS,
                     locations=['mmmedmask.datasets'])
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, locations=['mmmedmask.engine'])
LOOPS = Registry('loop', parent=MMENGINE_LOOPS, locations=['mmmedmask.engine'])
METRICS = Registry(
    'metric', parent=MMENGINE_METRICS, locations=['mmmedmask.evaluation'])
VISUALIZERS = Registry('visualizer', parent=MMENGINE_VISUALIZERS,
                       locations=['mmmedmask.visualization'])
OPTIM_WRAPPERS = Registry('optimizer wrapper', parent=MMENGINE_OPTIM_WRAPPERS,
                          locations=['mmmedmask.engine'])
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    parent=MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS, locations=['mmmedmask.engine'])
