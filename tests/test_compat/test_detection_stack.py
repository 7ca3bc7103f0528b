"""Detection runs on this stack end to end, on CPU and without a compiler.

Mask R-CNN is trained and tested by the runner on a drawn COCO data set with
RLE masks; C4 and RetinaNet take a step. What is checked is that torch,
NumPy, OpenCV, pycocotools and mmdet fit together.
"""

import json

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from pycocotools import mask as coco_mask

import mmmedmask  # noqa: F401  # before mmdet

pytestmark = pytest.mark.slow

SIZE = (64, 80)  # (h, w)


@pytest.fixture(autouse=True)
def mmdet_scope():
    """Build in mmdet's scope, and leave none behind."""
    pytest.importorskip('mmdet')
    scopes = dict(DefaultScope._instance_dict)
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(scopes)


def draw_ellipses(number, generator):
    """Masks (N, h, w) of ellipses, and an image (h, w, 3) of them."""
    masks = np.zeros((number, *SIZE), np.uint8)
    image = generator.integers(0, 60, (*SIZE, 3)).astype(np.uint8)
    for mask in masks:
        centre = [int(generator.integers(15, side - 15))
                  for side in SIZE[::-1]]  # OpenCV wants (x, y)
        axes = [int(radius) for radius in generator.integers(7, 14, 2)]
        cv2.ellipse(mask, centre, axes, 0, 0, 360, 1, -1)
        image[mask == 1] += 60
    return masks, image


@pytest.fixture(scope='module')
def coco_folder(tmp_path_factory):
    """Four images with two ellipses each, and their masks."""
    folder = tmp_path_factory.mktemp('coco')
    generator = np.random.default_rng(0)
    images, annotations, all_masks = [], [], []
    for image_id in range(4):
        masks, image = draw_ellipses(2, generator)
        name = f'{image_id}.png'
        cv2.imwrite(str(folder / name), image)
        images.append(
            dict(id=image_id, file_name=name, height=SIZE[0], width=SIZE[1]))
        for mask in masks:
            rle = coco_mask.encode(np.asfortranarray(mask))
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image_id,
                    category_id=1,
                    bbox=coco_mask.toBbox(rle).tolist(),
                    area=int(mask.sum()),
                    iscrowd=0,
                    segmentation=dict(
                        size=rle['size'], counts=rle['counts'].decode())))
        all_masks.append(masks)
    (folder / 'annotations.json').write_text(
        json.dumps(
            dict(images=images, annotations=annotations,
                 categories=[dict(id=1, name='gland')])))
    np.save(folder / 'masks.npy', np.stack(all_masks))
    return folder


MODEL = """
_base_ = {bases!r}
default_scope = 'mmdet'
model = {model!r}
"""

RESNET18 = dict(depth=18, init_cfg=None)
FPN = dict(in_channels=[64, 128, 256, 512], out_channels=16)
MASK_RCNN = dict(
    backbone=RESNET18,
    neck=FPN,
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16),
        mask_roi_extractor=dict(out_channels=16),
        bbox_head=dict(in_channels=16, fc_out_channels=16, num_classes=1),
        mask_head=dict(in_channels=16, conv_out_channels=16, num_convs=1,
                       num_classes=1)))
C4_LAYERS = dict(depth=18, style='pytorch', init_cfg=None)
MASK_RCNN_C4 = dict(
    backbone=C4_LAYERS,
    rpn_head=dict(in_channels=256, feat_channels=16),
    roi_head=dict(
        shared_head=C4_LAYERS, bbox_roi_extractor=dict(out_channels=256),
        bbox_head=dict(in_channels=512, num_classes=1),
        mask_head=dict(in_channels=512, conv_out_channels=16, num_classes=1)))
RETINANET = dict(
    backbone=RESNET18,
    neck=FPN,
    bbox_head=dict(
        in_channels=16, feat_channels=16, stacked_convs=1, num_classes=1))

RUN = """
data = {data!r}
train_cfg = dict(by_epoch=True, max_epochs=1)
val_cfg = test_cfg = dict()
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3))
load = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale=(96, 96), keep_ratio=True),
]
train_dataloader = dict(
    batch_size=2, num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CocoDataset', data_root=data, ann_file='annotations.json',
        data_prefix=dict(img=''), metainfo=dict(classes=('gland', )),
        pipeline=[
            *load,
            dict(type='RandomFlip', prob=1.0),
            dict(type='RandomCrop', crop_size=(64, 64)),
            dict(type='PhotoMetricDistortion'),
            dict(type='PackDetInputs')]))
val_dataloader = dict(
    batch_size=1, num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset', data_root=data, ann_file='annotations.json',
        data_prefix=dict(img=''), metainfo=dict(classes=('gland', )),
        test_mode=True,
        pipeline=[
            load[0], load[2], load[1],
            dict(
                type='PackDetInputs',
                meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape',
                           'scale_factor'))]))
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(
    type='CocoMetric', ann_file=data + '/annotations.json',
    metric=['bbox', 'segm'])
visualizer = dict(type='DetLocalVisualizer')
default_hooks = dict(
    visualization=dict(type='DetVisualizationHook', draw=True, interval=2))
"""


