"""What all tests share: one thread per process, real data, GPU tests."""

import os
from pathlib import Path

# Before anything imports torch; subprocesses inherit it. Tests run side by
# side, so threads within one would only fight for the cores.
os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('MKL_NUM_THREADS', '1')

import pytest  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope='session')
def data_root() -> Path:
    """The folder with real data sets, which are no part of the project.

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


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip GPU tests where there is no GPU."""
    if item.get_closest_marker('gpu'):
        import torch
        if not torch.cuda.is_available():
            pytest.skip('needs a CUDA device')
