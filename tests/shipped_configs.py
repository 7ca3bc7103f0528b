"""What tests of shipped configs share: find one, read it once, train it."""

import copy
import functools
import re
from pathlib import Path
from unittest import mock

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.runner import Runner

import mmmedmask  # noqa: F401  (bases of other packages resolve)
from mmmedmask.config_files import find_hooks
from mmmedmask.shrinking.shrink import shrink_config

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
LOOPS = tuple(f'{split}_{part}' for split in ('val', 'test')
              for part in ('dataloader', 'cfg', 'evaluator'))


@functools.cache
def _paths():
    return {path.stem: path for path in CONFIGS.rglob('*.py')}


def find(name):
    return _paths()[name]


_file2dict, _bases = Config._file2dict, {}


def _read_base(filename, *args, **kwargs):
    """Read each base once for all configs, not once for each child."""
    key = (str(filename), repr(args), repr(kwargs))
    if key not in _bases:
        _bases[key] = _file2dict(filename, *args, **kwargs)
    return copy.deepcopy(_bases[key])


@functools.cache
def read(name):
    """Read a config by bare name or path, once; nobody may change it."""
    with mock.patch.object(Config, '_file2dict', staticmethod(_read_base)):
        return Config.fromfile(name if isinstance(name, Path) else find(name))


def own_values(path):
    """What a config file itself assigns, before its bases are merged in."""
    read(path)  # its bases are merged
    with mock.patch.multiple(
            Config, _file2dict=staticmethod(_read_base),
            _merge_a_into_b=staticmethod(lambda own, bases: own)):
        return _file2dict(str(path))[0]


def load(name):
    return copy.deepcopy(read(name))


def write_shrunk(name, folder, data=None):
    """Write a shrunk config into a folder, for commands; return it too."""
    cfg = shrink_config(load(name), folder, data)
    file = Path(folder) / 'shrunk.py'
    cfg.dump(file)
    return file, cfg


def stem(path):
    return path.stem


def hooks_of(cfg):
    """Hooks by the names of their types."""
    return {hook.type.removeprefix('mmmedmask.'): hook
            for hook in find_hooks(cfg).values()}


def source_of(init_cfg, prefix='backbone.'):
    """The shipped config whose run leaves it: its last epoch, or its best."""
    assert (init_cfg.type, init_cfg.prefix) == ('Pretrained', prefix)
    run, epoch = re.fullmatch(r'work_dirs/(.+)/(?:epoch_(\d+)|best)\.pth',
                              init_cfg.checkpoint).groups()
    if epoch is None:
        hooks = hooks_of(read(run))
        assert hooks['SafeCheckpointHook'].save_best
        assert 'BestCheckpointHook' in hooks
    else:
        assert read(run).train_cfg.max_epochs == int(epoch)
    return run


def groups_of(model, optim_wrapper):
    """The optimiser's group of each parameter that it trains, by name."""
    wrapper = build_optim_wrapper(model, optim_wrapper)
    groups = {id(parameter): group for group in wrapper.optimizer.param_groups
              for parameter in group['params']}
    return {name: groups[id(parameter)]
            for name, parameter in model.named_parameters()
            if id(parameter) in groups}


def parameters_in(model, kind):
    """Names of the parameters of a model's modules of a kind."""
    return {f'{name}.{parameter}' for name, module in model.named_modules()
            if isinstance(module, kind)
            for parameter, _ in module.named_parameters()}


def rates_of(cfg, iterations_per_epoch, scales=(1., )):
    """The rate of each group before each iteration, as MMEngine sets it."""
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in scales]
    base = cfg.optim_wrapper.optimizer.lr
    optimizer = torch.optim.SGD([
        dict(params=[parameter], lr=base * scale)
        for parameter, scale in zip(parameters, scales, strict=True)])
    epochs = cfg.train_cfg.max_epochs
    schedulers = []
    for scheduler in cfg.param_scheduler:
        # What a runner fills in.
        arguments = dict(scheduler) | dict(end=scheduler.get('end', epochs))
        assert arguments.pop('convert_to_iter_based')
        kind = PARAM_SCHEDULERS.get(arguments.pop('type'))
        schedulers.append(
            kind.build_iter_from_epoch(optimizer=optimizer,
                                       epoch_length=iterations_per_epoch,
                                       **arguments))
    rates = []
    for _ in range(epochs * iterations_per_epoch):
        rates.append([group['lr'] for group in optimizer.param_groups])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return torch.tensor(rates, dtype=torch.float64)


def without_tests(cfg):
    for name in LOOPS:
        cfg[name] = None
    return cfg


def pretrained(checkpoint, prefix='backbone.'):
    return dict(type='Pretrained', checkpoint=str(checkpoint), prefix=prefix)


class Start(Hook):
    """Copy a model's tensors before the first iteration; keep all losses."""

    priority = 'VERY_LOW'

    def __init__(self):
        self.losses = []

    def before_train(self, runner):
        self.tensors = {name: value.clone() for name, value
                        in runner.model.state_dict().items()}

    def after_train_iter(self, runner, batch_idx, data_batch=None,
                         outputs=None):
        self.losses.append({name: torch.as_tensor(value).item()
                            for name, value in outputs.items()})


def train(cfg, *hooks):
    """Train a shrunk config: the runner, its Start, and what was logged."""
    start, messages = Start(), []
    runner = Runner.from_cfg(cfg)
    for hook in (start, *hooks):
        runner.register_hook(hook)
    runner.logger.info = messages.append
    runner.train()
    return runner, start, messages


def load_checks(messages):
    """Lines of the load check, each of which says that all has arrived."""
    lines = [line for line in messages if line.startswith('Load check of')]
    assert all('(100.0 %)' in line for line in lines)
    return lines
