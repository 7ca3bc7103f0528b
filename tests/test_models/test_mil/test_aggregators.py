"""Bag classifiers against their equations, and against what they promise."""

import inspect
from operator import call

import pytest
import torch
from model_checks import unchanged
from refusals import refuses

from mmmedmask.functional.patch_grid import grid_cells
from mmmedmask.models import mil
from mmmedmask.models.mil import (
    ABMIL,
    CLAM_MB,
    CLAM_SB,
    DSMIL,
    MCAT,
    BagAggregator,
    MaxPool,
    MeanPool,
    TransMIL,
)
from mmmedmask.registry import MODELS
from mmmedmask.testing.aggregator_contract import check_aggregator_contract

from . import naive_mil
from .tiny import CLAM, GENE_SETS, NYSTROM, TINY, build, ragged

DOUBLE = torch.float64
COUNTS = [9, 1, 6, 3]
NAIVE = {'mean': naive_mil.mean, 'mean of the features': naive_mil.mean,
         'max': naive_mil.largest, 'ABMIL': naive_mil.attention,
         'gated ABMIL': naive_mil.attention, 'CLAM-SB': naive_mil.attention,
         'CLAM-MB': naive_mil.attention, 'DSMIL': naive_mil.dsmil,
         'DSMIL on the features': naive_mil.dsmil}


def assert_bags(counts, vector, weights, naive):
    """Each bag's vector and weights are those of ``naive(bag, count)``."""
    assert weights.dtype == DOUBLE
    for bag, count in enumerate(counts):
        with torch.no_grad():
            expected, rows = naive(bag, count)
        torch.testing.assert_close(vector[bag], expected)
        torch.testing.assert_close(
            weights[bag][..., :count].reshape(len(rows), count),
            torch.as_tensor(rows, dtype=DOUBLE))


@pytest.mark.parametrize('name', TINY)
def test_contract(name):
    model = TINY[name]()
    with unchanged(model):
        check_aggregator_contract(model)
    assert model.training


def test_the_contract_is_tested_for_every_registered_aggregator():
    tested = {type(make()) for make in TINY.values()}
    registered = {
        kind for kind in MODELS.module_dict.values()
        if kind.__module__.startswith(mil.__name__) or
        issubclass(kind, BagAggregator)}
    assert registered
    assert registered <= tested
    for kind in registered:
        assert MODELS.get(f'mmmedmask.{kind.__name__}') is kind
        # Every argument is explained.
        for argument in inspect.signature(kind).parameters:
            assert f'{argument}: ' in kind.__doc__ + kind.__base__.__doc__


@pytest.mark.parametrize('name', NAIVE)
def test_equals_the_equations(name):
    model = build(name, DOUBLE)
    patches, valid = ragged(COUNTS, dtype=DOUBLE)
    vector, tokens = model(patches, valid)
    assert_bags(COUNTS, vector, model.attention(patches, valid),
                lambda bag, count: NAIVE[name](model, patches[bag, :count]))
    for bag, count in enumerate(COUNTS):
        torch.testing.assert_close(
            tokens[bag, :count],
            naive_mil.embedded(model, patches[bag, :count]))


