"""Parts of a reader's own: their checks pass, and their configs train."""

import pytest
from documents import ROOT, is_config, load_written, read_blocks

from mmmedmask import apis
from mmmedmask.registry import MODELS
from mmmedmask.shrinking.shrink import shrink_config


@pytest.mark.parametrize(('name', 'place', 'kind'), [
    ('docs/how_to/add_a_cnn.md', 'backbone', 'CMIMSmallNet'),
    ('configs/mil/README.md', 'aggregator', 'LinearAttention')])
def test_it_trains_as_written(name, place, kind, tmp_path, drawn_data):
    page = ROOT / name
    names = {}
    try:
        for block in read_blocks(page.read_text('utf-8')):
            if is_config(block.code):
                config, _ = load_written(block.code, page, tmp_path)
            elif block.language == 'python':
                exec(block.code, names)
        runner = apis.build_runner(shrink_config(config, tmp_path, drawn_data))
        runner.train()
    finally:
        MODELS.module_dict.pop(kind, None)
    assert runner.iter >= 2
    assert isinstance(getattr(runner.model, place), names[kind])
    if place == 'backbone':
        assert runner.model.neck.strides == (2, 4, 8, 16)
