"""A step of ConCL: its loss, its momentum encoder, its queues."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from refusals import refuses
from tiny_runs import tiny_runner

from mmmedmask import apis
from mmmedmask.inspection.building import Parts
from mmmedmask.inspection.config_check import _check_epochs

from .naive_concl import naive_step
from .tiny_concl import box_theta, drawn, step, tiny_model

HALVES = dict(theta_query=box_theta((0, 0, 1, .5)),
              theta_key=box_theta((0, .5, 1, 1)))


@pytest.mark.parametrize('weight', [1., .3])
def test_loss_and_queues_are_those_of_loops(weight, run_state):
    """Two steps, after the first of which the two encoders differ."""
    model = tiny_model(concept_weight=weight, momentum=.3)
    pointers = [0, 0]
    for iteration in range(2):
        run_state['iter'] = iteration
        inputs, samples = drawn(model, range(4 * iteration, 4 * iteration + 4))
        queues = dict(instance_queue=model.instance_queue.keys,
                      concept_queue=model.concept_queue.keys)
        losses = model(inputs, samples, mode='loss')
        want = naive_step(model, inputs | queues, samples, iteration)
        assert {name: loss.item() for name, loss in losses.items()} == (
            pytest.approx(dict(
                instance_nce=want['instance'], concept_nce=want['concept'],
                concept_pairs=np.mean(want['pairs']),
                loss=weight * want['concept'] + (1 - weight) *
                want['instance']), abs=1e-10))
        assert 4 <= sum(want['pairs']) <= 12
        for number, name in enumerate(('instance', 'concept')):
            queue, keys = getattr(model, f'{name}_queue'), want[f'{name}_keys']
            end = pointers[number] + len(keys)
            np.testing.assert_allclose(queue.keys[pointers[number]:end], keys,
                                       atol=1e-12)
            rest = [*range(pointers[number]), *range(end, 32)]
            assert torch.equal(queue.keys[rest], queues[f'{name}_queue'][rest])
            assert queue.pointer.tolist() == [end]
            pointers[number] = end
        losses['loss'].backward()
        with torch.no_grad():
            for parameter in model.neck.parameters():
                parameter -= parameter.grad


def test_instances_alone_count_in_the_warm_up(run_state):
    model = tiny_model(warm_up_epochs=3, concept_weight=1.)
    inputs, samples = drawn(model)
    for epoch in (0, 2, 3):
        run_state['epoch'] = epoch
        before = model.concept_queue.keys
        losses = model(inputs, samples, mode='loss')
        warm = epoch == 3
        assert ('concept_nce' in losses) == warm
        assert losses['loss'].item() == float(
            losses['concept_nce' if warm else 'instance_nce'])
        assert torch.equal(model.concept_queue.keys, before) != warm
        assert int(model.instance_queue.pointer) == {0: 4, 2: 8, 3: 12}[epoch]
    # Who has not asked before training is refused in the first step.
    run_state |= dict(epoch=0, max_epochs=1)
    with pytest.raises(ValueError, match='warm_up_epochs 3 .* none of 1 '):
        model(inputs, samples, mode='loss')


@pytest.mark.parametrize(('by_epoch', 'length', 'weight', 'epochs'), [
    (True, 3, 1., 3), (True, 4, 1., None), (True, 3, 0, None),
    # A loop of iterations has one epoch, the number 0.
    (False, 9, 1., 1)])
def test_a_warm_up_that_does_not_end_is_refused_before_training(
        tmp_path, by_epoch, length, weight, epochs):
    model = tiny_model(warm_up_epochs=3, concept_weight=weight)
    runner = tiny_runner(tmp_path, model, by_epoch=by_epoch, max_iters=length)
    with nullcontext() if epochs is None else pytest.raises(
            ValueError, match=f'3 .* none of {epochs} .*epochs=0'):
        apis.check_iterations(runner)
    config = Config(dict(train_cfg={
        'max_epochs' if by_epoch else 'max_iters': length}))
    findings = list(_check_epochs(config, Parts(model)))
    assert [finding.where for finding in findings] == [
        'model.warm_up_epochs'] * (epochs is not None)


def test_momentum_encoder_follows_and_all_else_learns():
    """It starts as a copy, and takes a tenth of what the step has changed."""
    model = tiny_model(momentum=.1, backbone=dict(norm_cfg=dict(type='BN')))
    batch = drawn(model)

    def pairs():
        query = [*model.backbone.parameters(), *model.neck.parameters()]
        return [(one.detach().clone(), other.clone()) for one, other in zip(
            query, model.key_encoder.module.parameters(), strict=True)]

    step(model, *batch)
    for name, parameter in model.named_parameters():
        if name.startswith('key_encoder.'):
            assert parameter.grad is None
        else:
            assert parameter.grad.any(), name
    after_one = pairs()
    step(model, *batch)
    for (query, key), (_, moved) in zip(after_one, pairs(), strict=True):
        torch.testing.assert_close(moved, .9 * key + .1 * query)


def test_crops_that_do_not_meet_share_what_both_show():
    """Two halves: of three concepts one lies on both sides."""
    model = tiny_model()
    labels = torch.tensor([[[0, 0, 1, 1], [0, 0, 1, 1],
                            [2, 2, 2, 2], [2, 2, 2, 2]]])
    maps = torch.randn(1, 64, 2, 2, dtype=torch.float64)
    loss, pairs = model.contrast_concepts(maps, maps, labels, HALVES)
    assert float(pairs) == 1
    assert int(model.concept_queue.pointer) == 1
    query, key = (
        torch.nn.functional.normalize(neck((maps[:, :, 1].mean(dim=2), ))[0])
        for neck in (model.neck, model.key_encoder.module[1]))
    torch.testing.assert_close(model.concept_queue.keys[:1], key)
    queue = tiny_model().concept_queue.keys
    want = model.head.loss(query, key, queue)
    torch.testing.assert_close(loss, want)


def test_nothing_in_common_is_no_loss():
    model = tiny_model()
    labels = torch.tensor([[[0, 0, 1, 1]] * 4])
    maps = torch.randn(1, 64, 2, 2, dtype=torch.float64, requires_grad=True)
    before = model.concept_queue.keys
    loss, pairs = model.contrast_concepts(maps, maps.detach(), labels, HALVES)
    loss.backward()
    assert loss.item() == float(pairs) == 0
    assert not maps.grad.any()
    assert all(not weight.grad.any() for weight in model.neck.parameters())
    assert torch.equal(model.concept_queue.keys, before)
    assert int(model.concept_queue.pointer) == 0


def textures(index):
    """A tile of three textures: plain, stripes and dots, and the regions."""
    generator = torch.Generator().manual_seed(index)
    rows, columns = torch.meshgrid(torch.arange(224), torch.arange(224),
                                   indexing='ij')
    regions = torch.zeros(224, 224, dtype=torch.long)
    regions[:, 96:] = 1
    regions[128:, 96:] = 2
    tile = torch.full((3, 224, 224), 230.)
    stripes, dots = columns % 16 < 8, (rows % 8 < 3) & (columns % 8 < 3)
    tile[:, regions == 1] = torch.tensor([200., 120, 180])[:, None]
    tile[0, (regions == 1) & stripes] = 120
    tile[:, regions == 2] = torch.tensor([120., 60, 140])[:, None]
    tile[:, (regions == 2) & dots] = 40
    tile += 6 * torch.randn(3, 224, 224, generator=generator)
    return tile.clamp(0, 255), regions


def test_textures_become_concepts():
    """Already a random encoder tells them apart (14 x 14 cells)."""
    model = tiny_model(data_preprocessor=dict(view_size=224))
    _, samples = drawn(model, range(4), size=(32, 32))
    tiles = [textures(index) for index in range(4)]
    images = model.data_preprocessor.normalise(
        torch.stack([tile for tile, _ in tiles]))
    with torch.no_grad():
        labels = model.find_concepts(model.backbone(images.double())[0],
                                     samples)
    assert labels.shape == (4, 14, 14)
    # Each region has a concept that is most of it and of no other. The outer
    # cells see what the convolutions pad with.
    for found, (_, regions) in zip(labels, tiles, strict=True):
        regions, found = regions[24:-16:16, 24:-16:16], found[1:-1, 1:-1]
        names, shares = [], []
        for region in range(3):
            inside = found[regions == region]
            names.append(int(inside.mode().values))
            shares.append(float((inside == names[-1]).float().mean()))
        assert len({*names}) == 3
        assert min(shares) > .65


def test_loss_falls_when_the_same_views_come_again():
    """A batch is told apart from the keys of other tiles."""
    model = tiny_model(dtype=torch.float32)
    with torch.no_grad():
        for first in range(100, 148, 8):
            model(*drawn(model, range(first, first + 8)), mode='loss')
    others = {name: value.clone() for name, value in
              model.concept_queue.state_dict().items()}
    batch = drawn(model, range(8))
    optimizer = torch.optim.SGD(
        [parameter for parameter in model.parameters()
         if parameter.requires_grad], lr=.1, momentum=.9)
    losses = []
    for _ in range(12):
        model.concept_queue.load_state_dict(others)
        loss = model(*batch, mode='loss')['loss']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < .9 * losses[0]


def test_reduced_precision_stays_with_the_encoders():
    model = tiny_model(dtype=torch.float32)
    inputs, samples = drawn(model)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    want = model(inputs, samples, mode='loss')
    model.load_state_dict(start)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        got = model(inputs, samples, mode='loss')
    assert got['loss'].dtype == torch.float32
    assert float(got['instance_nce']) == pytest.approx(
        float(want['instance_nce']), rel=.02)
    assert model.concept_queue.keys.dtype == torch.float32


def test_detectors_find_the_query_encoder():
    """The names and shapes below ``backbone.`` are those of mmdet's ResNet."""
    from mmdet.models import ResNet
    model = MODELS.build(dict(
        type='mmmedmask.ConCL', queue_len=8, feat_dims=4,
        backbone=dict(type='ResNet', depth=18, out_indices=(2, 3)),
        neck=dict(type='MoCoV2Neck', in_channels=512, hid_channels=4,
                  out_channels=4, with_avg_pool=False),
        head=dict(type='mmmedmask.ConCLHead')))
    prefix = 'backbone.'
    own = {name.removeprefix(prefix): value.shape
           for name, value in model.state_dict().items()
           if name.startswith(prefix)}
    assert own == {name: value.shape for name, value in
                   ResNet(18).state_dict().items()}


test_bad_arguments_are_refused_by_value = refuses(tiny_model, [
    (dict(momentum=0), 'momentum .* 0'),
    (dict(momentum=1.), r'momentum .* 1\.0'),
    (dict(concept_weight=1.5), r'concept_weight .* 1\.5'),
    (dict(num_concepts=0), 'num_concepts .* 1, got 0'),
    (dict(kmeans_iterations=0), 'kmeans_iterations .* got 0'),
    (dict(warm_up_epochs=-1), 'warm_up_epochs .* 0, got -1'),
    (dict(queue_len=0), 'length .* 0'),
    (dict(head=dict(temperature=0)), 'temperature .* 0')])


@pytest.mark.parametrize('warm_up', [0, 20])
def test_what_does_not_fit_is_refused_by_value(warm_up):
    """In the first step, not only after the warm-up."""
    model = tiny_model(queue_len=8, warm_up_epochs=warm_up)
    with pytest.raises(ValueError, match='queue of 8 .* queue_len must '
                       'be at least 12'):
        model(*drawn(model), mode='loss')
    model = tiny_model(num_concepts=17, warm_up_epochs=warm_up)
    with pytest.raises(ValueError, match=r'in \[1, 16\], got 17'):
        model(*drawn(model), mode='loss')