def load_config(tmp_path, base, model, run='', bases=()):
    path = tmp_path / 'config.py'
    text = MODEL.format(bases=[f'mmdet::_base_/models/{base}', *bases],
                        model=model)
    path.write_text(text + run)
    return Config.fromfile(path)


def test_runner_trains_and_tests_mask_rcnn(tmp_path, coco_folder):
    config = load_config(tmp_path, 'mask-rcnn_r50_fpn.py', MASK_RCNN,
                         RUN.format(data=str(coco_folder)),
                         ['mmmedmask::_base_/default_runtime.py'])
    config.work_dir = str(tmp_path / 'work')
    runner = Runner.from_cfg(config)
    before = {name: parameter.detach().clone()
              for name, parameter in runner.model.named_parameters()
              if parameter.requires_grad}
    runner.train()

    losses = runner.message_hub.log_scalars
    for name in ('loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox',
                 'loss_mask'):
        history, _ = losses[f'train/{name}'].data
        assert len(history) == 2, name
        assert np.isfinite(history).all(), name
        assert max(history) > 0, name
    for name, parameter in runner.model.named_parameters():
        if name in before:
            assert not torch.equal(parameter, before[name]), name
    # Validation ran, on boxes and on masks.
    for metric in ('bbox_mAP', 'segm_mAP'):
        assert 0 <= runner.message_hub.get_scalar(
            f'val/coco/{metric}').current() <= 1
    assert (tmp_path / 'work' / 'epoch_1.pth').is_file()

    metrics = runner.test()
    assert 0 <= metrics['coco/segm_mAP_50'] <= 1
    pictures = list((tmp_path / 'work').rglob('vis_image/*.png'))
    assert pictures


def test_masks_survive_loading_and_score_perfectly(tmp_path, coco_folder):
    """RLE masks are read exactly, and predicting them gives an AP of 1."""
    from mmdet.registry import DATASETS, METRICS

    config = load_config(tmp_path, 'mask-rcnn_r50_fpn.py', {},
                         RUN.format(data=str(coco_folder)))
    data_config = config.val_dataloader.dataset
    data_config.pipeline = [
        config.load[0], config.load[1], data_config.pipeline[-1]]
    dataset = DATASETS.build(data_config)
    metric = METRICS.build(config.val_evaluator)
    metric.dataset_meta = dataset.metainfo
    drawn = np.load(coco_folder / 'masks.npy')
    for index, masks in enumerate(drawn):
        sample = dataset[index]['data_samples']
        truth = sample.gt_instances
        assert np.array_equal(truth.masks.masks, masks)
        prediction = dict(bboxes=truth.bboxes.tensor, labels=truth.labels,
                          scores=torch.tensor([0.9, 0.8]),
                          masks=torch.from_numpy(truth.masks.masks).bool())
        metric.process({}, [dict(sample.metainfo, pred_instances=prediction)])
    metrics = metric.evaluate(len(dataset))
    assert metrics['coco/bbox_mAP'] == 1
    assert metrics['coco/segm_mAP'] == 1


def make_batch(device):
    """Two images with ground truth, as mmdet's pipeline packs them."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    generator = np.random.default_rng(1)
    inputs, samples = [], []
    for _ in range(2):
        masks, image = draw_ellipses(2, generator)
        boxes = []
        for mask in masks:
            rows, columns = np.nonzero(mask)
            boxes.append([columns.min(), rows.min(), columns.max() + 1,
                          rows.max() + 1])
        sample = DetDataSample(
            metainfo=dict(
                img_shape=SIZE, ori_shape=SIZE, scale_factor=(1., 1.)))
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor(np.array(boxes), dtype=torch.float32),
            labels=torch.zeros(2, dtype=torch.long),
            masks=BitmapMasks(masks, *SIZE)).to(device)
        inputs.append(torch.from_numpy(image).permute(2, 0, 1))
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


@pytest.mark.parametrize(
    'device', ['cpu', pytest.param('cuda', marks=pytest.mark.gpu)])
@pytest.mark.parametrize(('base', 'changes', 'losses'), [
    ('mask-rcnn_r50-caffe-c4.py', MASK_RCNN_C4,
     {'loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox', 'loss_mask'}),
    ('retinanet_r50_fpn.py', RETINANET, {'loss_cls', 'loss_bbox'}),
])
def test_step_and_inference(tmp_path, device, base, changes, losses):
    torch.manual_seed(0)
    config = load_config(tmp_path, base, changes)
    model = MODELS.build(config.model).to(device)
    batch = make_batch(device)

    model.train()
    data = model.data_preprocessor(batch, True)
    parsed, log = model.parse_losses(model(**data, mode='loss'))
    assert losses <= set(log)
    assert torch.isfinite(parsed)
    parsed.backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name

    model.eval()
    with torch.no_grad():
        results = model.test_step(batch)
    predictions = results[0].pred_instances
    assert len(predictions) > 0
    # NMS returns them by falling score.
    assert (predictions.scores.diff() <= 0).all()
    if 'loss_mask' in losses:
        assert predictions.masks.shape == (len(predictions), *SIZE)
