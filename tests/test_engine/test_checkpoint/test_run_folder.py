"""Which checkpoint a run goes on from."""

import zipfile
from types import SimpleNamespace

import pytest

from mmmedmask.engine.checkpoint import run_folder


@pytest.fixture
def write(tmp_path):
    def write_file(name, whole=True):
        with zipfile.ZipFile(tmp_path / name, 'w') as file:
            file.writestr('weights', 'x' * 1000)
        if not whole:
            content = (tmp_path / name).read_bytes()
            (tmp_path / name).write_bytes(content[:500])
        return tmp_path / name
    return write_file


def test_nothing_to_go_on_from(tmp_path):
    assert run_folder.find_resumable(tmp_path / 'none') is None
    (tmp_path / 'last_checkpoint').write_text('')
    assert run_folder.find_resumable(tmp_path) is None
    (tmp_path / 'last_checkpoint').write_text('gone.pth')
    with pytest.raises(FileNotFoundError, match="'gone.pth', which .* names"):
        run_folder.find_resumable(tmp_path)


@pytest.mark.parametrize(('pointer', 'found'), [
    # Of another folder, from before a move.
    ('elsewhere/epoch_1.pth', 'epoch_1.pth'),
    # A name without a whole file, and what an older version left empty.
    ('epoch_11.pth', 'epoch_10.pth'),
    ('epoch_8.pth', 'epoch_10.pth'),
    ('', 'epoch_10.pth'),
    ('\0\0\0', 'epoch_10.pth'),
    (None, 'epoch_10.pth'),
])
def test_the_latest_whole_one_stands_in(tmp_path, write, pointer, found):
    for number in (1, 9, 10):
        write(f'epoch_{number}.pth')
    write('epoch_11.pth', whole=False)
    write('best_auc_epoch_12.pth')
    if pointer is not None:
        (tmp_path / 'last_checkpoint').write_text(pointer)
    assert run_folder.find_resumable(tmp_path) == tmp_path / found


def test_what_stands_for_a_run(tmp_path, write):
    """Its last state, else its only best weights; a file is itself."""
    with pytest.raises(ValueError, match='no best_.*: give the file'):
        run_folder.find_checkpoint(tmp_path)
    best = write('best_auc_epoch_7.pth')
    assert run_folder.find_checkpoint(tmp_path) == best
    # The state that it names has been deleted.
    (tmp_path / 'last_checkpoint').write_text('epoch_9.pth')
    assert run_folder.find_checkpoint(tmp_path) == best
    write('best_acc_epoch_8.pth')
    with pytest.raises(ValueError, match='best_acc_epoch_8.pth, best_auc_.*: '
                       'name one of them'):
        run_folder.find_checkpoint(tmp_path)
    state = write('iter_90.pth')
    assert run_folder.find_checkpoint(tmp_path) == state
    assert run_folder.find_checkpoint(best) == best
    with pytest.raises(FileNotFoundError, match='no run or checkpoint'):
        run_folder.find_checkpoint(tmp_path / 'none')


def test_what_is_later_is_set_aside(tmp_path, write):
    def names(files):
        return [file.name for file in files]

    for name in ('epoch_1.pth', 'epoch_3.pth', 'iter_3.pth', 'mine.pth',
                 'best_a_epoch_1.pth', 'best_a_epoch_3.pth'):
        write(name)
    states, bests = run_folder.list_later(tmp_path, 2, 3)
    assert (names(states), names(bests)) == (
        ['epoch_3.pth'], ['best_a_epoch_3.pth'])
    runner = SimpleNamespace()
    place = run_folder.supersede(
        runner, states, [tmp_path / 'best_a_epoch_1.pth'])
    assert place == tmp_path / 'superseded' / '1'
    assert names(sorted(tmp_path.glob('*.pth'))) == [
        'best_a_epoch_1.pth', 'best_a_epoch_3.pth', 'epoch_1.pth',
        'iter_3.pth', 'mine.pth']
    # Nothing there is replaced.
    assert run_folder.supersede(runner, bests) == place
    write('epoch_3.pth')
    assert run_folder.supersede(runner, states).name == '2'
    # What another start finds is of another run, whatever its names are.
    assert run_folder.supersede(
        SimpleNamespace(), [write('iter_4.pth')]).name == '3'
    assert names(sorted(place.iterdir())) == [
        'best_a_epoch_1.pth', 'best_a_epoch_3.pth', 'epoch_3.pth']
    write('.epoch_4.abc.part.pth')
    run_folder.remove_parts(tmp_path)
    assert not list(tmp_path.glob('.*'))
