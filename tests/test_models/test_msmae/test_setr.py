"""SETR: the loss, the head, and weights that arrive with every value."""

import math

import mmpretrain.models  # noqa: F401
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.models import VisionTransformer
from refusals import refuses
from shipped_configs import (
    CONFIGS,
    load,
    pretrained,
    read,
    source_of,
    train,
)

from mmmedmask.apis import enable_test_time_augmentation
from mmmedmask.models.msmae.segmentation_loss import BCEDiceLoss
from mmmedmask.shrinking.model_sizes import (
    DIMS,
    LAYERS,
    MSMAE_GRID,
    tiny_arch,
)
from mmmedmask.shrinking.shrink import shrink_config

MAIN = 'setr-pup_msmae-vit-base-p16_1xb8-200e_busi'


def naive_loss(scores, label, weight=None, ignore_index=255):
    """Equation 9, image by image, in float64."""
    dice, entropy, counted = 0., 0., 0.
    weight = torch.ones(label.shape) if weight is None else weight
    for score, target, shares in zip(scores[:, 0].double(), label, weight,
                                     strict=True):
        score, target, shares = (one[target != ignore_index]
                                 for one in (score, target, shares))
        p = 1 / (1 + torch.exp(-score))
        dice += 1 - (2 * (shares * p * target).sum() + 1e-5) / (
            (shares * (p + target)).sum() + 1e-5)
        entropy -= (shares * torch.where(target == 1, p, 1 - p).log()).sum()
        counted += shares.sum()
    return float(dice / len(label) + 0.5 * entropy / counted)


@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('ignored', [False, True])
def test_loss_equals_the_equation(weighted, ignored):
    scores = 2 * torch.randn(3, 1, 5, 6)
    label = torch.randint(0, 2, (3, 5, 6))
    label[2] = 0  # An image without a lesion.
    if ignored:
        label[0, :2] = 255
        label[2, :, 3] = 255
    weight = torch.rand(3, 5, 6) if weighted else None
    loss = BCEDiceLoss()(scores, label, weight=weight)
    assert loss.item() == pytest.approx(
        naive_loss(scores, label, weight), abs=1e-5)


@pytest.mark.parametrize(('target', 'dice', 'expected'), [
    (1, 1 / 3, '0.67991'), (0, 1, '1.34657')])
def test_loss_at_logits_zero(target, dice, expected):
    """Numeric check 18 of the reference."""
    loss = BCEDiceLoss()(
        torch.zeros(2, 1, 224, 224), torch.full((2, 224, 224), target))
    assert loss.item() == pytest.approx(0.5 * math.log(2) + dice, abs=1e-6)
    assert f'{loss.item():.5f}' == expected


@pytest.mark.parametrize('fraction', [.05, .5, .95])
def test_both_parts_pull_the_same_way(fraction):
    """Up on the lesion, down beside it."""
    label = (torch.rand(2, 16, 16) < fraction).long()
    for weights in (dict(bce_weight=0, dice_weight=1),
                    dict(bce_weight=1, dice_weight=0)):
        scores = torch.randn(2, 1, 16, 16, requires_grad=True)
        BCEDiceLoss(**weights)(scores, label).backward()
        gradient = scores.grad[:, 0]
        assert (gradient[label == 1] < 0).all(), weights
        assert (gradient[label == 0] > 0).all(), weights


def test_the_dice_loss_of_mmseg_pulls_the_other_way():
    """Why there is a loss of our own; when this fails it may go."""
    from mmseg.models.losses import DiceLoss
    label = torch.tensor([[[0, 1], [1, 1]]])
    scores = torch.zeros(1, 1, 2, 2, requires_grad=True)
    DiceLoss(naive_dice=True)(scores, label).backward()
    assert (scores.grad[:, 0][label == 1] > 0).all()
    assert (scores.grad[:, 0][label == 0] < 0).all()


