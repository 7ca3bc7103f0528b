"""Fusions and heads against their definitions."""

import math
from operator import call

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.structures import DataSample
from refusals import refuses

from mmmedmask.models.slide_omic import (
    ClasswiseSlideOmicHead,
    ConcatFusion,
    KroneckerFusion,
    SlideOmicHead,
)

DOUBLE = torch.float64


def patients(*labels):
    return [DataSample(metainfo=dict(case_id=f'case-{place}')).set_gt_label(
        label) for place, label in enumerate(labels)]


def test_concatenation_replaces_what_is_missing():
    fusion = ConcatFusion(2, 3)
    torch.nn.init.constant_(fusion.missing_image, 5)
    torch.nn.init.constant_(fusion.missing_genes, 7)
    image, genes = torch.randn(3, 2), torch.randn(3, 3)
    fused = fusion(image, genes, torch.tensor([True, False, True]),
                   torch.tensor([True, True, False]))
    assert fusion.out_dims == 5
    torch.testing.assert_close(fused[0], torch.cat([image[0], genes[0]]))
    torch.testing.assert_close(
        fused[1], torch.cat([torch.full((2, ), 5.), genes[1]]))
    torch.testing.assert_close(
        fused[2], torch.cat([image[2], torch.full((3, ), 7.)]))
    fused.sum().backward()
    assert fusion.missing_image.grad.tolist() == [1, 1]
    assert fusion.missing_genes.grad.tolist() == [1, 1, 1]


def test_missing_vectors_start_at_zero_and_need_not_be_learned():
    nobody = torch.zeros(2, dtype=torch.bool)
    for missing in ('learned', 'zeros'):
        fusion = ConcatFusion(2, 3, missing=missing)
        fused = fusion(torch.randn(2, 2), torch.randn(2, 3), nobody, nobody)
        assert not fused.any()
        assert bool(list(fusion.parameters())) == (missing == 'learned')
        assert bool(fusion.state_dict()) == (missing == 'learned')


def test_a_vector_per_class_meets_the_same_genes():
    fusion = ConcatFusion(2, 3)
    image, genes = torch.randn(4, 5, 2), torch.randn(4, 3)
    has = torch.tensor([True, True, False, True])
    fused = fusion(image, genes, has, None)
    assert fused.shape == (4, 5, 5)
    for label in range(5):
        torch.testing.assert_close(
            fused[:, label], fusion(image[:, label], genes, has, None))


def test_modality_dropout_takes_one_of_two_in_training_alone():
    fusion = ConcatFusion(1, 1, modality_dropout=.4)
    ones = torch.ones(20000, 1)
    assert (fusion.eval()(ones, ones) == 1).all()
    fused = fusion.train()(ones, ones)
    assert not (fused == 0).all(dim=1).any()
    shares = (fused == 0).float().mean(dim=0)
    # Three standard deviations of a share of .2 in 20,000.
    assert (shares - .2).abs().max() < 3 * math.sqrt(.2 * .8 / 20000)
    # Who has one modality keeps it.
    lacks = torch.zeros(20000, dtype=torch.bool)
    fused = fusion(ones, ones, ~lacks, lacks)
    assert (fused == torch.tensor([1, 0])).all()


def naive_gated(module, vector, other, gate):
    """A vector made smaller and gated."""
    reduced = module.reduce(vector).clamp(min=0)
    if gate == 'linear':
        opened = module.gate(torch.cat([vector, other]))
    elif gate == 'bilinear':
        opened = F.bilinear(vector, other, *module.gate.parameters())
    if gate != 'none':
        reduced = reduced / (1 + (-opened).exp())
    return module.out(reduced).clamp(min=0)


@pytest.mark.parametrize('gate', ['linear', 'bilinear', 'none'])
@pytest.mark.parametrize('skip', [False, True])
def test_kronecker_product_equals_its_definition(gate, skip):
    fusion = KroneckerFusion(4, 3, 2, 5, gate, skip).to(DOUBLE).eval()
    image = torch.randn(6, 4, dtype=DOUBLE)
    genes = torch.randn(6, 3, dtype=DOUBLE)
    with torch.no_grad():
        found = fusion(image, genes)
        assert found.shape == (6, fusion.out_dims)
        for row, left, right in zip(found, image, genes, strict=True):
            one = naive_gated(fusion.image, left, right, gate).tolist() + [1]
            two = naive_gated(fusion.genes, right, left, gate).tolist() + [1]
            product = torch.tensor([x * y for x in one for y in two],
                                   dtype=DOUBLE)
            hidden = fusion.product[0](product).clamp(min=0)
            if skip:
                hidden = torch.cat([hidden, torch.tensor(one + two,
                                                         dtype=DOUBLE)])
            expected = fusion.mix[0](hidden).clamp(min=0)
            torch.testing.assert_close(row, expected)


