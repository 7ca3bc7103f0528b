"""BioViL, MGCA and REFERS with genes: each number against loops in float64."""

import math

import pytest
import torch
import torch.nn.functional as F
from model_checks import assert_near_in_bfloat16, assert_trained

from mmmedmask.functional.contrastive_losses import (
    prototype_contrast,
    sinkhorn,
)
from mmmedmask.models.layers.data_samples import draw_for_samples

from .naive_group_msa import naive_groups, naive_inside
from .tiny_gimp import GENES, GROUPS, NYSTROM, batch, tiny_gimp, total

DOUBLE = torch.float64
# Losses of each.
LOSSES = dict(BioViLHead={'loss_nce', 'loss_genes'},
              MGCAHead={'loss_nce', 'loss_local', 'loss_proto'},
              REFERSHead={'loss_nce', 'loss_genes'})
NAMES = tuple(LOSSES)
# Who has both halves in :func:`lacking`.
PAIRS = [0, 1, 3, 5]
# Of 12 genes: one is in two sets, fragments have different sizes.
SETS = [[0, 5, 11], [1, 2, 3, 4, 5]]


def gimp(name, dtype=DOUBLE, encoder=None, **head):
    return tiny_gimp(
        dtype, mpm_head=None, freeze_gene_encoder=False,
        aggregator=NYSTROM | dict(mask_token='zeros'),
        gene_encoder=GROUPS | (encoder or {}),
        contrast_head=dict(type=f'mmmedmask.{name}', proj_dims=4, **head),
        seed=3)


def parts(model, inputs):
    """What the loops start from: slides, tokens, groups, CLS_ge."""
    image, tokens = model.aggregator(inputs['patches'], inputs['valid'])
    groups = model.gene_encoder.encode_groups(inputs['genes'])
    return image, tokens, groups, model.gene_encoder(inputs['genes'])


def lacking():
    """A batch of which patient 2 lacks genes and 4 slides: :data:`PAIRS`."""
    inputs, samples = batch(DOUBLE)
    inputs['has_genes'][2] = inputs['has_patches'][4] = False
    return inputs, samples


def unit(vector):
    return vector / vector.square().sum().sqrt()


@torch.no_grad()
def naive_contrast(rows, columns, temperature, row_share=.5):
    """InfoNCE of paired vectors."""
    rows, columns = (torch.stack([unit(one) for one in half])
                     for half in (rows, columns))
    powers = (rows @ columns.T / temperature).exp()
    matches = powers.diag()
    return -(row_share * (matches / powers.sum(dim=1)).log()
             + (1 - row_share) * (matches / powers.sum(dim=0)).log()).mean()


def projected(head, image, genes):
    return (layer(half) for layer, half in zip(
        head.project, (image, genes), strict=True))


@torch.no_grad()
def naive_errors(encoder, token, norm, fragment, genes):
    """Squared errors of the genes of one fragment, from its token."""
    weight = encoder.embed.weight.T if isinstance(
        encoder.embed, torch.nn.Linear) else encoder.embed.weight[fragment]
    decoded = weight[:len(genes)] @ norm(token)
    return (decoded - genes).square().tolist()


def naive_cross(module, query, keys):
    keys = torch.stack([*keys])
    scores = module.key(keys) @ module.query(query) / math.sqrt(len(query))
    return module.out(scores.softmax(dim=0) @ module.value(keys))


def naive_regions(tokens, count):
    """Means of consecutive runs, the longer ones first."""
    return [run.mean(dim=0)
            for run in tokens.tensor_split(min(count, len(tokens)))]


