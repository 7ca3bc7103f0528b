"""best.pth is the best checkpoint, whatever its epoch."""

import errno
import shutil
from types import SimpleNamespace

import pytest
from mmengine.hooks import CheckpointHook
from mmengine.logging import MessageHub

from mmmedmask.engine.hooks import BestCheckpointHook


@pytest.fixture
def runner(tmp_path):
    return SimpleNamespace(
        message_hub=MessageHub.get_instance(f'best {tmp_path.name}'),
        work_dir=str(tmp_path), hooks=[])


@pytest.mark.parametrize('one_disk', [True, False])
def test_it_follows_the_best(runner, tmp_path, monkeypatch, one_disk):
    def copy(source, target):
        copied.append(source)
        return plain(source, target)

    def refuse(source, target):
        raise OSError(errno.EXDEV, 'Invalid cross-device link')

    copied, plain = [], shutil.copyfile
    monkeypatch.setattr('shutil.copyfile', copy)
    if not one_disk:
        monkeypatch.setattr('os.link', refuse)
    hook, link = BestCheckpointHook(), tmp_path / 'best.pth'
    hook.after_val_epoch(runner)
    assert not link.exists()
    for epoch in (1, 3):
        best = tmp_path / f'best_auc_epoch_{epoch}.pth'
        best.write_text(str(epoch))
        runner.message_hub.update_info('best_ckpt', str(best))
        for _ in range(2):
            hook.after_val_epoch(runner)
        # CheckpointHook removes the one before.
        assert link.read_text() == str(epoch)
        assert link.samefile(best) == one_disk
        best.unlink()
        best.write_text(str(epoch))
    # Each once.
    assert len(copied) == (0 if one_disk else 2)
    assert {path.name for path in tmp_path.iterdir()} == {
        'best.pth', 'best_auc_epoch_1.pth', 'best_auc_epoch_3.pth'}


def test_that_of_an_earlier_run_is_set_aside(runner, tmp_path):
    (tmp_path / 'best.pth').write_text('earlier')
    BestCheckpointHook().before_train(runner)
    assert not (tmp_path / 'best.pth').exists()
    assert (tmp_path / 'superseded/1/best.pth').read_text() == 'earlier'
    # A run that goes on has one.
    (tmp_path / 'best.pth').write_text('ours')
    runner.message_hub.update_info('best_ckpt', 'best_auc_epoch_1.pth')
    BestCheckpointHook().before_train(runner)
    assert (tmp_path / 'best.pth').read_text() == 'ours'


def test_several_metrics_have_no_best(runner):
    runner.hooks.append(CheckpointHook(save_best=['auc', 'acc']))
    with pytest.raises(ValueError, match=r"save_best is \['auc', 'acc'\]: "
                       'name one'):
        BestCheckpointHook().before_train(runner)