test_arguments_outside_their_range = refuses(call, [
    (lambda: ConcatFusion(0, 3), 'image_dims must be at least 1, got 0'),
    (lambda: ConcatFusion(2, 3, missing='mean'), "got 'mean'"),
    (lambda: ConcatFusion(2, 3, modality_dropout=1.),
     r'modality_dropout must be in \[0, 1\), got 1'),
    (lambda: KroneckerFusion(2, 3, 0), 'reduced_dims .* got 0'),
    (lambda: KroneckerFusion(2, 3, gate='soft'), "got 'soft'"),
    (lambda: SlideOmicHead(0, 2), 'in_dims must be at least 1, got 0'),
    (lambda: SlideOmicHead(4, 1), 'num_classes must be at least 2, got 1'),
    (lambda: SlideOmicHead(4, 2, hidden_dims=0), 'hidden_dims .* got 0'),
    (lambda: SlideOmicHead(4, 2, class_weights=[1]),
     r'class_weights must be a list of 2 numbers, got \[1\]'),
    (lambda: SlideOmicHead(4, 2, label_smoothing=1.),
     r'label_smoothing must be in \[0, 1\), got 1'),
    (lambda: SlideOmicHead(4, 2, loss_weight=-1),
     'loss_weight must be at least 0, got -1')])


@pytest.mark.parametrize('hidden_dims', [None, 3])
def test_head_is_a_linear_layer_or_two(hidden_dims):
    head = SlideOmicHead(4, 3, hidden_dims).to(DOUBLE).eval()
    head.init_weights()
    vector = torch.randn(5, 4, dtype=DOUBLE)
    expected = vector
    layers = [one for one in head.layers if hasattr(one, 'weight')]
    assert len(layers) == (1 if hidden_dims is None else 2)
    for place, layer in enumerate(layers):
        if place:
            expected = expected * (1 + torch.erf(expected / 2**.5)) / 2
        expected = expected @ layer.weight.t() + layer.bias
    torch.testing.assert_close(head(vector), expected)


def test_classwise_head_scores_each_class_by_its_own_vector():
    head = ClasswiseSlideOmicHead(4, 3).to(DOUBLE)
    vector = torch.randn(5, 3, 4, dtype=DOUBLE)
    logits = head(vector)
    for label in range(3):
        torch.testing.assert_close(
            logits[:, label],
            vector[:, label] @ head.fc.weight[label] + head.fc.bias[label])
    with pytest.raises(ValueError, match=r'shape \(B, 3, d\), got \(5, 4\)'):
        head(torch.randn(5, 4))


def test_loss_weighs_classes_in_batches_of_one_too():
    """A mean over the weights would take them out of a batch of one."""
    options = dict(in_dims=4, num_classes=3, class_weights=[1, 2, .5],
                   label_smoothing=.1, loss_weight=.7)
    head = SlideOmicHead(**options).to(DOUBLE).eval()
    vector = torch.randn(3, 4, dtype=DOUBLE)
    labels = [1, 0, 2]
    found = [head.loss(vector[place:place + 1], patients(label))['loss_cls']
             for place, label in enumerate(labels)]
    for place, label in enumerate(labels):
        target = torch.full((3, ), .1 / 3, dtype=DOUBLE)
        target[label] += .9
        plain = -(target * head(vector)[place].log_softmax(dim=0)).sum()
        weight = options['class_weights'][label]
        torch.testing.assert_close(found[place], .7 * weight * plain)
    torch.testing.assert_close(
        head.loss(vector, patients(*labels))['loss_cls'], sum(found) / 3)


def test_prediction_is_the_softmax_or_that_of_two_streams():
    head = SlideOmicHead(4, 3).eval()
    vector, stream = torch.randn(2, 4), torch.randn(2, 3)
    samples = patients(0, 1)
    assert head.predict(vector, samples)[0] is samples[0]
    for logits, given in ((head(vector), None),
                          ((head(vector) + stream) / 2, stream)):
        for found, row in zip(head.predict(vector, None, given), logits,
                              strict=True):
            torch.testing.assert_close(found.pred_score, F.softmax(row, 0))
            assert found.pred_label.tolist() == [int(row.argmax())]


@pytest.mark.parametrize(('label', 'message'), [
    (3, r'case case-1 has the gt_label \[3\], expected one of 0 to 2'),
    (-1, r'case case-1 has the gt_label \[-1\], expected one of 0 to 2'),
    ([0, 1], r'case case-1 has the gt_label \[0, 1\], expected one class')])
def test_labels_that_are_no_class(label, message):
    with pytest.raises(ValueError, match=message):
        SlideOmicHead(4, 3).loss(torch.randn(2, 4), patients(0, label))


def test_a_patient_without_a_label():
    samples = [DataSample(metainfo=dict(case_id='case-0'))]
    with pytest.raises(ValueError, match='case case-0 has the gt_label None'):
        SlideOmicHead(4, 3).loss(torch.randn(1, 4), samples)


def test_bilinear_gates_run_in_bfloat16():
    """Autocast on a CPU does not bring the inputs of Bilinear together."""
    fusion = KroneckerFusion(6, 4, reduced_dims=2, out_dims=3,
                             gate='bilinear').eval()
    image, genes = torch.randn(2, 6), torch.randn(2, 4)
    expected = fusion(image, genes)
    with torch.autocast('cpu', torch.bfloat16):
        found = fusion(image.bfloat16(), genes)
    torch.testing.assert_close(found.float(), expected, rtol=0.05, atol=0.02)
