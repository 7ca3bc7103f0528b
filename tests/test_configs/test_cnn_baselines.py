"""The convolutional rows of CMIM's Table 1: settings, views, chains."""

import math

import cv2
import numpy as np
import pytest
import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, TRANSFORMS, DefaultScope
from shipped_configs import (
    groups_of,
    hooks_of,
    load,
    parameters_in,
    source_of,
    train,
    without_tests,
)
from torch import nn

from mmmedmask.engine.checkpoint import reading
from mmmedmask.engine.checkpoint.matching import compare_modules
from mmmedmask.shrinking.shrink import shrink_config

CONTRASTIVE = {'simclr': 'simclr_resnet18_8xb128-coslr-{}e_nct',
               'byol': 'byol_resnet18_8xb128-coslr-{}e_nct',
               'mocov1': 'mocov1_resnet18_8xb32-steplr-{}e_nct',
               'mocov2': 'mocov2_resnet18_8xb32-coslr-{}e_nct',
               'densecl': 'densecl_resnet18_8xb32-coslr-{}e_nct'}
# What detectors start from.
PRETRAINING = {
    **{method: name.format(800) for method, name in CONTRASTIVE.items()},
    'spark': 'spark_sparse-resnet18_8xb32-coslr-800e_nct',
    'supervised': 'supervised_resnet18_8xb32-steplr-100e_nct'}


def detection(method, dataset):
    return load(f'mask-rcnn_{method}-resnet18-fpn_8xb2-1x_{dataset}')


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    np.random.seed(0)


# Optimiser, rate, decay, images of a step, epochs; from ConCL's release, for
# SparK 2e-4 per 512 images.
OPTIMISERS = {'simclr': ('LARS', .6, 1e-6, 1024, 800),
              'byol': ('LARS', .2, 1.5e-6, 1024, 800),
              'mocov1': ('SGD', .03, 1e-4, 256, 800),
              'mocov2': ('SGD', .03, 1e-4, 256, 800),
              'densecl': ('SGD', .03, 1e-4, 256, 800),
              'spark': ('Lamb', 1e-4, .04, 256, 800),
              'supervised': ('SGD', .1, 1e-4, 256, 100)}


@pytest.mark.parametrize('method', OPTIMISERS)
def test_optimisation(method):
    cfg = load(PRETRAINING[method])
    kind, rate, decay, batch, epochs = OPTIMISERS[method]
    optimizer = cfg.optim_wrapper.optimizer
    assert optimizer.type == kind
    assert optimizer.lr == pytest.approx(rate)
    assert optimizer.weight_decay == pytest.approx(decay)
    assert optimizer.get('momentum', .9) == .9
    assert 8 * cfg.train_dataloader.batch_size == batch
    assert cfg.auto_scale_lr.base_batch_size == batch
    assert cfg.train_cfg.max_epochs == epochs
    assert cfg.train_dataloader.dataset.type == 'mmmedmask.NCTCRC'
    assert cfg.model.backbone.depth == 18
    assert not cfg.model.backbone.zero_init_residual
    # LAMB clips by itself; a second clipping at 5 would never be reached.
    clipping = cfg.optim_wrapper.get('clip_grad')
    assert (optimizer.get('max_grad_norm'), clipping) == (
        (5, None) if method == 'spark' else (None, clipping))


def test_rates_over_the_epochs():
    """800 epochs: cosine to the end, but MoCo v1's steps stay where they are.
    """
    spans = {method: [(one.type, one.get('begin', 0), one.get('end'),
                       one.get('T_max')) for one in load(
                           PRETRAINING[method]).param_scheduler]
             for method in PRETRAINING}
    # Without an end they end with the run.
    cosine = ('CosineAnnealingLR', 0, None, None)
    assert spans['mocov2'] == spans['densecl'] == [cosine]
    for method, epochs in (('simclr', 10), ('byol', 2), ('spark', 40)):
        assert spans[method][:2] == [('LinearLR', 0, epochs, None),
                                     ('CosineAnnealingLR', epochs, None, None)]
    steps = {method: load(PRETRAINING[method]).param_scheduler
             for method in ('mocov1', 'supervised')}
    assert [one.milestones for one in steps['mocov1']] == [[120, 160]]
    assert [one.milestones for one in steps['supervised']] == [[80]]
    decay = load(PRETRAINING['spark']).param_scheduler[2]
    assert (decay.type, decay.eta_min, decay.begin) == (
        'CosineAnnealingWeightDecay', .2, 0)


