"""What all tests share: one thread per process, real data, GPU tests."""

import gc
import os
import resource
import signal
from pathlib import Path

# Before anything imports torch; subprocesses inherit it. Tests run side by
# side, so threads within one would only fight for the cores. Numba, which UMAP
# imports, sets the number of OpenMP's threads for all that follows, torch too.
os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('MKL_NUM_THREADS', '1')
os.environ.setdefault('NUMBA_NUM_THREADS', os.environ['OMP_NUM_THREADS'])

import pytest  # noqa: E402
from commands import forget_mmengine_state  # noqa: E402
from processes import run_forked  # noqa: E402

# Before any test imports a library that it mends.
import mmmedmask  # noqa: E402, F401

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope='session')
def data_root():
    """The folder with real data sets, which are not part of the project.

    ``MMMEDMASK_DATA`` names it, else it is ``../shared/data`` beside the
    repository. Tests that use it are skipped where there is none.
    """
    folder = Path(
        os.environ.get('MMMEDMASK_DATA',
                       REPOSITORY.parent / 'shared' / 'data'))
    if not folder.is_dir():
        pytest.skip(f'no real data: {folder} is not a folder '
                    '(MMMEDMASK_DATA names another one)')
    return folder


@pytest.fixture(scope='session')
def drawn_data(tmp_path_factory):
    """Where shrunk configs find their data: each set is drawn once."""
    return tmp_path_factory.mktemp('drawn_data')


@pytest.fixture
def quick_probes(monkeypatch):
    """Probes of a strength that is not chosen, which takes most of their time.
    """
    monkeypatch.setattr('mmmedmask.evaluation.probes._choose_strength',
                        lambda *arguments: 1.)


@pytest.fixture
def lock_folder(monkeypatch):
    """Make a folder one that cannot be read, for the superuser, too."""
    def lock(folder):
        for name in ('scandir', 'listdir'):
            read = getattr(os, name)

            def refuse(place='.', read=read):
                if str(place) == str(folder):
                    raise PermissionError(13, 'Permission denied', str(place))
                return read(place)

            monkeypatch.setattr(os, name, refuse)

    return lock


@pytest.fixture
def limited_files():
    """Call a function in a process whose files have a largest size."""
    def call(size, work):
        def limited():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            work()

        return run_forked(limited)[0]
    return call


@pytest.fixture(scope='session', autouse=True)
def _no_waiting():
    """Leave out what takes time in every short run, and tests nothing.

    yapf formats each config. A loader whose workers persist and that the
    garbage collector ends cannot tell them, as its queues end before it does;
    it waits 5 seconds for each worker before it stops it.
    """
    from torch.utils.data import _utils
    from yapf.yapflib import yapf_api
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yapf_api, 'FormatCode', lambda text, **_: (text, True))
        patch.setattr(_utils, 'MP_STATUS_CHECK_INTERVAL', 0.1)
        yield


def pytest_runtest_setup(item):
    """Skip GPU tests without a GPU, and slow recipes unless asked for."""
    if item.get_closest_marker('slow_recipes') \
            and os.environ.get('MMMEDMASK_SLOW_RECIPES') != '1':
        pytest.skip('takes minutes, MMMEDMASK_SLOW_RECIPES=1 runs it')
    if item.get_closest_marker('gpu'):
        import torch
        if not torch.cuda.is_available():
            pytest.skip('needs a CUDA device')


def pytest_collection_modifyitems(items):
    """Begin with files that have slow tests.

    The end of a run is then made of short tests, and no worker waits for
    another's long one. A file's tests stay together, for its fixtures.
    """
    slow = {item.path for item in items if item.get_closest_marker('slow')}
    items.sort(key=lambda item: item.path not in slow)


TINY_CLASSIFICATION = """
default_scope = 'mmpretrain'
custom_variable = 3
epochs = 2
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(num_classes=2, mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        type='ResNet', depth=18, stem_channels=8, base_channels=8),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead', num_classes=2, in_channels=64, topk=(1, ),
        loss=dict(type='CrossEntropyLoss')))
loader = dict(
    batch_size=4, num_workers=0,
    dataset=dict(
        type='CustomDataset', data_prefix={data!r},
        pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')]))
train_dataloader = dict(
    **loader, sampler=dict(type='DefaultSampler', shuffle=True))
val_dataloader = dict(
    **loader, sampler=dict(type='DefaultSampler', shuffle=False))
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type='Accuracy', topk=(1, ))
train_cfg = dict(by_epoch=True, max_epochs=epochs)
val_cfg = test_cfg = dict()
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01, momentum=0.9))
auto_scale_lr = dict(base_batch_size=8)
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=1),
    checkpoint=dict(type='CheckpointHook', interval=1),
    visualization=dict(type='VisualizationHook', enable=False))
visualizer = dict(
    type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
randomness = dict(seed=0)
"""


@pytest.fixture(scope='session')
def tiny_classification(tmp_path_factory):
    """A config of mmpretrain's scope that trains in a second, on 8 images.

    They are drawn: bright discs on dark ground, and the other way round.
    """
    import numpy as np
    from PIL import Image
    folder = tmp_path_factory.mktemp('tiny_classification')
    rows, columns = np.mgrid[:32, :32]
    random = np.random.default_rng(0)
    for label, name in enumerate(('bright', 'dark')):
        (folder / 'images' / name).mkdir(parents=True)
        for number in range(4):
            row, column = random.integers(8, 24, 2)
            disc = (rows - row)**2 + (columns - column)**2 < 36
            gray = np.where(disc == (label == 0), 200, 50)
            noisy = gray[..., None] + random.integers(-20, 20, (32, 32, 3))
            Image.fromarray(noisy.astype(np.uint8)).save(
                folder / 'images' / name / f'{number}.png')
    config = folder / 'tiny_classification.py'
    config.write_text(
        TINY_CLASSIFICATION.replace('{data!r}', repr(str(folder / 'images'))))
    return config


@pytest.fixture(scope='module', autouse=True)
def _light_garbage_collection():
    """Let the collector walk no more than what a file's tests have made.

    Each data set that MMEngine builds asks for a whole collection, which
    takes a second beside the libraries and all collected tests.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _fresh_mmengine_state():
    """Forget MMEngine's global objects after every test.

    The default scope and the visualizer of one run would otherwise decide
    where the next one finds its types and puts its pictures.
    """
    yield
    forget_mmengine_state(loggers=False)