@pytest.mark.parametrize(('samples', 'prototypes'), [(6, 3), (3, 7), (1, 2)])
def test_sinkhorn_equals_loops(samples, prototypes):
    scores = torch.randn(samples, prototypes, dtype=DOUBLE)
    table = [[math.exp(one / .3) for one in row] for row in scores.tolist()]
    for _ in range(4):
        for column in range(prototypes):
            whole = sum(row[column] for row in table)
            for row in table:
                row[column] /= whole * prototypes
        for row in table:
            whole = sum(row)
            row[:] = [one / whole / samples for one in row]
    want = torch.tensor(table, dtype=DOUBLE) * samples
    got = sinkhorn(scores, .3, 4)
    assert (got - want).abs().max() < 1e-12
    # Until it has settled, prototypes get nearly the same.
    shares = sinkhorn(scores, .3, 200).sum(dim=0)
    assert (shares - samples / prototypes).abs().max() < 1e-6
    # What would overflow as exponentials does not.
    assert torch.isfinite(sinkhorn(1e3 * scores)).all()


def test_prototypes_equal_loops():
    image, genes = torch.randn(2, 5, 4, dtype=DOUBLE)
    prototypes = torch.randn(3, 4, dtype=DOUBLE)
    cosines = [torch.stack([torch.stack([
        unit(one) @ unit(other) for other in prototypes]) for one in half])
        for half in (image, genes)]
    want = 0.
    for own, theirs in (cosines, cosines[::-1]):
        codes = sinkhorn(theirs, .05, 3)
        for row in range(5):
            whole = sum(math.exp(one / .2) for one in own[row])
            want -= sum(
                codes[row, k] * math.log(math.exp(own[row, k] / .2) / whole)
                for k in range(3)) / 5 / 2
    assert prototype_contrast(image, genes, prototypes).item() == \
        pytest.approx(float(want), abs=1e-12)


def encoders(function):
    return pytest.mark.parametrize('encoder', [
        dict(), dict(projection='shared'),
        dict(gene_sets=SETS, intra_layers=2)],
        ids=['separate', 'shared', 'sets'])(function)


@encoders
def test_biovil_equals_loops(encoder):
    model = gimp('BioViLHead', encoder=encoder, mask_ratio=.4,
                 gene_weight=3., loss_weight=.5)
    inputs, samples = lacking()
    losses = model.loss(inputs, samples)
    head, genes = model.contrast_head, model.gene_encoder
    image, _, _, cls = parts(model, inputs)
    assert losses['loss_nce'].item() == pytest.approx(
        .5 * float(naive_contrast(*projected(head, image[PAIRS], cls[PAIRS]),
                                  temperature=.5)), abs=1e-12)
    groups = naive_groups(GENES, 6, 2, encoder.get('gene_sets'))
    fragments = [part for group in groups for part in group]
    draws = model.contrast_head.num_draws(genes)
    assert draws == len(fragments)
    errors = []
    for row, uniform in enumerate(_draws(samples, draws)):
        if row == 2:
            continue
        count = draws - round(draws * .6)
        hidden = sorted(range(draws), key=uniform.__getitem__)[:count]
        inside = naive_inside(model.gene_encoder, inputs['genes'][row],
                              groups, hidden, head.mask_token)
        tokens = [token for group in inside for token in group[1:]]
        for number in hidden:
            token = F.gelu(head.transform[0](tokens[number]))
            errors += naive_errors(genes, token, head.transform[2], number,
                                   inputs['genes'][row, fragments[number]])
    assert losses['loss_genes'].item() == pytest.approx(
        3 * sum(errors) / len(errors), abs=1e-10)


def _draws(samples, count):
    return draw_for_samples(samples, count, 3, 'fragments').tolist()


def test_mgca_equals_loops():
    model = gimp('MGCAHead', num_regions=5, num_prototypes=3,
                 local_weight=2., prototype_weight=3.)
    inputs, samples = lacking()
    inputs['valid'][1, 3:] = False
    losses = model.loss(inputs, samples)
    head = model.contrast_head
    image, tokens, groups, cls = parts(model, inputs)
    seen, read = projected(head, image[PAIRS], cls[PAIRS])
    assert losses['loss_nce'].item() == pytest.approx(
        float(naive_contrast(seen, read, .07)), abs=1e-12)
    assert losses['loss_proto'].item() == pytest.approx(
        3 * prototype_contrast(seen, read, head.prototypes).item(), abs=1e-12)
    local = 0.
    for row in PAIRS:
        patches = tokens[row][inputs['valid'][row]]
        regions = [unit(head.project_regions.weight @ one)
                   for one in naive_regions(patches, 5)]
        assert len(regions) == (3 if row == 1 else 5)
        words = [unit(head.project_groups.weight @ one) for one in groups[row]]
        local += naive_contrast(regions, [
            naive_cross(head.to_groups, one, words) for one in regions], .1)
        local += naive_contrast(words, [
            naive_cross(head.to_regions, one, regions) for one in words], .1)
    assert losses['loss_local'].item() == pytest.approx(
        2 * float(local) / 2 / len(PAIRS), abs=1e-10)