@pytest.mark.parametrize('method', CONTRASTIVE)
def test_800_epochs_differ_from_200_in_the_epochs_alone(method):
    short, long = (load(CONTRASTIVE[method].format(epochs))
                   for epochs in (200, 800))
    assert short.train_cfg.pop('max_epochs') == 200
    assert long.train_cfg.pop('max_epochs') == 800
    assert short._cfg_dict == long._cfg_dict


def test_models():
    models = {method: load(name).model for method, name in PRETRAINING.items()}
    for method, temperature in (('simclr', .1), ('mocov1', .07),
                                ('mocov2', .2), ('densecl', .2)):
        assert models[method].head.temperature == temperature
        assert models[method].neck.out_channels == 128
    for method in ('mocov1', 'mocov2', 'densecl'):
        model = models[method]
        assert (model.queue_len, model.feat_dim) == (16384, 128)
        # Whole batches fill the queue.
        assert model.queue_len % OPTIMISERS[method][3] == 0
        assert model.backbone.norm_cfg == dict(type='BN')
    for method in ('simclr', 'byol', 'mocov2', 'densecl'):
        assert models[method].neck.hid_channels == 512
    for method in ('simclr', 'byol', 'supervised'):
        assert models[method].backbone.norm_cfg == dict(type='SyncBN')
    assert models['mocov1'].neck.norm_cfg is None
    assert models['byol'].head.predictor.hid_channels == 512
    assert models['densecl'].loss_lambda == .5
    hooks = hooks_of(load(PRETRAINING['densecl']))
    assert hooks['DenseCLHook'].start_iters == 1000
    assert models['supervised'].head.num_classes == 9
    spark = models['spark']
    assert (spark.mask_ratio, spark.enc_dec_norm_dim,
            spark.neck.feature_dim, spark.head.patch_size) == (
                .6, 512, 512, 32)


@pytest.mark.parametrize('method', ['simclr', 'mocov1', 'mocov2', 'densecl'])
def test_contrastive_loss_is_that_of_the_temperature(method):
    """One positive, three negatives: written out."""
    config = load(PRETRAINING[method]).model.head
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        head = MODELS.build(config)
    temperature = {'simclr': .1, 'mocov1': .07}.get(method, .2)
    positive, negatives = .8, (.3, -.2, .5)
    loss = head.loss(torch.tensor([[positive]]), torch.tensor([negatives]))
    terms = [math.exp(one / temperature) for one in (positive, *negatives)]
    assert loss.item() == pytest.approx(
        -math.log(terms[0] / sum(terms)), rel=1e-5)


# Kinds of steps with how often each is done, of the first and second view.
CROP, FLIP, GRAY = ('RandomResizedCrop', 1), ('RandomFlip', .5), (
    'RandomGrayscale', .2)
# In RGB; mmpretrain's takes every image for BGR.
COLOURS = 'mmmedmask.ColorJitter'
JITTER, BLUR = (COLOURS, .8), ('GaussianBlur', .5)
VIEWS = {
    'mocov1': ([CROP, GRAY, (COLOURS, 1), FLIP], ),
    'mocov2': ([CROP, JITTER, GRAY, BLUR, FLIP], ),
    'densecl': ([CROP, JITTER, GRAY, BLUR, FLIP], ),
    'simclr': ([CROP, FLIP, JITTER, GRAY, BLUR], ),
    'byol': (
        [CROP, FLIP, JITTER, GRAY, ('GaussianBlur', 1), ('Solarize', 0)],
        [CROP, FLIP, JITTER, GRAY, ('GaussianBlur', .1), ('Solarize', .2)])}
# Least share of a tile; brightness, contrast, saturation and hue.
CROPS_AND_COLOURS = {
    'mocov1': (.2, (.4, .4, .4, .4)), 'mocov2': (.2, (.4, .4, .4, .1)),
    'densecl': (.2, (.4, .4, .4, .1)), 'simclr': (.08, (.8, .8, .8, .2)),
    'byol': (.08, (.4, .4, .2, .1))}