def test_ignored_pixels_have_no_influence():
    label = torch.randint(0, 2, (2, 6, 6))
    label[:, :3] = 255
    scores = torch.randn(2, 1, 6, 6, requires_grad=True)
    loss = BCEDiceLoss()(scores, label)
    loss.backward()
    assert (scores.grad[:, :, :3] == 0).all()
    assert (scores.grad[:, :, 3:] != 0).all()
    other = scores.detach().clone()
    other[:, :, :3] = 30 * torch.randn(2, 1, 3, 6)
    assert BCEDiceLoss()(other, label).item() == loss.item()
    # Another number, and a batch without a pixel that counts.
    assert BCEDiceLoss()(scores, torch.where(label == 255, 7, label),
                         ignore_index=7).item() == loss.item()
    nothing = BCEDiceLoss()(scores, torch.full((2, 6, 6), 255))
    nothing.backward()
    assert nothing.item() == 0
    assert torch.isfinite(scores.grad).all()


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_loss_is_float32(dtype):
    """66,000 pixels are more than float16 can count."""
    scores = torch.randn(1, 1, 257, 257).to(dtype)
    label = torch.ones(1, 257, 257, dtype=torch.long)
    loss = BCEDiceLoss()(scores, label)
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert BCEDiceLoss()(scores, label).item() == pytest.approx(
            loss.item(), rel=1e-6)


@pytest.mark.parametrize(('label', 'message'), [
    (torch.full((1, 4, 4), 2), r'0, 1 and 255 \(ignored\), got \[2\]'),
    (torch.zeros(1, 4, 5, dtype=torch.long), r'\(B, 1, H, W\)'),
    (torch.zeros(1, 1, 4, 4, dtype=torch.long), r'\(1, 1, 4, 4\)')])
def test_bad_labels(label, message):
    with pytest.raises(ValueError, match=message):
        BCEDiceLoss()(torch.zeros(1, 1, 4, 4), label)
    with pytest.raises(ValueError, match='labels must be 0 and 1, got'):
        BCEDiceLoss()(torch.zeros(1, 1, 4, 4), torch.full((1, 4, 4), 255),
                      ignore_index=None)


test_bad_loss_arguments = refuses(BCEDiceLoss, [
    (dict(bce_weight=-1), 'bce_weight must be at least 0, got -1'),
    (dict(dice_weight=-1), 'dice_weight must be at least 0, got -1'),
    (dict(bce_weight=0, dice_weight=0), 'sum .* must be positive, got 0')])


def plain_head(**arguments):
    from mmmedmask.models.msmae.setr_head import PlainSETRHead
    return PlainSETRHead(norm_cfg=dict(type='BN'), **arguments)


def test_plain_head_has_the_released_geometry():
    """Its blocks are tested below, by their formula."""
    head = plain_head()
    assert [block[0].in_channels for block in head.blocks] == [768, *[256] * 3]
    # 3.54 M in the reference.
    assert round(sum(p.numel() for p in head.parameters()) / 1e6, 2) == 3.54
    assert head.dropout is None
    assert (head.threshold, head.num_classes, head.out_channels) == (.5, 2, 1)
    assert not head.align_corners


def test_plain_head_uses_the_last_features_alone():
    head = plain_head(in_channels=6, channels=4).eval()
    features = [torch.randn(2, 6, 3, 5, requires_grad=True) for _ in range(4)]
    logits = head(features)
    assert logits.shape == (2, 1, 48, 80)
    logits.sum().backward()
    assert [one.grad is None for one in features] == [True] * 3 + [False]
    assert plain_head(in_channels=6, channels=4, num_convs=3)(
        features).shape == (2, 1, 24, 40)


