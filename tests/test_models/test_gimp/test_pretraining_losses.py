"""Masked patch modelling and the heads of both rivals (checks 13 to 16)."""


from operator import call

import pytest
import torch
from refusals import refuses

from mmmedmask.functional.contrastive_losses import info_nce
from mmmedmask.functional.triplets import triplet_loss
from mmmedmask.models.gimp import InfoNCEHead, MPMHead, TripletHead
from mmmedmask.models.gimp.heads import masked_l1
from mmmedmask.registry import MODELS

LABELS = torch.tensor([0, 1, 0, 2, 1, 0, 1, -1])


# Check 13: masked L1, Eq. 3.
def test_masked_l1_by_hand():
    """Errors 1 + 2 and .5 + .5; the gradient is the sign over M * D."""
    target = torch.tensor([[0., 1.], [2., 2.]])
    prediction = torch.tensor([[1., 3.], [1.5, 2.5]], requires_grad=True)
    loss = masked_l1(prediction, target, 2)
    loss.backward()
    assert loss.item() == 1
    assert prediction.grad.tolist() == [[.25, .25], [-.25, .25]]
    assert masked_l1(prediction, target, 2, 'sum').item() == 2
    assert masked_l1(target, target, 2).item() == 0


@pytest.mark.parametrize('reduction', ['mean', 'sum'])
@pytest.mark.parametrize('norm_target', [False, True])
def test_loss_equals_loops(norm_target, reduction):
    head = MPMHead(4, 6, depth=2, norm_target=norm_target,
                   reduction=reduction).double()
    tokens = torch.randn(3, 7, 4, dtype=torch.float64, requires_grad=True)
    patches = 5 + 3 * torch.randn(3, 7, 6, dtype=torch.float64)
    mask = torch.rand(3, 7) < .5
    decoded = head(tokens)
    total = 0.0
    for bag, place in mask.nonzero().tolist():
        target = patches[bag, place]
        if norm_target:
            mean = sum(target) / 6
            variance = sum((one - mean)**2 for one in target) / 6
            target = (target - mean) / (variance + 1e-6).sqrt()
        for dim in range(6):
            total += abs(decoded[bag, place, dim].item() - target[dim].item())
    want = total / (3 if reduction == 'sum' else 6 * int(mask.sum()))
    loss = head.loss(tokens, patches, mask)
    assert abs(loss.item() - want) < 1e-10
    gradient, = torch.autograd.grad(loss, tokens)
    assert torch.equal(gradient.any(dim=-1), mask)


def test_nothing_masked_is_zero_with_a_graph():
    head, tokens = MPMHead(4, 6), torch.randn(1, 5, 4, requires_grad=True)
    loss = head.loss(tokens, torch.randn(1, 5, 6),
                     torch.zeros(1, 5, dtype=torch.bool))
    assert loss.item() == 0
    loss.backward()
    assert not tokens.grad.any()


def test_decoder_is_light_and_its_loss_in_float32():
    head = MODELS.build(dict(type='mmmedmask.MPMHead', in_dims=8, out_dims=16))
    head.init_weights()
    assert [tuple(one.shape) for one in head.parameters()] == [
        (8, ), (8, ), (16, 8), (16, )]
    assert len(MPMHead(8, 16, depth=2).decoder) == 4
    tokens, patches = torch.randn(2, 50, 8), torch.randn(2, 50, 16)
    mask = torch.rand(2, 50) < .5
    want = head.loss(tokens, patches, mask)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        got = head.loss(tokens, patches.half(), mask)
    assert got.dtype == torch.float32
    assert abs(got.item() - want.item()) < .02 * want.item()


@pytest.mark.parametrize('mining', ['all', 'batch_hard', 'semi_hard',
                                    'random'])
def test_triplet_head_is_its_function_with_a_log(mining):
    head = MODELS.build(dict(type='mmmedmask.TripletHead', margin=.5,
                             mining=mining, normalize='each', loss_weight=3.0))
    image = torch.randn(8, 5, requires_grad=True)
    genes, uniform = torch.randn(8, 4), torch.rand(8, 2)
    losses = head.loss(image, genes, LABELS, uniform)
    want = triplet_loss(image, genes, LABELS, .5, mining, 'each', uniform)
    assert losses.pop('loss_tri').item() == pytest.approx(3 * want.loss.item())
    assert losses == dict(
        tri_active=want.active_share, tri_count=want.num_triplets,
        d2_ap_img=want.positive_image, d2_an_img=want.negative_image,
        d2_ap_ge=want.positive_genes, d2_an_ge=want.negative_genes)
    for name, scalar in losses.items():
        # The runner averages what it logs, and adds up what has loss in
        # its name.
        assert scalar.is_floating_point(), name
        assert not scalar.requires_grad, name
        assert 'loss' not in name
    alone = head.loss(image, None, LABELS, uniform)
    assert set(losses) - set(alone) == {'d2_ap_ge', 'd2_an_ge'}


def test_contrast_head_compares_those_with_both():
    head = InfoNCEHead(temperature=.5, loss_weight=2.0)
    image, genes = torch.randn(8, 4), torch.randn(8, 4)
    keep = torch.tensor([1, 1, 0, 1, 0, 1, 1, 1]).bool()
    losses = head.loss(image, genes, keep)
    want = 2 * info_nce(image[keep], genes[keep], .5)
    assert losses['loss_nce'].item() == pytest.approx(want.item())
    assert not list(head.parameters())
    everybody = head.loss(image[keep], genes[keep])['loss_nce']
    assert torch.equal(everybody, losses['loss_nce'])
    image.requires_grad_()
    nobody = head.loss(image, genes, torch.zeros(8, dtype=torch.bool))
    assert nobody['loss_nce'].item() == 0
    nobody['loss_nce'].backward()


def test_contrast_head_learns_its_projections():
    head = MODELS.build(dict(type='mmmedmask.InfoNCEHead', proj_dims=3,
                             image_dims=5, gene_dims=4))
    head.loss(torch.randn(8, 5), torch.randn(8, 4),
              torch.ones(8, dtype=torch.bool))['loss_nce'].backward()
    assert [tuple(weight.shape) for weight in head.parameters()] == [
        (3, 5), (3, 4)]
    for parameter in head.parameters():
        assert parameter.grad.any()


test_bad_arguments_are_refused_by_value = refuses(call, [
    (lambda: MPMHead(0, 6), 'in_dims .* 0'),
    (lambda: MPMHead(4, 0), 'out_dims .* 0'),
    (lambda: MPMHead(4, 6, depth=0), 'depth .* 0'),
    (lambda: MPMHead(4, 6, reduction='max'), "'max'"),
    (lambda: masked_l1(torch.ones(1), torch.ones(1), 1, 'none'), "'none'"),
    (lambda: TripletHead(margin=-1), 'margin .* -1'),
    (lambda: TripletHead(loss_weight=-2), 'loss_weight .* -2'),
    (lambda: TripletHead(mining='easy'), "'easy'"),
    (lambda: TripletHead(normalize='l1'), "'l1'"),
    (lambda: InfoNCEHead(temperature=0), 'temperature .* 0'),
    (lambda: InfoNCEHead(loss_weight=-2), 'loss_weight .* -2'),
    (lambda: InfoNCEHead(proj_dims=8, image_dims=4), 'gene_dims .* None')])
