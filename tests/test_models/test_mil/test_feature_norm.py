"""The scale of features: of valid patches, of training bags alone."""

import math

import pytest
import torch
from model_checks import unchanged
from processes import run_ranks

from mmmedmask.models.layers.feature_norm import FeatureNorm
from mmmedmask.testing.aggregator_contract import check_aggregator_contract

from .tiny import TINY, ragged

EPS = 1e-5
DOUBLE = torch.float64


def bags(counts, seed, dtype=torch.float32):
    """Bags of features that vary little around a large mean."""
    torch.manual_seed(seed)
    patches, valid = ragged(counts, dtype=dtype)
    return 5 + .1 * patches, valid


def genes_of(model, count, dtype=torch.float32):
    return dict(genes=torch.ones(count, 10, dtype=dtype)) \
        if model.uses_genes else {}


def build(name, **options):
    torch.manual_seed(0)
    if name == 'TransMIL':
        options['without_coords'] = 'square'
    return TINY[name](**options)


def moments(rows):
    """Mean and variance of each dimension, number by number."""
    columns = list(zip(*rows, strict=True))
    means = [math.fsum(values) / len(values) for values in columns]
    return means, [
        math.fsum((value - mean)**2 for value in values) / len(values)
        for values, mean in zip(columns, means, strict=True)]


def scaled(rows, means, variances):
    return torch.tensor([[
        (value - mean) / math.sqrt(variance + EPS)
        for value, mean, variance in zip(row, means, variances, strict=True)]
        for row in rows], dtype=DOUBLE)


# One needs coordinates.
SCALED = [name for name in TINY if name != 'GiMP with PPEG']
BATCHES = [([7, 1, 4], 1), ([2, 9], 2), ([5, 0, 3, 1], 3)]


def test_equals_a_loop_over_all_patches_so_far():
    layer = FeatureNorm(6).to(DOUBLE)
    seen = []
    for counts, seed in BATCHES:
        patches, valid = bags(counts, seed, DOUBLE)
        rows = patches[valid].tolist()
        seen += rows
        torch.testing.assert_close(
            layer(patches[valid]), scaled(rows, *moments(seen)))
    layer.eval()
    rows = torch.randn(4, 6, dtype=DOUBLE).tolist()
    for _ in range(2):
        torch.testing.assert_close(
            layer(torch.tensor(rows, dtype=DOUBLE)),
            scaled(rows, *moments(seen)))


def test_bags_one_by_one_keep_what_tells_them_apart():
    """Statistics of each bag alone would take the mean of each from it."""
    layer = FeatureNorm(6)
    torch.manual_seed(0)
    shifts = [-5., 5.] * 20
    bags = [shift + torch.randn(50, 6) for shift in shifts]
    trained = [layer(bag).mean().item() for bag in bags][4:]
    layer.eval()
    tested = [layer(bag).mean().item() for bag in bags]
    for means in (trained, tested):
        assert all((mean > .5) == (shift > 0) and abs(mean) < 1.5
                   for mean, shift in zip(means, shifts[-len(means):],
                                          strict=True))
    everything = torch.cat([layer(bag) for bag in bags])
    torch.testing.assert_close(everything.std(), torch.tensor(1.),
                               atol=1e-3, rtol=0)


def test_two_ranks_have_the_statistics_of_all_patches(tmp_path):
    patches = 500 + .1 * torch.randn(
        90, 6, generator=torch.Generator().manual_seed(0))
    parts = [patches[:11], patches[11:60]], [patches[60:61], patches[61:]]

    def train_rank(rank):
        layer = FeatureNorm(6)
        for part in parts[rank]:
            layer(part)
        torch.save(layer.state_dict(), tmp_path / f'rank_{rank}')

    run_ranks(train_rank, tmp_path)
    means, variances = moments(patches.tolist())
    for rank in range(2):
        state = torch.load(tmp_path / f'rank_{rank}')
        assert state['num_patches'] == 90
        torch.testing.assert_close(state['running_mean'],
                                   torch.tensor(means), atol=1e-3, rtol=0)
        torch.testing.assert_close(state['running_var'],
                                   torch.tensor(variances), rtol=.02, atol=0)


