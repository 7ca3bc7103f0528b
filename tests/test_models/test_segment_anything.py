"""Prompts, boxes and scores of Segment Anything, and their precision."""

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement, InstanceData
from PIL import Image
from refusals import refuses
from shipped_configs import load

from mmmedmask.datasets.coco_instances import CocoInstanceWriter
from mmmedmask.functional.masking import boxes_of_masks
from mmmedmask.models.detection import SegmentAnything
from mmmedmask.registry import MODELS
from mmmedmask.shrinking.model_sizes import SEGMENT_ANYTHING

transformers = pytest.importorskip('transformers')
SIDE = 64
# (left, top, side) of the true squares of two images.
SQUARES = [[(4, 4, 20), (34, 30, 22)], [(20, 10, 24)]]


def build(**settings):
    torch.manual_seed(0)
    return SegmentAnything(**{
        **dict(weights=None, architecture=SEGMENT_ANYTHING,
               points_per_side=3, min_score=0.0, min_stability=0.0),
        **settings})


def square(left, top, side, shift=0):
    mask = np.zeros((SIDE, SIDE), bool)
    mask[top:top + side, left + shift:left + shift + side] = True
    return mask


def sample(boxes, shape=(SIDE, SIDE)):
    made = BaseDataElement(metainfo=dict(img_shape=shape, ori_shape=shape))
    made.gt_instances = InstanceData(bboxes=torch.tensor(boxes).float())
    return made


def watch(model, monkeypatch):
    """What the network is asked, and what it answers."""
    asked, outputs, forward = [], [], model.sam.forward

    def look(**inputs):
        asked.append(inputs)
        outputs.append(forward(**inputs))
        return outputs[-1]

    monkeypatch.setattr(model.sam, 'forward', look)
    return asked, outputs


def test_boxes_of_masks():
    random = np.random.default_rng(0)
    masks = random.random((20, 9, 7)) < .05
    masks[3] = False
    for mask, box in zip(masks, boxes_of_masks(torch.tensor(masks)),
                         strict=True):
        rows, columns = mask.nonzero()
        assert box.tolist() == ([
            columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            if len(rows) else [0] * 4)


@pytest.mark.parametrize(('prompts', 'masks'), [('point', 3), ('box', 1)])
def test_prompts_in_pixels_of_the_network(prompts, masks, monkeypatch):
    """An image of 128 x 96 is halved, and so are its boxes."""
    model = build(prompts=prompts, prompts_per_batch=2).eval()
    asked, outputs = watch(model, monkeypatch)
    boxes = [[10., 20., 50., 60.], [0., 0., 8., 4.], [64., 32., 96., 128.]]
    image = torch.randint(0, 256, (1, 3, 130, 100)).float()
    result, = model(image, [sample(boxes, (128, 96))])
    found = result.pred_instances
    assert found.masks.shape == (3, 128, 96)
    assert found.masks.dtype == torch.bool
    assert found.scores.shape == found.labels.shape == (3, )
    assert torch.equal(found.bboxes, boxes_of_masks(found.masks))
    # Three prompts, two at a time.
    assert [one.pred_masks.shape[1:3] for one in outputs] == [
        (2, masks), (1, masks)]
    if prompts == 'box':
        got = torch.cat([one['input_boxes'][0] for one in asked])
        assert torch.allclose(got.float(), torch.tensor(boxes) / 2)
    else:
        got = torch.cat([one['input_points'][0, :, 0] for one in asked])
        assert torch.allclose(got.float(), torch.tensor(
            [[15., 20.], [2., 1.], [40., 40.]]))


def test_best_of_three_masks(monkeypatch):
    model = build(prompts='point').eval()
    _, outputs = watch(model, monkeypatch)
    result, = model(torch.rand(1, 3, SIDE, SIDE) * 255,
                    [sample([[8., 8., 40., 40.]])])
    scores = outputs[0].iou_scores[0, 0]
    assert result.pred_instances.scores[0] == scores.max()
    logits = torch.nn.functional.interpolate(
        outputs[0].pred_masks[0, :, scores.argmax()][None], (SIDE, SIDE),
        mode='bilinear', align_corners=False)[0, 0]
    assert torch.equal(result.pred_instances.masks[0], logits > 0)


def test_automatic_masks_pass_the_filters():
    image = torch.rand(1, 3, SIDE, SIDE) * 255
    everything, = build().eval()(image, [sample([])])
    assert len(everything.pred_instances) > 0
    assert everything.pred_instances.masks.shape[1:] == (SIDE, SIDE)
    best = everything.pred_instances.scores.max().item()
    nothing, = build(min_score=min(1., best + .01)).eval()(image, [sample([])])
    assert nothing.pred_instances.masks.shape == (0, SIDE, SIDE)
    assert nothing.pred_instances.bboxes.shape == (0, 4)


@pytest.mark.parametrize('prompts', ['point', 'box'])
def test_image_without_objects(prompts):
    result, = build(prompts=prompts).eval()(
        torch.zeros(1, 3, SIDE, SIDE), [sample(np.zeros((0, 4)))])
    assert result.pred_instances.masks.shape == (0, SIDE, SIDE)


def test_weights_of_a_folder(tmp_path):
    model = build(prompts='box').eval()
    model.sam.save_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match='lacks preprocessor_config'
                       '.*facebook/sam-vit-huge'):
        build(weights=str(tmp_path), architecture=None)
    model.image_processor.save_pretrained(tmp_path)
    again = build(weights=str(tmp_path), architecture=None,
                  prompts='box').eval()
    image = torch.rand(1, 3, SIDE, SIDE) * 255
    first, second = (
        one(image, [sample([[8., 8., 40., 40.]])])[0].pred_instances
        for one in (model, again))
    assert torch.equal(first.scores, second.scores)
    assert torch.equal(first.masks, second.masks)


