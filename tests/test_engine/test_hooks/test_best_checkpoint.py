"""best.pth is the best checkpoint, whatever its epoch."""

from types import SimpleNamespace

from mmengine.logging import MessageHub

from mmmedmask.engine.hooks import BestCheckpointHook


def test_it_follows_the_best(tmp_path):
    hub = MessageHub.get_instance('best-checkpoint')
    runner = SimpleNamespace(message_hub=hub, work_dir=str(tmp_path))
    hook, link = BestCheckpointHook(), tmp_path / 'best.pth'
    hook.after_val_epoch(runner)
    assert not link.exists()
    for epoch in (1, 3):
        best = tmp_path / f'best_auc_epoch_{epoch}.pth'
        best.write_text(str(epoch))
        hub.update_info('best_ckpt', str(best))
        for _ in range(2):
            hook.after_val_epoch(runner)
        # CheckpointHook removes the one before.
        assert link.read_text() == str(epoch)
        assert link.samefile(best)
        best.unlink()
        best.write_text(str(epoch))
    assert {path.name for path in tmp_path.iterdir()} == {
        'best.pth', 'best_auc_epoch_1.pth', 'best_auc_epoch_3.pth'}
