"""Files below folders, with links and without."""

import pytest

from mmmedmask.datasets.conversion.folders import only_folder
from mmmedmask.datasets.probe_sets import read_probe_sets
from mmmedmask.util.file_walk import find_files, match_paths, walk_files


def test_links_between_runs_are_left_out_and_those_of_data_followed(tmp_path):
    """The link comes first by name, and names a run that is there."""
    root, elsewhere = tmp_path / 'runs', tmp_path / 'elsewhere'
    for folder in (root / 'run_7', elsewhere):
        folder.mkdir(parents=True)
        (folder / 'scores.csv').touch()
    (root / 'best').symlink_to(root / 'run_7')
    (root / 'data').symlink_to(elsewhere)
    (root / 'copy.csv').symlink_to(elsewhere / 'scores.csv')

    def names(paths, root=root):
        return [path.relative_to(root).as_posix() for path in paths]

    assert names(find_files(root, 'scores.csv')) == ['run_7/scores.csv']
    assert names(find_files(root, '*.csv')) == [
        'copy.csv', 'run_7/scores.csv']
    assert names(walk_files(root)) == [
        'best/scores.csv', 'copy.csv', 'data/scores.csv']
    # What is named itself may be a link.
    assert names(find_files(root / 'best', '*.csv'), root / 'best') == [
        'scores.csv']
    assert not find_files(root / 'none', '*.csv')


@pytest.mark.parametrize('search', [
    lambda root: only_folder(root, ['train*/'], 'a set'), read_probe_sets,
    lambda root: match_paths(root, 'splits/*/*.csv')])
@pytest.mark.parametrize('locked', ['splits', 'splits/locked'])
def test_a_folder_that_cannot_be_read_is_named(tmp_path, lock_folder, search,
                                               locked):
    for name in ('locked', 'mine', '.hidden'):
        (tmp_path / 'splits' / name / 'training').mkdir(parents=True)
        (tmp_path / 'splits' / name / 'train.csv').touch()
    (tmp_path / 'classes.txt').write_text('a')
    assert match_paths(tmp_path, 'splits/*/*') == [
        tmp_path / 'splits' / name for name in (
            'locked/train.csv', 'locked/training', 'mine/train.csv',
            'mine/training')]
    lock_folder(tmp_path / locked)
    with pytest.raises(PermissionError, match=locked):
        search(tmp_path)