def test_plain_head_equals_its_formula():
    """Convolution, normalisation by the batch, ReLU, corners aligned."""
    import torch.nn.functional as F
    head = plain_head(in_channels=6, channels=4, num_convs=2)
    x = torch.randn(2, 6, 3, 5)
    expected = x
    for block in head.blocks:
        expected = F.conv2d(expected, block[0].conv.weight, padding=1)
        mean = expected.mean((0, 2, 3), keepdim=True)
        variance = expected.var((0, 2, 3), correction=0, keepdim=True)
        expected = F.relu((expected - mean) / (variance + 1e-5).sqrt())
        rows, columns = expected.shape[-2:]
        expected = F.interpolate(expected, (2 * rows, 2 * columns),
                                 mode='bilinear', align_corners=True)
    expected = F.conv2d(
        expected, head.conv_seg.weight, head.conv_seg.bias, padding=1)
    torch.testing.assert_close(head([x]), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('arguments', [
    dict(num_convs=0), dict(threshold=0), dict(threshold=1.2)])
def test_bad_head_arguments(arguments):
    with pytest.raises(ValueError, match='must be'):
        plain_head(**arguments)


def test_settings_of_the_reference():
    cfg = read(MAIN)
    assert dict(cfg.optim_wrapper.optimizer) == dict(
        type='Adam', lr=1e-4, weight_decay=1e-4)
    assert cfg.train_cfg.max_epochs == 200
    assert [dict(one) for one in cfg.param_scheduler] == [
        dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True)]
    assert cfg.train_dataloader.batch_size == 8
    preprocessor = cfg.model.data_preprocessor
    assert preprocessor.mean == [123.675, 116.28, 103.53]
    assert preprocessor.std == [58.395, 57.12, 57.375]
    assert not preprocessor.bgr_to_rgb
    backbone = cfg.model.backbone
    assert backbone.out_indices == (3, 5, 7, 11)
    assert not backbone.final_norm
    assert not backbone.fixed_pos_embed
    assert 'drop_rate' not in backbone
    for index, head in enumerate([*cfg.model.auxiliary_head,
                                  cfg.model.decode_head]):
        share = 1 if index == 3 else .4
        wanted = dict(
            type='SETRUPHead', in_index=index, in_channels=768, num_classes=2,
            out_channels=1, threshold=.5, dropout_ratio=0, loss_decode=dict(
                type='mmmedmask.BCEDiceLoss', bce_weight=.5 * share,
                dice_weight=1. * share))
        assert {key: head[key] for key in wanted} == wanted
    train = [step.type for step in cfg.train_dataloader.dataset.pipeline]
    assert train == ['mmmedmask.LoadTile', 'mmmedmask.LoadLesionMask',
                     'mmmedmask.RandomRotate90', 'Resize', 'PackSegInputs']
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        resize, = (step for step in loader.dataset.pipeline
                   if step.type == 'Resize')
        assert resize.scale == (224, 224)
        assert not resize.get('keep_ratio')
    assert cfg.default_hooks.checkpoint.save_best == 'lesion/iou'


def test_rows_of_the_table_differ_in_the_checkpoint_alone():
    rows = [load(MAIN.replace('_msmae', f'_{row}'))
            for row in ('msmae', 'scratch', 'mae', 'amt', 'supervised')]
    weights = [cfg.model.backbone.pop('init_cfg') for cfg in rows]
    assert all(one not in weights[:index] for index, one in enumerate(weights))
    for cfg in rows:
        cfg.default_hooks.pop('load_check')
        cfg.pop('checkpoint')
        assert cfg._cfg_dict == rows[0]._cfg_dict


@pytest.mark.parametrize('name', [
    path.stem for folder in ('benchmarks', 'small')
    for path in sorted((CONFIGS / 'msmae' / folder).glob('setr-*.py'))
    if 'scratch' not in path.stem
])
def test_checkpoint_is_what_a_shipped_config_leaves(name):
    """Its weights have our names and shapes, for pictures of our colours."""
    cfg = load(name)
    source = load(source_of(cfg.model.backbone.init_cfg))
    shapes = []
    for one in (source, cfg):
        init_default_scope(one.default_scope)
        one.model.backbone.init_cfg = None
        with torch.device('meta'):
            backbone = MODELS.build(one.model.backbone)
        shapes.append({key: value.shape
                       for key, value in backbone.state_dict().items()})
    given, wanted = shapes
    assert {key: given.get(key) for key in wanted} == wanted
    assert set(given) - set(wanted) <= {
        'ln1.weight', 'ln1.bias', 'ln2.weight', 'ln2.bias'}
    colors = source.model.get('data_preprocessor') or source.data_preprocessor
    for key in ('mean', 'std'):
        assert cfg.model.data_preprocessor[key] == colors[key]
    for one in (source, cfg):
        data = one.train_dataloader.dataset
        assert (data.data_root.rstrip('/'), data.split_folder) == (
            cfg.data_root.rstrip('/'), cfg.split_folder)


def test_full_size_parameters():
    """99.9 M in the reference: four heads, three of which go unused."""
    init_default_scope('mmseg')
    cfg = load('setr-plain_msmae-vit-base-p16_1xb8-200e_busi')
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    backbone, head = (sum(p.numel() for p in part.parameters())
                      for part in (model.backbone, model.decode_head))
    # The released code drops the biases of query, key and value.
    assert round((backbone - 12 * 3 * 768 + 4 * head) / 1e6, 1) == 99.9
    assert not model.with_auxiliary_head


@pytest.mark.parametrize('name', [
    MAIN, 'setr-plain_msmae-vit-base-p16_1xb8-200e_busi'])
