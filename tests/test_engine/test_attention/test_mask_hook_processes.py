"""Check 17: two processes have the same maps, which are those of one."""

from pathlib import Path

import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from processes import run_forked, run_ranks
from tiny_runs import dataset, mask_hook, mask_runner, write_images

from mmmedmask.compat.cpu_distributed import enable_cpu_distributed
from mmmedmask.engine.attention import refresh
from mmmedmask.engine.attention.refresh import combine_parts
from mmmedmask.engine.rank_errors import RankError


def train(folder, rank, size):
    """Train and resume as one of ``size`` processes; save what it found."""

    def run(work_dir, **arguments):
        runner, recorder = mask_runner(
            folder / f'{work_dir}_{size}', dataset(folder / 'data'),
            epochs=4, mask=dict(begin=0, interval=2),
            launcher='pytorch' if size > 1 else 'none', **arguments)
        runner.train()
        return runner, recorder

    if size > 1:
        enable_cpu_distributed()
    runner, recorder = run('run')
    assert isinstance(runner.model, MMDistributedDataParallel) == (size > 1)
    resumed, after = run('resumed', resume=True,
                         load_from=str(folder / f'run_{size}' / 'epoch_3.pth'))
    found = dict(stores=recorder.stores, naive=recorder.naive,
                 attached=[(epoch, str(path), one)
                           for epoch, path, one in recorder.attached],
                 fingerprint=mask_hook(runner).store.images.fingerprint,
                 losses=recorder.losses, resumed_losses=after.losses,
                 refreshed_after=list(after.stores),
                 resumed_maps=mask_hook(resumed).store.values)
    if size > 1:
        # Row 3 is on none; then the second process has no row.
        refresh.GATHERED_ROWS = 2
        maps = torch.full((2, 2, 3), .25 + .5 * rank).half()
        found['combined'] = combine_parts(
            [[0, 2], [1]][rank], [maps[rank:]], 4)
        found['alone'] = combine_parts(
            [[0, 1], []][rank], [[maps], []][rank], 2)
        with pytest.raises(ValueError, match='differ in size'):
            combine_parts([0, 1], [torch.zeros(2, 2, 3 + rank).half()], 2)
        hook = mask_hook(resumed)
        hook.compute = lambda model, batch: torch.zeros(
            len(batch['inputs']), 2, 6 // (1 - rank))
        with pytest.raises((ZeroDivisionError, RankError),
                           match='division .* by zero'):
            hook._refresh(resumed)
    torch.save(found, folder / f'{size}_{rank}.pth')


@pytest.fixture(scope='module')
def found(tmp_path_factory):
    """What the single process, the first and the second of two found."""
    folder = tmp_path_factory.mktemp('processes')
    write_images(folder / 'data')
    assert run_forked(lambda: train(folder, 0, 1)) == [0]
    run_ranks(lambda rank: train(folder, rank, 2), folder)
    return [torch.load(folder / f'{name}.pth', weights_only=True)
            for name in ('1_0', '2_0', '2_1')]


@pytest.mark.slow
def test_two_processes_have_the_maps_of_one(found):
    """Seven images in batches of three: parts of four and three."""
    alone, first, second = found
    assert list(first['stores']) == [0, 2]
    for epoch, maps in first['stores'].items():
        assert maps.shape == (7, 4, 6)
        # Bit for bit the same on both, and as image by image.
        assert torch.equal(maps, second['stores'][epoch])
        assert (maps - first['naive'][epoch]).abs().max() < 6e-4
    # Before training the weights are those of the single process.
    difference = (first['stores'][0].float() - alone['stores'][0].float())
    # One unit of half precision, where batches are of another size.
    assert difference.abs().max() < 6e-4
    assert alone['stores'][0].std() > .05
    assert (first['stores'][0] - first['stores'][2]).abs().max() > .02
    assert len({one['fingerprint'] for one in found}) == 1


@pytest.mark.slow
def test_each_process_attaches_its_samples_maps(found):
    _, first, second = found
    seen = set()
    for one in (first, second):
        assert len(one['attached']) == 4 * 4
        for epoch, path, attached in one['attached']:
            number = int(Path(path).stem)
            seen.add(number)
            assert torch.equal(
                attached, one['stores'][epoch - epoch % 2][number])
    assert seen == set(range(7))


@pytest.mark.slow
def test_two_processes_resume_between_refreshes(found):
    _, first, second = found
    for one in (first, second):
        assert one['refreshed_after'] == []
        assert torch.equal(one['resumed_maps'], first['stores'][2])
        # Two iterations per epoch.
        assert one['resumed_losses'] == one['losses'][6:]
        assert len(one['resumed_losses']) == 2


@pytest.mark.slow
def test_parts_of_two_processes(found):
    _, first, second = found
    for one in (first, second):
        maps, present = one['combined']
        assert present.tolist() == [True, True, True, False]
        assert maps[:3, 0, 0].tolist() == [.25, .75, .25]
        assert maps[3].isnan().all()
        maps, present = one['alone']
        assert present.all()
        assert (maps == .25).all()
        assert maps.shape == (2, 2, 3)