@encoders
def test_refers_equals_loops(encoder):
    model = gimp('REFERSHead', encoder=encoder, num_regions=5, gene_weight=2.)
    inputs, samples = lacking()
    losses = model.loss(inputs, samples)
    head, genes = model.contrast_head, model.gene_encoder
    image, tokens, _, cls = parts(model, inputs)
    assert losses['loss_nce'].item() == pytest.approx(
        float(naive_contrast(*projected(head, image[PAIRS], cls[PAIRS]),
                             temperature=.1, row_share=.75)), abs=1e-12)
    fragments = [part for group in naive_groups(
        GENES, 6, 2, encoder.get('gene_sets')) for part in group]
    errors = []
    for row in PAIRS:
        memory = [head.memory(one) for one in
                  (image[row], *naive_regions(tokens[row], 5))]
        for number, part in enumerate(fragments):
            query = genes.position[number]
            token = query + naive_cross(head.read, query, memory)
            token = F.gelu(head.transform[1](head.transform[0](token)))
            errors += naive_errors(genes, token, head.transform[3], number,
                                   inputs['genes'][row, part])
    assert losses['loss_genes'].item() == pytest.approx(
        2 * sum(errors) / len(errors), abs=1e-10)


@pytest.mark.parametrize('name', NAMES)
def test_all_that_is_trained_has_a_gradient(name):
    model = gimp(name, torch.float32)
    losses = model(*batch(), mode='loss')
    assert set(losses) == LOSSES[name]
    total(losses).backward()
    # Only patches see the last layer's convolution.
    assert_trained(model, ['layers.1.value_conv.weight']
                   if name == 'BioViLHead' else [])


@pytest.mark.parametrize('missing', [
    'has_genes', 'has_patches', 'genes of the batch'])
@pytest.mark.parametrize('name', NAMES)
def test_a_batch_without_pairs_is_zero_with_a_graph(name, missing):
    """As of a rank whose patients lack something."""
    model = gimp(name, torch.float32)
    inputs, samples = batch()
    if missing == 'has_patches':
        inputs['has_patches'][:] = False
        inputs['valid'][:] = False
    else:
        inputs['has_genes'][:] = False
        if missing != 'has_genes':
            inputs['genes'] = None
    losses = model.loss(inputs, samples)
    alone = name == 'BioViLHead' and missing == 'has_patches'
    assert {key for key, value in losses.items() if value} == (
        {'loss_genes'} if alone else set())
    total(losses).backward()
    for key, parameter in model.named_parameters():
        if 'value_conv' in key and missing == 'has_patches':
            # Without a patch there is no convolution.
            continue
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key


def test_hidden_fragments_follow_the_sample_and_the_seed():
    """Not its place in the batch."""
    model = gimp('BioViLHead')
    inputs, samples = batch(DOUBLE)
    want = model.loss(inputs, samples)['loss_genes']
    back = list(range(5, -1, -1))
    inputs, samples = batch(DOUBLE, rows=back)
    assert torch.allclose(model.loss(inputs, samples)['loss_genes'], want)
    model.seed = 4
    assert not torch.allclose(model.loss(inputs, samples)['loss_genes'], want)


