"""The lines of docs/how_to/use_from_python.md train, build and predict."""

import pytest
import torch
from documents import ROOT, read_blocks
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, DefaultScope
from shipped_configs import write_shrunk

PAGE = ROOT / 'docs/how_to/use_from_python.md'
BLOCKS = [block.code for block in read_blocks(PAGE.read_text('utf-8'))
          if block.language == 'python']
IMAGE = 'path/to/image.png'


@pytest.fixture
def wanted(tmp_path, drawn_data, monkeypatch):
    """What a test predicts of an image that lies where the page has it."""
    pytest.importorskip('mmdet')
    file, config = write_shrunk(
        'mask-rcnn_cmim-resnet18-fpn_8xb2-1x_glas', tmp_path, drawn_data)
    file.rename(tmp_path / 'my_mask_rcnn.py')
    monkeypatch.chdir(tmp_path)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(config.model).eval()
        data = DATASETS.build(config.test_dataloader.dataset)
        result, = model.test_step(pseudo_collate([data[1]]))
    torch.save(dict(state_dict=model.state_dict(), meta=dict(
        dataset_meta=dict(classes=('gland', )))), 'best.pth')
    (tmp_path / IMAGE).parent.mkdir(parents=True)
    (tmp_path / IMAGE).symlink_to(data.get_data_info(1)['img_path'])
    return result.pred_instances


def test_a_script_trains_and_builds(tmp_path, drawn_data, monkeypatch):
    file, _ = write_shrunk('cmim_resnet18_1xb32-coslr-800e_tile-folder',
                           tmp_path, drawn_data)
    file.rename(tmp_path / 'my_tiles.py')
    monkeypatch.chdir(tmp_path)
    train, build = (code for code in BLOCKS if '.build' in code)
    exec(train, {})
    assert (tmp_path / 'work_dirs/first/epoch_2.pth').is_file()
    names = {}
    exec(build, names)
    assert type(names['abmil']).__name__ == 'ABMIL'
    assert 'AttentionMaskHook' in names['HOOKS'].module_dict


def test_a_detector_predicts_as_in_a_test(wanted):
    code, = (code for code in BLOCKS if 'inference_detector' in code)
    names = {}
    exec(code.replace("'cuda'", "'cpu'"), names)
    got = names['sample'].pred_instances
    assert len(got)
    for key in ('bboxes', 'labels', 'scores', 'masks'):
        assert torch.equal(torch.as_tensor(got[key]),
                           torch.as_tensor(wanted[key])), key
    assert len(names['sure']) == (wanted.scores > .5).sum()
    assert got.masks.dtype == torch.bool
    assert names['detector'].dataset_meta['classes'] == ('gland', )


def test_mmdets_inferencer_draws_a_folder(wanted, tmp_path):
    from mmdet.apis import DetInferencer
    call = "DetInferencer('my_mask_rcnn.py', 'best.pth')"
    assert call in PAGE.read_text('utf-8')
    DetInferencer('my_mask_rcnn.py', 'best.pth', device='cpu')(
        'path/to', out_dir='pictures')
    assert [path.name for path in (tmp_path / 'pictures/vis').iterdir()] == [
        'image.png']