def test_prediction_has_the_size_of_the_file(name, tmp_path, drawn_data):
    """Threshold .5, and the labels are those of the masks on disk."""
    from mmseg.registry import DATASETS
    cfg = shrink_config(load(name), tmp_path, drawn_data)
    init_default_scope('mmseg')
    model = MODELS.build(cfg.model).eval()
    data = DATASETS.build(cfg.val_dataloader.dataset)
    batch = [data[0], data[1]]
    results = model.test_step({key: [one[key] for one in batch]
                               for key in ('inputs', 'data_samples')})
    for result in results:
        assert result.pred_sem_seg.data.shape == (1, 96, 112)
        assert result.gt_sem_seg.data.shape == (1, 96, 112)
        probability = result.seg_logits.data
        assert 0 <= probability.min() <= probability.max() <= 1
        torch.testing.assert_close(
            result.pred_sem_seg.data, (probability > .5).float())


def test_a_file_is_predicted_from_python(tmp_path, drawn_data):
    """As docs/how_to/use_from_python.md says; it is what a test predicts."""
    from mmseg.apis import inference_model, init_model
    from mmseg.registry import DATASETS
    cfg = shrink_config(load(MAIN), tmp_path, drawn_data)
    cfg.test_pipeline = cfg.val_dataloader.dataset.pipeline
    init_default_scope('mmseg')
    saved = MODELS.build(cfg.model).eval()
    torch.save(dict(state_dict=saved.state_dict(), meta=dict(
        dataset_meta=dict(classes=('background', 'lesion')))),
        tmp_path / 'best.pth')
    data = DATASETS.build(cfg.val_dataloader.dataset)
    wanted, = saved.test_step(pseudo_collate([data[1]]))
    model = init_model(cfg, str(tmp_path / 'best.pth'), device='cpu')
    sample = inference_model(model, data.get_data_info(1)['img_path'])
    assert torch.equal(sample.seg_logits.data, wanted.seg_logits.data)
    assert torch.equal(sample.pred_sem_seg.data, wanted.pred_sem_seg.data)