@pytest.mark.parametrize('method', VIEWS)
def test_views(method):
    _, two_views, _ = load(
        PRETRAINING[method]).train_dataloader.dataset.pipeline
    assert two_views.type == 'MultiView'
    expected = VIEWS[method]
    assert two_views.num_views == (2 if len(expected) == 1 else [1, 1])
    share, colours = CROPS_AND_COLOURS[method]
    for steps, view in zip(two_views.transforms, expected, strict=True):
        flat = [(one.transforms[0], one.prob) if one.type == 'RandomApply'
                else (one, one.get('prob', 1)) for one in steps]
        assert [(one.type, prob) for one, prob in flat] == view
        parts = {one.type: one for one, _ in flat}
        crop, jitter = parts['RandomResizedCrop'], parts[COLOURS]
        assert (crop.scale, crop.crop_ratio_range) == (224, (share, 1.0))
        assert tuple(jitter[name] for name in (
            'brightness', 'contrast', 'saturation', 'hue')) == colours


def test_a_sample_has_two_views_in_rgb(tmp_path):
    """A red tile on disk, as TIFF: red views, and the gray of red."""
    (tmp_path / 'meta').mkdir()
    (tmp_path / 'data/TUM').mkdir(parents=True)
    (tmp_path / 'meta/train.txt').write_text('TUM/TUM-RED.tif\r\n')
    red = np.zeros((224, 224, 3), np.uint8)
    red[..., 2] = 255  # OpenCV writes BGR
    cv2.imwrite(str(tmp_path / 'data/TUM/TUM-RED.tif'), red)
    cfg = load(PRETRAINING['mocov2']).train_dataloader.dataset
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        from mmengine.registry import DATASETS
        cfg.data_root = str(tmp_path)
        dataset = DATASETS.build(cfg)
        steps = cfg.pipeline[1].transforms[0]
        gray = TRANSFORMS.build(dict(
            next(one for one in steps if one.type == 'RandomGrayscale'),
            prob=1.0))
        blur = TRANSFORMS.build(
            next(one for one in steps if one.type == 'GaussianBlur'))
    loaded = dataset.pipeline.transforms[0](dict(dataset.get_data_info(0)))
    assert loaded['img'].reshape(-1, 3).mean(0).tolist() == [255, 0, 0]
    assert set(gray(loaded)['img'].ravel()) == {int(.2989 * 255)}
    seen = set()
    for _ in range(12):
        first, second = dataset[0]['inputs']
        for view in (first, second):
            assert (view.shape, view.dtype) == ((3, 224, 224), torch.uint8)
            seen.add(tuple(view[:, 0, 0].tolist()))
    # Colours differ between views, and most are still red.
    assert len(seen) > 6
    assert sum(view[0] > view[1] for view in seen) > len(seen) / 2
    radii = [blur.random_magnitude() for _ in range(300)]
    assert .1 <= min(radii) < .2
    assert 1.9 < max(radii) <= 2
    assert np.mean(radii) == pytest.approx(1.05, abs=.1)


def build(cfg):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(cfg.model)


@pytest.mark.parametrize(('method', 'excluded_rate'), [
    ('simclr', True), ('byol', True), ('spark', None), ('mocov2', None)])
def test_what_is_not_decayed(method, excluded_rate, tmp_path, drawn_data):
    cfg = shrink_config(load(PRETRAINING[method]), tmp_path, drawn_data)
    model = build(cfg)
    norms = parameters_in(model, nn.modules.batchnorm._BatchNorm)
    decay = OPTIMISERS[method][2]
    checked = 0
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        groups = groups_of(model, cfg.optim_wrapper)
    for name, group in groups.items():
        plain = (name in norms or name.endswith('bias')
                 or 'mask_token' in name) and method != 'mocov2'
        assert group['weight_decay'] == pytest.approx(
            0 if plain else decay), name
        if excluded_rate:
            assert group.get('lars_exclude', False) == plain, name
        checked += plain
    assert checked > 40 or method == 'mocov2'


def test_momentum_is_the_new_part(tmp_path, drawn_data):
    """k <- 0.999 k + 0.001 q for MoCo, 0.996 and 0.004 for BYOL's start."""
    from mmengine.logging import MessageHub
    for method, share in (('mocov2', .001), ('byol', .004)):
        cfg = shrink_config(load(PRETRAINING[method]), tmp_path, drawn_data)
        model = build(cfg)
        average = model.encoder_k if method == 'mocov2' else model.target_net
        online = nn.Sequential(model.backbone, model.neck)
        if method == 'byol':
            hub = MessageHub.get_current_instance()
            hub.update_info('max_iters', 10**9)
        average.update_parameters(online)  # the first time is a copy
        before = [value.clone() for value in average.module.parameters()]
        for parameter in online.parameters():
            parameter.data += 1
        average.update_parameters(online)
        for old, new in zip(before, average.module.parameters(), strict=True):
            torch.testing.assert_close(new - old, torch.full_like(old, share),
                                       rtol=1e-3, atol=1e-6)