test_bad_arguments = refuses(build, [
    (dict(prompts='boxes'), "'boxes'"),
    (dict(points_per_side=0), 'points_per_side'),
    (dict(min_score=2.), 'min_score'),
    (dict(architecture=None), 'either weights or architecture')])


def test_resized_images_are_refused():
    resized = sample([[0., 0., 9., 9.]])
    resized.set_metainfo(dict(ori_shape=(128, 128)))
    with pytest.raises(ValueError, match='Resize'):
        build(prompts='box')(torch.zeros(1, 3, SIDE, SIDE), [resized])
    with pytest.raises(ValueError, match="'loss'"):
        build()(torch.zeros(1, 3, SIDE, SIDE), [], mode='loss')


@pytest.fixture
def glands(tmp_path):
    """A test set of drawn squares."""
    writer = CocoInstanceWriter('gland')
    for number, squares in enumerate(SQUARES):
        Image.new('RGB', (SIDE, SIDE), (number, 0, 0)).save(
            tmp_path / f'{number}.png')
        writer.add(f'{number}.png', sum(
            label * square(*one).astype(int)
            for label, one in enumerate(squares, start=1)))
    writer.write(tmp_path / 'annotations/test.json')
    return tmp_path


@pytest.mark.parametrize(('shift', 'precision'), [
    # An IoU of 1, and shifted by 2 pixels 18 / 22, 20 / 24, 22 / 26: the
    # least, .818, passes 7 of the thresholds .5, .55, ..., .95, as the others
    # do (.833 and .846).
    (0, 1.0), (2, 0.7),
])
def test_coco_metric(shift, precision, glands, tmp_path, monkeypatch):
    """A stand-in that knows the truth goes through the shipped config."""

    @MODELS.register_module(force=True)
    class KnowsTheTruth(SegmentAnything):
        def segment_boxes(self, image, boxes):
            # Red, if the image comes as RGB.
            squares = SQUARES[image[0, 0, 0]]
            assert np.allclose(boxes, [
                [left, top, left + side, top + side]
                for left, top, side in squares])
            return torch.tensor(np.stack([
                square(*one, shift) for one in squares])), torch.ones(
                    len(squares))

    cfg = load('segment-anything_vit-huge-box_glas')
    cfg.model.update(type='mmmedmask.KnowsTheTruth', weights=None,
                     architecture=SEGMENT_ANYTHING)
    cfg.test_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.test_dataloader.dataset.data_root = str(glands)
    cfg.test_evaluator.ann_file = str(glands / 'annotations/test.json')
    cfg.work_dir = str(tmp_path / 'run')
    del cfg.default_hooks['visualization']
    with DefaultScope.overwrite_default_scope('mmdet'):
        metrics = Runner.from_cfg(cfg).test()
    assert metrics['coco/segm_mAP'] == pytest.approx(precision)
    assert metrics['coco/bbox_mAP'] == pytest.approx(precision)