@pytest.mark.parametrize('size', [(64, 80), (65, 80), (57, 61)])
def test_predictions_lie_where_the_image_is(tmp_path, drawn_data, size):
    """Of sizes that patches do not divide, too, padded by hand."""
    from mmseg.models.utils import resize
    from mmseg.structures import SegDataSample
    cfg = shrink_config(load(MAIN), tmp_path, drawn_data)
    init_default_scope('mmseg')
    model = MODELS.build(cfg.model).eval()
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    sample = SegDataSample(metainfo=dict(ori_shape=size, img_shape=size))
    prediction, = model.test_step(dict(
        inputs=[image], data_samples=[sample]))
    preprocessor = model.data_preprocessor
    padded = torch.zeros(1, 3, *(-(-side // 16) * 16 for side in size))
    padded[..., :size[0], :size[1]] = (
        image.float() - preprocessor.mean) / preprocessor.std
    with torch.no_grad():
        logits = resize(model.decode_head(model.backbone(padded)),
                        padded.shape[2:], mode='bilinear')
    torch.testing.assert_close(
        prediction.seg_logits.data,
        logits[0, :, :size[0], :size[1]].sigmoid())
    if size[0] % 16:
        with pytest.raises(ValueError, match=r'\(16, 16\) does not divide'):
            model.backbone(padded[..., :size[0], :])


@pytest.mark.parametrize('name', sorted(
    path.stem for path in CONFIGS.rglob('setr-*_busi*.py')))
def test_augmented_testing_keeps_the_size_of_the_model(name):
    cfg = load(name)
    enable_test_time_augmentation(cfg)
    side = cfg.model.module.backbone.img_size
    augmented, = (step for step in cfg.test_dataloader.dataset.pipeline
                  if step.type == 'TestTimeAug')
    (resize, ), *_ = augmented.transforms
    assert tuple(resize.scale) == (side, side)


def test_augmented_testing_is_the_mean_of_plain_ones(tmp_path, drawn_data):
    """Of the image alone it is plain testing, to the last bit."""
    from mmseg.registry import DATASETS
    cfg = shrink_config(load(MAIN), tmp_path, drawn_data)
    init_default_scope('mmseg')
    plain = MODELS.build(cfg.model).eval()
    model = MODELS.build(dict(cfg.tta_model, module=plain))
    pipeline = cfg.val_dataloader.dataset.pipeline
    steps = cfg.tta_pipeline[-1].transforms

    def predict(model, pipeline):
        data = DATASETS.build(dict(
            cfg.val_dataloader.dataset, pipeline=pipeline))
        sample, = model.test_step(pseudo_collate([data[1]]))
        return sample

    def predict_plainly():
        return predict(plain, pipeline)

    # As that of a trained model: pixels on both sides.
    middle = predict_plainly().seg_logits.data.median().item()
    plain.decode_head.threshold = middle
    wanted = predict_plainly()
    assert wanted.pred_sem_seg.data.unique().tolist() == [0, 1]
    both = list(steps[1])
    steps[1] = both[:1]
    same = predict(model, cfg.tta_pipeline)
    for key in ('seg_logits', 'pred_sem_seg', 'gt_sem_seg'):
        assert torch.equal(same.get(key).data, wanted.get(key).data), key
    steps[1] = both[1:]
    turned = predict(model, cfg.tta_pipeline)
    assert not torch.equal(turned.seg_logits.data, wanted.seg_logits.data)
    steps[1] = both
    mean = predict(model, cfg.tta_pipeline)
    torch.testing.assert_close(mean.seg_logits.data, (
        wanted.seg_logits.data + turned.seg_logits.data) / 2)
    assert torch.equal(mean.pred_sem_seg.data,
                       (mean.seg_logits.data > middle).float())
    assert torch.equal(mean.gt_sem_seg.data, wanted.gt_sem_seg.data)


# ------------------------------------------------------------- the weights
def save_vit(path, **arguments):
    """Save mmpretrain's ViT as pre-training leaves it."""
    arguments = dict(
        arch=tiny_arch(), img_size=16 * MSMAE_GRID, patch_size=16) | arguments
    tensors = VisionTransformer(**arguments).state_dict()
    tensors = {name: torch.randn_like(value) * .05
               for name, value in tensors.items()}
    state = {f'backbone.{name}': value for name, value in tensors.items()}
    state['head.layers.head.weight'] = torch.zeros(3, DIMS)
    state['neck.mask_token'] = torch.zeros(1, 1, 16)
    torch.save({'state_dict': state, 'meta': {'epoch': 300}}, path)
    return tensors


def from_vit(tmp_path, drawn_data, backbone=None, **vit):
    """Train SETR from a plain ViT; what there is of it, its run and start."""
    saved = save_vit(tmp_path / 'epoch_300.pth', **vit)
    cfg = shrink_config(load(MAIN), tmp_path, drawn_data)
    cfg.model.backbone = backbone or cfg.model.backbone
    cfg.model.backbone.update(init_cfg=pretrained(tmp_path / 'epoch_300.pth'))
    cfg.default_hooks.load_check.allow_scratch = False
    cfg.default_hooks.checkpoint = None
    runner, start, _ = train(cfg)
    return saved, runner, {
        name.removeprefix('backbone.'): value for name, value
        in start.tensors.items() if name.startswith('backbone.')}


@pytest.mark.parametrize(('vit', 'unused'), [
    (dict(), {'ln1.weight', 'ln1.bias'}),
    (dict(out_type='avg_featmap', final_norm=False),
     {'ln2.weight', 'ln2.bias'}),
])
def test_weights_of_an_mmpretrain_vit_all_arrive(vit, unused, tmp_path,
                                                 drawn_data):
    """Pre-trained with a final norm, or fine-tuned with that of the mean."""
    saved, runner, start = from_vit(tmp_path, drawn_data, **vit)
    assert set(saved) - set(start) == unused
    # Query, key and value biases too, which the released code drops.
    assert sum(name.endswith('qkv.bias') for name in start) == LAYERS
    for name, value in start.items():
        assert torch.equal(value, saved[name]), name
    scores = runner.message_hub.log_scalars
    assert {'train/decode.loss_bce_dice', 'train/aux_2.loss_bce_dice',
            'val/lesion/iou', 'val/lesion/official_f1'} <= set(scores)
    trained = runner.model.backbone.state_dict()
    assert all(not torch.equal(trained[name], value)
               for name, value in start.items())


def test_weights_missing_or_wrong_end_the_run(tmp_path, drawn_data):
    with pytest.raises(ValueError, match=r'40 of 52 names and shapes fit'):
        from_vit(tmp_path, drawn_data,
                 arch=dict(tiny_arch(), num_layers=LAYERS - 1))


def test_the_names_of_mmsegs_vit_are_caught(tmp_path, drawn_data):
    """It would train with random attention, and say nothing."""
    backbone = dict(
        type='VisionTransformer', img_size=(224, 224), patch_size=16,
        embed_dims=DIMS, num_layers=LAYERS, num_heads=2, mlp_ratio=2,
        out_indices=(0, 1, 2, 3))
    with pytest.raises(ValueError, match='names and shapes fit') as error:
        from_vit(tmp_path, drawn_data, backbone)
    assert 'attn.attn.in_proj_weight' in str(error.value)