def test_sparse_norms_survive_on_one_device(tmp_path, drawn_data):
    """MMEngine reverts SyncBN there, and a sparse one would become dense."""
    from mmpretrain.models.utils.sparse_modules import (
        SparseBatchNorm2d,
        SparseHelper,
        SparseSyncBatchNorm2d,
    )
    assert not isinstance(revert_sync_batchnorm(SparseSyncBatchNorm2d(4)),
                          SparseSyncBatchNorm2d)
    cfg = shrink_config(load(PRETRAINING['spark']), tmp_path, drawn_data)
    model = revert_sync_batchnorm(build(cfg))
    encoder = model.backbone
    norms = [one for one in encoder.modules()
             if isinstance(one, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) == 20
    assert all(type(one) is SparseBatchNorm2d for one in norms)
    # What is masked says nothing, also by way of the statistics.
    visible = torch.zeros(2, 1, 3, 3, dtype=torch.bool)
    visible[0, 0, 0, 0] = visible[1, 0, 1:, 2] = True
    SparseHelper._cur_active = visible
    pixels = visible.repeat_interleave(32, 2).repeat_interleave(32, 3)
    images = torch.randn(2, 3, 96, 96) * pixels
    stem = encoder.norm1(encoder.conv1(images))
    seen = pixels[:, 0, ::2, ::2]
    assert torch.all(stem.permute(0, 2, 3, 1)[~seen] == 0)
    values = stem.permute(0, 2, 3, 1)[seen]
    torch.testing.assert_close(
        values.mean(0), torch.zeros(64), rtol=0, atol=1e-5)
    torch.testing.assert_close(
        values.var(0, unbiased=False), torch.ones(64), rtol=0, atol=2e-2)


@pytest.mark.parametrize('method', PRETRAINING)
@pytest.mark.parametrize('dataset', ['glas', 'crag'])
def test_detectors_differ_in_the_checkpoint_alone(method, dataset):
    main, cfg = detection('cmim', dataset), detection(method, dataset)
    assert source_of(cfg.model.backbone.pop('init_cfg')) == PRETRAINING[method]
    main.model.backbone.pop('init_cfg')
    for one in (main, cfg):
        one.pop('checkpoint')
    assert cfg._cfg_dict == main._cfg_dict


@pytest.mark.parametrize('method', PRETRAINING)
def test_the_online_encoder_arrives_whole(method, tmp_path, drawn_data):
    """A checkpoint of a run, in the backbone of its detector."""
    cfg = without_tests(
        shrink_config(load(PRETRAINING[method]), tmp_path, drawn_data))
    # A rate at which two steps show.
    cfg.param_scheduler = []
    runner, _, _ = train(cfg)
    file = tmp_path / 'run' / 'epoch_1.pth'
    tensors = reading.get_state_dict(reading.read_checkpoint(file))
    detector = detection(method, 'glas')
    config = detector.model.backbone
    config.init_cfg.checkpoint = str(file)
    config.norm_cfg.type = 'BN'
    with DefaultScope.overwrite_default_scope('mmdet'):
        backbone = MODELS.build(config)
    backbone.init_weights()
    report = compare_modules(
        [backbone], tensors, config.init_cfg.prefix, compare_values=True,
        allowed_missing=(),
        allowed_unused=detector.default_hooks.load_check.get(
            'allowed_unused', ()))
    assert len(report.matched) == report.expected == 120
    assert not report.unused
    trained = runner.model.backbone.state_dict()
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, trained[name]), name
    # Not the averaged one, which lies beside it and lags behind.
    averaged = {'byol': 'target_net.', 'simclr': '', 'spark': '',
                'supervised': ''}.get(method, 'encoder_k.')
    if averaged:
        weight = tensors[f'{averaged}module.0.layer4.0.conv1.weight']
        assert not torch.equal(weight, trained['layer4.0.conv1.weight'])