def steps(rows):
    """Two steps with some of four bags; in the first the last two are empty.

    Gives gradients of the second, and the statistics.
    """
    model = build('gated ABMIL', norm_features=True, drop_rate=0.).to(DOUBLE)
    for counts, seed in (([4, 1, 0, 0], 1), ([2, 9, 3, 1], 2)):
        patches, valid = bags(counts, seed, DOUBLE)
        model.zero_grad()
        model(patches[rows], valid[rows])[0].square().mean().backward()
    return dict(gradients=[one.grad for one in model.parameters()],
                state=model.feature_norm.state_dict())


def test_two_ranks_take_the_steps_of_one_with_both_batches(tmp_path):
    run_ranks(lambda rank: torch.save(
        steps(slice(2 * rank, 2 * rank + 2)), tmp_path / str(rank)), tmp_path)
    want = steps(slice(None))
    ranks = [torch.load(tmp_path / str(rank)) for rank in range(2)]
    for rank in ranks:
        torch.testing.assert_close(rank['state'], want['state'])
    torch.testing.assert_close(
        [(one + other) / 2 for one, other in zip(
            *(rank['gradients'] for rank in ranks), strict=True)],
        want['gradients'])


@pytest.mark.parametrize('count', [0, 1])
def test_nearly_empty_batches(count):
    layer = FeatureNorm(6)
    patches = torch.randn(count, 6)
    # A patch alone has nothing that tells it from others.
    torch.testing.assert_close(layer(patches), torch.zeros(count, 6))
    seen = 5 + torch.randn(9, 6)
    layer(seen)
    everything = torch.cat([patches, seen])
    torch.testing.assert_close(layer.running_mean, everything.mean(dim=0))
    torch.testing.assert_close(
        layer.running_var, everything.var(dim=0, correction=0))
    layer.reset()
    torch.testing.assert_close(layer.eval()(seen), seen, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_float32_under_autocast(dtype):
    """In 8 bits the patches around 500 would all be the same."""
    layer = FeatureNorm(6)
    patches = 500 + .1 * torch.randn(50, 6)
    expected = FeatureNorm(6)(patches)
    with torch.autocast('cpu', torch.bfloat16):
        found = layer(patches)
        assert layer(patches.to(dtype)).dtype == torch.float32
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('name', SCALED)
def test_is_the_plain_model_on_scaled_features(name):
    """Patches, and them alone, go through the layer, whatever pads them."""
    counts = [6, 0, 1, 3]
    patches, valid = bags(counts, 7, DOUBLE)
    model = build(name, norm_features=True).to(DOUBLE).eval()
    for module in model.modules():
        if isinstance(module, FeatureNorm):
            module.train()
    plain = build(name).to(DOUBLE).eval()
    keys = {key: value for key, value in model.state_dict().items()
            if 'running' not in key and 'num_patches' not in key}
    # The same names, and nothing new when it is off.
    plain.load_state_dict(keys)
    scaled = torch.zeros_like(patches)
    genes = genes_of(model, len(counts), DOUBLE)
    scaled[valid] = FeatureNorm(6).to(DOUBLE)(patches[valid])
    expected, expected_tokens = plain(scaled, valid, **genes)
    vector, tokens = model(patches, valid, **genes)
    torch.testing.assert_close(vector, expected)
    torch.testing.assert_close(tokens, expected_tokens)
    # What training has seen is in the checkpoint; evaluation adds nothing.
    after = model.state_dict()
    mean, _ = moments(patches[valid].tolist())
    kept, = (value for key, value in after.items() if 'running_mean' in key)
    torch.testing.assert_close(kept, torch.tensor(mean, dtype=DOUBLE))
    other = build(name, norm_features=True).to(DOUBLE).eval()
    other.load_state_dict(after)
    for one in (model.eval(), other):
        with unchanged(one):
            alone, _ = one(patches[:1, :6], None, **genes_of(one, 1, DOUBLE))
            together, _ = one(patches, valid, **genes)
        torch.testing.assert_close(alone[0], together[0])
    with unchanged(model.float()):
        check_aggregator_contract(model)