@pytest.mark.parametrize('has_coords', [True, False])
def test_transmil_equals_its_equations(has_coords):
    model = TransMIL(**NYSTROM, without_coords='square')
    model = model.to(DOUBLE).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(.3 * torch.randn_like(parameter))
    counts = [11, 3, 1]
    patches, valid = ragged(counts, dtype=DOUBLE)
    places = torch.stack([torch.randperm(36)[:11] for _ in counts])
    coords = torch.stack([places // 6, places % 6], dim=2) * 256

    def naive(bag, count):
        cells = grid_cells(coords[bag, :count])
        if not has_coords:
            side = {11: 4, 3: 2, 1: 1}[count]
            cells = torch.tensor([[place // side, place % side]
                                  for place in range(count)])
        return naive_mil.transmil(model, patches[bag, :count], cells)

    given = coords if has_coords else None
    assert_bags(counts, model(patches, valid, coords=given)[0],
                model.attention(patches, valid, given), naive)


def test_mcat_equals_its_equations_also_without_genes_or_slides():
    model = build('MCAT', DOUBLE)
    counts = [7, 2, 5, 0]
    patches, valid = ragged(counts, dtype=DOUBLE)
    genes = dict(genes=torch.randn(4, 10, dtype=DOUBLE),
                 has_genes=torch.tensor([True, True, False, True]))
    assert_bags(
        counts, model(patches, valid, **genes)[0],
        model.attention(patches, valid, **genes),
        lambda bag, count: naive_mil.mcat(
            model, patches[bag, :count], genes['genes'][bag]
            if genes['has_genes'][bag] else None, GENE_SETS))


def test_mcat_averages_patches_of_a_patient_without_genes_at_first():
    model = MCAT(6, 10, GENE_SETS, embed_dims=8, num_heads=2).eval()
    torch.nn.init.zeros_(model.query.bias)
    weights = model.attention(torch.randn(1, 5, 6), genes=torch.randn(1, 10),
                              has_genes=torch.tensor([False]))
    torch.testing.assert_close(weights, torch.full((1, 3, 5), .2))


@pytest.mark.parametrize('kind', [CLAM_SB, CLAM_MB])
@pytest.mark.parametrize('options', [
    dict(), dict(instance_loss='ce'), dict(exclusive_classes=False)])
def test_clam_instance_loss_equals_its_definition(kind, options):
    model = kind(**CLAM, **options, instance_weight=.3).to(DOUBLE).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(.5 * torch.randn_like(parameter))
    # More than 2 B patches, fewer, one, none.
    counts, labels = [9, 3, 1, 0, 6], [2, 0, 1, 1, 1]
    patches, valid = ragged(counts, dtype=DOUBLE)
    _, tokens = model(patches, valid)
    loss = model.auxiliary_losses(
        tokens, valid, torch.tensor(labels))['loss_instance']
    with torch.no_grad():
        expected = [
            naive_mil.instance_losses(model, patches[index, :count],
                                      labels[index])
            for index, count in enumerate(counts) if count > 1]
    assert all(len(one) == (3 if model.exclusive_classes else 1)
               for one in expected)
    means = [sum(one) / len(one) for one in expected]
    assert loss.item() == pytest.approx(.3 * sum(means) / 3)


@pytest.mark.parametrize('kind', [CLAM_SB, CLAM_MB])
def test_clam_chooses_without_waiting_for_the_device(kind):
    """Tensors without values raise where the host would read one."""
    model = kind(**CLAM).to('meta')
    losses = model.auxiliary_losses(
        torch.empty(3, 9, model.embed_dims, device='meta'),
        torch.empty(3, 9, dtype=torch.bool, device='meta'),
        torch.empty(3, dtype=torch.int64, device='meta'))
    assert losses['loss_instance'].shape == ()
    assert losses['loss_instance'].is_meta


def test_clam_with_nothing_to_teach_has_a_loss_of_zero_with_gradients():
    model = TINY['CLAM-SB']()
    _, tokens = model(*ragged([1, 1]))
    losses = model.auxiliary_losses(tokens, None, torch.tensor([0, 1]))
    losses['loss_instance'].backward()
    assert losses['loss_instance'].item() == 0
    assert not model.instance_fc.weight.grad.any()


def test_dsmil_first_stream_is_the_largest_score():
    model = build('DSMIL', DOUBLE)
    counts = [5, 2, 0]
    patches, valid = ragged(counts, dtype=DOUBLE)
    _, tokens = model(patches, valid)
    logits = model.instance_logits(tokens, valid)
    for index, count in enumerate(counts[:2]):
        expected = model.instance_fc(tokens[index, :count]).amax(dim=0)
        torch.testing.assert_close(logits[index], expected)
    assert not logits[2].any()


def test_large_features_stay_finite_in_float16():
    """The products of queries are beyond its largest number, 65,504."""
    torch.manual_seed(0)
    model = DSMIL(256, 2).eval()
    with torch.autocast('cpu', torch.float16):
        vector, _ = model(100 * torch.randn(2, 6, 256).abs())
    assert vector.isfinite().all()


test_arguments_outside_their_range = refuses(call, [
    (lambda: MeanPool(0), 'in_dims must be at least 1, got 0'),
    (lambda: MaxPool(4, 0), 'embed_dims must be at least 1, got 0'),
    (lambda: ABMIL(4, attention_dims=0),
     'attention_dims must be at least 1, got 0'),
    (lambda: CLAM_SB(4, 2, instance_loss='hinge'), "got 'hinge'"),
    (lambda: CLAM_SB(4, 2, num_instances=0),
     'num_instances must be at least 1, got 0'),
    (lambda: CLAM_MB(4, 2, instance_weight=-1),
     'instance_weight must be at least 0, got -1'),
    (lambda: DSMIL(4, 0), 'num_classes must be at least 1, got 0'),
    (lambda: DSMIL(4, 2, instance_weight=-1),
     'instance_weight must be at least 0, got -1'),
    (lambda: TransMIL(4, without_coords='fold'), "got 'fold'"),
    (lambda: MCAT(4, 10, 11), r'gene_sets must be in \[1, 10\].*got 11'),
    (lambda: MCAT(4, 10, 2, embed_dims=9),
     'embed_dims must be a multiple of num_heads 8, got 9')])


def test_inputs_that_do_not_fit():
    model = TINY['ABMIL']()
    with pytest.raises(ValueError, match=r'got \(1, 3, 7\): in_dims=6 '):
        model(torch.randn(1, 3, 7))
    with pytest.raises(ValueError, match='valid must be bool of shape'):
        model(torch.randn(1, 3, 6), torch.ones(1, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match='ABMIL has nothing that stands'):
        model(torch.randn(1, 3, 6), mask=torch.zeros(1, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r'genes must have the shape '
                       r'\(1, 10\), got None'):
        TINY['MCAT']()(torch.randn(1, 3, 6))
    with pytest.raises(ValueError, match="without_coords='square' folds"):
        TINY['TransMIL']()(torch.randn(1, 3, 6))
