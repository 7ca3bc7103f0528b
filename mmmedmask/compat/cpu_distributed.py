"""Train with several processes on CPU, through MMEngine's own launchers.

MMEngine's ``launcher='pytorch'`` (and ``slurm``, ``mpi``) works on
accelerators only: ``init_dist`` calls ``torch.cuda.set_device`` whatever the
backend, and ``Runner.wrap_model`` gives DistributedDataParallel the local
rank as ``device_ids``, which it refuses for a model on the CPU. No config
can avoid both (no upstream issue).

It is not among the patches that ``import mmmedmask`` applies, because it
imports the runner and changes it. :func:`mmmedmask.apis.build_runner` calls
:func:`enable_cpu_distributed` when it is given a launcher, so that a
config for GPUs trains unchanged, with gloo, on a machine that has none.

Delete when MMEngine selects devices and ``device_ids`` by the device in use.
"""

from collections.abc import Callable

import torch
from mmengine.device import get_device
from mmengine.dist import utils as dist_utils
from mmengine.model import is_model_wrapper, revert_sync_batchnorm
from mmengine.registry import MODEL_WRAPPERS
from mmengine.runner import Runner
from torch import nn

from mmmedmask.compat.replacing import replaces

INITIALIZERS = ('_init_dist_pytorch', '_init_dist_slurm', '_init_dist_mpi')


def _initialize_on_cpu(initialize: Callable, backend: str, *args,
                       **kwargs) -> None:
    """Let one of MMEngine's initializers run without CUDA."""
    set_device = torch.cuda.set_device
    torch.cuda.set_device = lambda device: None
    try:
        initialize('gloo' if backend == 'nccl' else backend, *args, **kwargs)
    finally:
        torch.cuda.set_device = set_device


def _wrap_model_on_cpu(wrap_model: Callable, self: Runner,
                       model_wrapper_cfg: dict | None,
                       model: nn.Module) -> nn.Module:
    """Let ``Runner.wrap_model`` wrap a model that stays on the CPU."""
    if not self.distributed or is_model_wrapper(model):
        return wrap_model(self, model_wrapper_cfg, model)
    self.logger.info(f'No accelerator: {self.world_size} processes train '
                     f'on CPU with {torch.distributed.get_backend()}.')
    if self.cfg.get('sync_bn') or any(isinstance(module, nn.SyncBatchNorm)
                                      for module in model.modules()):
        self.logger.warning(
            'SyncBatchNorm does not run on CPU: it becomes BatchNorm, '
            'with the statistics of each process alone.')
    model = revert_sync_batchnorm(model.to(get_device()))
    if model_wrapper_cfg is None:
        unused = self.cfg.get('find_unused_parameters', False)
        model_wrapper_cfg = {'broadcast_buffers': False,
                             'find_unused_parameters': unused}
    return MODEL_WRAPPERS.build(
        dict(model_wrapper_cfg),
        default_args={'type': 'MMDistributedDataParallel', 'module': model})


def enable_cpu_distributed() -> bool:
    """Make MMEngine's launchers work on a machine without accelerator.

    ``nccl`` becomes ``gloo``, and models are wrapped without ``device_ids``.
    Where MMEngine sees an accelerator nothing is changed, and False returned.
    Call it before the runner is built.
    """
    if get_device() != 'cpu':
        return False
    for name in INITIALIZERS:
        replaces(dist_utils, name)(_initialize_on_cpu)
    replaces(Runner, 'wrap_model')(_wrap_model_on_cpu)
    return True