def pairs(count, seed):
    """Slides and genes of patients, made of the same three numbers."""
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(3, dims, generator=generator) for dims in (5, GENES)]
    generator.manual_seed(seed)
    hidden = torch.randn(count, 3, generator=generator)
    patches = (hidden @ maps[0])[:, None] + 1.5 * torch.randn(
        count, 12, 5, generator=generator)
    genes = hidden @ maps[1] + .3 * torch.randn(
        count, GENES, generator=generator)
    flags = torch.ones(count, 12, dtype=torch.bool)
    return (dict(patches=patches, valid=flags, coords=None, genes=genes,
                 has_genes=flags[:, 0], has_patches=flags[:, 0]),
            batch(labels=[0] * count)[1])


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'steps'), [
    ('BioViLHead', 60), ('MGCAHead', 80), ('REFERSHead', 60)])
def test_new_patients_find_their_own_genes(name, steps):
    """Among those of 64; 31.5 are nearer by chance."""
    model = gimp(name, torch.float32)
    optimizer = torch.optim.Adam(model.parameters(), lr=.003)
    inputs, samples = pairs(200, 1)
    order = torch.Generator().manual_seed(2)
    for _ in range(steps):
        rows = torch.randperm(200, generator=order)[:32]
        losses = model.loss(
            {key: value if value is None else value[rows]
             for key, value in inputs.items()}, [samples[row] for row in rows])
        optimizer.zero_grad()
        total(losses).backward()
        optimizer.step()
    with torch.no_grad():
        inputs, _ = pairs(64, 3)
        image, _, _, genes = parts(model, inputs)
        image, genes = (torch.nn.functional.normalize(half, dim=1) for half
                        in model.contrast_head.pairs(
                            image, genes, inputs['has_genes']))
        scores = image @ genes.T
    nearer = (scores > scores.diag()[:, None]).sum(dim=1).float().mean()
    assert nearer < 18


@pytest.mark.parametrize('name', NAMES)
def test_reduced_precision_is_near(name):
    model = gimp(name, torch.float32)
    assert_near_in_bfloat16(lambda: model.loss(*batch()), .05)


@pytest.mark.parametrize(('name', 'head', 'said'), [
    ('BioViLHead', dict(mask_ratio=1.5), 'mask_ratio .* 1.5'),
    ('BioViLHead', dict(gene_weight=-1), 'gene_weight .* -1'),
    ('BioViLHead', dict(temperature=0), 'temperature .* 0'),
    ('MGCAHead', dict(num_regions=0), 'num_regions .* 0'),
    ('MGCAHead', dict(num_prototypes=0), 'num_prototypes .* 0'),
    ('MGCAHead', dict(local_temperature=0), 'local_temperature .* 0'),
    ('MGCAHead', dict(prototype_temperature=0), 'prototype_temp.* 0'),
    ('MGCAHead', dict(local_weight=-1), 'local_weight .* -1'),
    ('MGCAHead', dict(prototype_weight=-1), 'prototype_weight .* -1'),
    ('REFERSHead', dict(num_regions=0), 'num_regions .* 0'),
    ('REFERSHead', dict(gene_weight=-1), 'gene_weight .* -1'),
    ('REFERSHead', dict(image_share=2), 'image_share .* 2'),
    ('REFERSHead', dict(image_dims=7), 'image_dims=7')])
def test_bad_arguments_are_refused_by_value(name, head, said):
    with pytest.raises(ValueError, match=said):
        gimp(name, **head)


@pytest.mark.parametrize('name', NAMES)
def test_other_encoders_and_frozen_ones_are_refused(name):
    head = dict(contrast_head=dict(type=f'mmmedmask.{name}'))
    with pytest.raises(ValueError, match='GroupMSA, got CountingEncoder'):
        tiny_gimp(freeze_gene_encoder=False, **head)
    with pytest.raises(ValueError, match='must be False, got True'):
        tiny_gimp(gene_encoder=GROUPS, **head)


def test_refers_needs_positions():
    model = gimp('REFERSHead', encoder=dict(position=False))
    with pytest.raises(ValueError, match='position=True, got False'):
        model.loss(*batch(DOUBLE))
