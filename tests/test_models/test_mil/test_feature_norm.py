"""The scale of features: of valid patches, of training bags alone."""

import math

import pytest
import torch
from model_checks import unchanged

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


def moments(patches, valid):
    """Mean and unbiased variance of each dimension, number by number."""
    rows = [patches[bag, place].tolist() for bag in range(len(valid))
            for place in range(valid.shape[1]) if valid[bag, place]]
    means, variances = [], []
    for dim in range(patches.shape[2]):
        values = [row[dim] for row in rows]
        mean = math.fsum(values) / len(values)
        means.append(mean)
        variances.append(math.fsum(
            (value - mean)**2 for value in values) / (len(values) - 1))
    return len(rows), means, variances


# One needs coordinates.
SCALED = [name for name in TINY if name != 'GiMP with PPEG']
BATCHES = [([7, 1, 4], 1), ([2, 9], 2), ([5, 0, 3, 1], 3)]


def test_equals_a_loop_in_training_and_in_evaluation():
    layer = FeatureNorm(6).to(DOUBLE)
    means, variances = [], []
    for counts, seed in BATCHES:
        patches, valid = bags(counts, seed, DOUBLE)
        found = layer(patches[valid])
        number, mean, variance = moments(patches, valid)
        expected = [[
            (value - mean[dim]) / math.sqrt(
                variance[dim] * (number - 1) / number + EPS)
            for dim, value in enumerate(patch)]
            for patch in patches[valid].tolist()]
        torch.testing.assert_close(found, torch.tensor(expected, dtype=DOUBLE))
        means.append(mean)
        variances.append(variance)
    mean, variance = (
        [math.fsum(column) / len(BATCHES)
         for column in zip(*rows, strict=True)] for rows in (means, variances))
    layer.eval()
    patches = torch.randn(4, 6, dtype=DOUBLE)
    expected = [[(value - mean[dim]) / math.sqrt(variance[dim] + EPS)
                 for dim, value in enumerate(patch)]
                for patch in patches.tolist()]
    torch.testing.assert_close(layer(patches), torch.tensor(expected,
                                                            dtype=DOUBLE))


@pytest.mark.parametrize('count', [0, 1])
def test_batches_without_a_variance_teach_nothing(count):
    layer = FeatureNorm(6)
    layer(5 + torch.randn(9, 6))
    patches = torch.randn(count, 6)
    with unchanged(layer):
        found = layer(patches)
    assert found.shape == (count, 6)
    torch.testing.assert_close(found, layer.eval()(patches))


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
            if 'norm.running' not in key and 'num_batches' not in key}
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
    number, mean, _ = moments(patches, valid)
    assert number == 10
    found, = (value for key, value in after.items() if 'running_mean' in key)
    torch.testing.assert_close(found, torch.tensor(mean, dtype=DOUBLE))
    other = build(name, norm_features=True).to(DOUBLE).eval()
    other.load_state_dict(after)
    for one in (model.eval(), other):
        with unchanged(one):
            alone, _ = one(patches[:1, :6], None, **genes_of(one, 1, DOUBLE))
            together, _ = one(patches, valid, **genes)
        torch.testing.assert_close(alone[0], together[0])
    with unchanged(model.float()):
        check_aggregator_contract(model)
