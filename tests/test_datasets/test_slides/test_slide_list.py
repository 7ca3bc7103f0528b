"""Slides of a run, as files and a csv name them, and in shards."""

import numpy as np
import pytest

from mmmedmask.datasets.slides.slide_list import (
    SlideTask,
    list_slides,
    slide_bytes,
    split_into_shards,
)


@pytest.fixture
def slides(tmp_path):
    folder = tmp_path / 'slides'
    (folder / 'deep').mkdir(parents=True)
    for name in ('deep/a.SVS', 'b.svs', 'c.svs', 'd.dcm', 'p.png', 'q.png'):
        (folder / name).write_bytes(b'x')
    return folder


def test_slides_of_a_csv(slides, tmp_path):
    """With trailing commas, and a picture by its ending."""
    csv = tmp_path / 'list.csv'
    csv.write_text('slide_id,mpp,,\na,.5,,\nb.svs,,,\np.png,.25,,\nz,,,\n,,,\n')
    tasks, notes = list_slides([slides], csv, mpp=.3)
    assert tasks == [
        SlideTask('a', slides / 'deep/a.SVS', .5),
        SlideTask('b', slides / 'b.svs', .3),
        SlideTask('p', slides / 'p.png', .25), SlideTask('z', None, .3)]
    assert notes[1] == '1 slides are not in list.csv and left out: c'
    for text, message in (('a,1\na,2\n', 'line 3: slide a has another mpp'),
                          (',1\n', 'slide_id must not be empty'),
                          ('NA,1\n', "slide_id must not be empty, got 'NA'"),
                          ('a,half\n', "line 2: mpp must be .*'half'"),
                          ('a,0\n', 'line 2: mpp must be positive, got 0')):
        csv.write_text(f'slide_id,mpp\n{text}')
        with pytest.raises(ValueError, match=message):
            list_slides([slides], csv)


def test_patients_without_a_slide(slides, tmp_path):
    """In the csv of a cohort."""
    csv = tmp_path / 'cohort.csv'
    csv.write_text('case_id,slide_id,label,mpp\np1,a,x,.5\np2,,y,\np3,NA,y,NA\n')
    tasks, notes = list_slides([slides / 'deep'], csv)
    assert tasks == [SlideTask('a', slides / 'deep/a.SVS', .5)]
    assert notes == ['2 lines of cohort.csv have no slide']


def test_accents_of_a_mac(tmp_path):
    for name in ('M\xfcller.png', 'O\u0308z.svs'):
        (tmp_path / name.replace('\xfc', 'u\u0308')).touch()
    csv = tmp_path / 'list.csv'
    csv.write_text('slide_id\nM\xfcller.png\n\xd6z\n', 'utf-8')
    tasks, notes = list_slides([tmp_path], csv)
    assert [task.slide_id for task in tasks] == ['M\xfcller', '\xd6z']
    assert all(task.path.is_file() for task in tasks)
    assert not notes


def test_slides_of_folders(slides, tmp_path):
    tasks, notes = list_slides([slides])
    assert [task.slide_id for task in tasks] == ['a', 'b', 'c']
    assert notes[0].startswith('1 DICOM files of folders are left out')
    assert list_slides([slides / 'd.dcm'])[0][0].slide_id == 'd'
    # What a Mac writes beside each file is none; links are followed.
    (slides / '._b.svs').touch()
    (tmp_path / 'links').mkdir()
    (tmp_path / 'links' / 'slides').symlink_to(slides)
    assert [task.path.name for task in list_slides([tmp_path / 'links'])[0]
            ] == ['a.SVS', 'b.svs', 'c.svs']
    (tmp_path / 'a.tif').touch()
    (tmp_path / 'empty').mkdir()
    for inputs, options, error, message in (
            ([slides, tmp_path / 'a.tif'], {}, ValueError, 'both called a: '),
            ([tmp_path / 'empty'], {}, ValueError, 'no file ends with one of'),
            ([slides], dict(mpp=0), ValueError, 'must be positive, got 0'),
            ([tmp_path / 'no'], {}, FileNotFoundError, 'does not exist')):
        with pytest.raises(error, match=message):
            list_slides(inputs, **options)


@pytest.mark.parametrize('count', [1, 2, 5, 12])
def test_shards_are_disjoint_complete_balanced_and_the_same(tmp_path, count):
    random = np.random.default_rng(count)
    sizes = random.integers(1, 5000, 12).tolist()
    for number, size in enumerate(sizes):
        (tmp_path / f'{number}.svs').write_bytes(bytes(size))
    tasks = [SlideTask(str(number), tmp_path / f'{number}.svs')
             for number in range(12)]
    tasks += [SlideTask(f'absent {number}', None) for number in range(3)]
    shards = split_into_shards(tasks, count)
    assert len(shards) == count
    assert all(shards)
    assert sorted((task for shard in shards for task in shard),
                  key=tasks.index) == tasks
    bytes_of = [sum(slide_bytes(task.path) for task in shard)
                for shard in shards]
    assert max(bytes_of) - min(bytes_of) <= max(sizes)
    shuffled = [tasks[place] for place in random.permutation(len(tasks))]
    assert split_into_shards(shuffled, count) == shards


def test_shards_need_slides_and_mirax_counts_its_folder(tmp_path):
    with pytest.raises(ValueError, match=r'in \[1, 1\], got 2'):
        split_into_shards([SlideTask('a', None)], 2)
    (tmp_path / 'm').mkdir()
    (tmp_path / 'm' / 'Data0.dat').write_bytes(bytes(70))
    (tmp_path / 'm.mrxs').write_bytes(bytes(5))
    assert slide_bytes(tmp_path / 'm.mrxs') == 75
