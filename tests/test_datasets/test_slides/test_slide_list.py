"""Slides of a run, as files and a csv name them."""

import numpy as np
import pytest
from PIL import Image

from mmmedmask.datasets.slides.slide_list import list_slides


def test_csv_with_trailing_commas_and_a_picture(tmp_path):
    (tmp_path / 'slides/deep').mkdir(parents=True)
    for name in ('deep/a.svs', 'b.svs', 'c.svs'):
        (tmp_path / 'slides' / name).write_bytes(b'x')
    for name in ('p.png', 'q.png'):
        Image.fromarray(np.zeros((2, 2), np.uint8)).save(
            tmp_path / 'slides' / name)
    csv = tmp_path / 'list.csv'
    csv.write_text('slide_id,mpp,,\na,.5,,\nb.svs,,,\np.png,.25,,\nz,,,\n,,,\n')
    tasks, notes = list_slides([tmp_path / 'slides'], csv, mpp=.3)
    assert [(task.slide_id, task.path and task.path.name, task.mpp)
            for task in tasks] == [('a', 'a.svs', .5), ('b', 'b.svs', .3),
                                   ('p', 'p.png', .25), ('z', None, .3)]
    assert notes == ['1 slides are not in list.csv and left out: c']
    csv.write_text('slide_id,mpp\na,.5\nb.svs,.5,\n')
    with pytest.raises(ValueError, match='line 3 has 3 cells, line 1 has 2'):
        list_slides([tmp_path / 'slides'], csv)
    csv.write_text('slide_id,mpp\na,coarse\n')
    with pytest.raises(ValueError, match="line 2: mpp must be .*'coarse'"):
        list_slides([tmp_path / 'slides'], csv)
