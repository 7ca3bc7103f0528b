"""The summary of skipped files."""

from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.dataset import ConcatDataset, RepeatDataset
from PIL import Image
from processes import run_ranks
from tiny_runs import first_samples
from torch.utils.data import Subset

from mmmedmask.datasets.tiles import TileFolder
from mmmedmask.engine.checkpoint import reading
from mmmedmask.engine.hooks import SkippedFilesHook
from mmmedmask.registry import HOOKS

PIPELINE = ({'type': 'mmmedmask.LoadTile'}, )


@pytest.fixture
def dataset(tmp_path):
    for number in range(5):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(
            tmp_path / f'{number}.png')
    for number in (1, 3):
        (tmp_path / f'{number}.png').write_bytes(b'broken')
    return TileFolder(str(tmp_path), pipeline=PIPELINE, on_error='skip')


def run_epochs(hook, dataset, indices_per_epoch):
    lines = []
    runner = SimpleNamespace(train_dataloader=SimpleNamespace(dataset=dataset),
                             logger=SimpleNamespace(warning=lines.append))
    for indices in indices_per_epoch:
        for index in indices:
            dataset[index]
        hook.after_train_epoch(runner)
    return lines


def test_reports_when_there_is_something_new(dataset):
    hook = HOOKS.build({'type': 'mmmedmask.SkippedFilesHook'})
    lines = run_epochs(hook, dataset, [[0], [0, 1], [0, 1, 2], [3]])
    assert len(lines) == 2
    assert lines[0].startswith('Skipped 1 of 5 files so far: ')
    assert lines[0].endswith('1.png')
    assert lines[1].startswith('Skipped 2 of 5')
    assert lines[1].endswith('3.png')


def test_long_lists_are_cut(dataset, monkeypatch):
    monkeypatch.setattr(reading, 'LISTED_NAMES', 1)
    line, = run_epochs(SkippedFilesHook(), dataset, [range(5)])
    assert line.endswith('1.png and 1 more')


@pytest.mark.parametrize('wrap', [
    lambda dataset: ConcatDataset([dataset, dataset]),
    lambda dataset: RepeatDataset(dataset, 3),
    lambda dataset: Subset(dataset, [0, 1]),
    lambda dataset: first_samples(dataset, 2),
    lambda dataset: first_samples(RepeatDataset(dataset, 3), 2),
    lambda dataset: Subset(ConcatDataset([dataset, dataset]), [1])])
def test_found_inside_wrappers(dataset, wrap):
    dataset[1]
    line, = run_epochs(SkippedFilesHook(), wrap(dataset), [[]])
    assert '1.png' in line


def test_other_data_sets_are_no_error():
    assert run_epochs(SkippedFilesHook(), Subset([1, 2], [0]), [[0]]) == []


def test_reports_what_all_processes_met(dataset, tmp_path_factory):
    """Each process loads another half."""

    def work(rank):
        line, = run_epochs(SkippedFilesHook(), dataset, [[(1, 3)[rank]]])
        assert line.startswith('Skipped 2 of 5')
        assert '1.png' in line
        assert '3.png' in line

    run_ranks(work, tmp_path_factory.mktemp('ranks'))
