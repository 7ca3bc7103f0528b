"""Gene encoders against their equations (checks 17 and 18)."""

import pytest
import torch
from model_checks import assert_trained
from refusals import refuses
from torch import nn

from mmmedmask.models.gimp import group_msa
from mmmedmask.registry import MODELS

from .naive_group_msa import naive_group_msa, naive_groups

DOUBLE = torch.float64
TYPES = ('GroupMSA', 'SNN', 'LinearGeneEncoder')


def build(name, dtype=DOUBLE, **arguments):
    model = MODELS.build(dict(type=f'mmmedmask.{name}', **arguments))
    model.init_weights()
    return model.to(dtype).eval()


def tiny(dtype=DOUBLE, **arguments):
    """19 genes in 6 fragments of 4, of which 5 places are padding."""
    arguments = dict(num_genes=19, embed_dims=8, num_fragments=6,
                     num_groups=3, num_heads=2) | arguments
    model = build('GroupMSA', dtype, **arguments)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(.3 * torch.randn_like(parameter))
    return model


def draw(count=2, genes=19, dtype=DOUBLE):
    return torch.randn(count, genes, dtype=dtype)


def logged(monkeypatch):
    lines = []
    monkeypatch.setattr(group_msa, 'print_log',
                        lambda text, *_: lines.append(text))
    return lines


# Of 19 genes: one in two sets, one set larger than two fragments, 7 in none.
SETS = [[0, 5, 18], [3], [2, 5, 6, 7, 8, 9, 10, 11, 12]]


@pytest.mark.parametrize('arguments', [
    dict(), dict(position=False), dict(projection='shared'),
    dict(intra_layers=2, inter_layers=2),
    dict(final_norm=False, num_heads=1), dict(num_groups=1),
    dict(num_groups=6), dict(num_fragments=19, num_groups=1),
    dict(gene_sets=SETS), dict(gene_sets=SETS, num_groups=0),
    dict(gene_sets=SETS, projection='shared', intra_layers=2),
    dict(gene_sets=SETS, num_groups=5, num_fragments=19, position=False),
    dict(gene_sets=SETS, num_groups=9, num_fragments=1)])
def test_equals_the_equations(arguments):
    """All tokens of all layers; the model leaves out those nobody reads."""
    model, genes = tiny(**arguments), draw()
    groups = naive_groups(19, **{
        key: arguments.get(key, value) for key, value in dict(
            num_fragments=6, num_groups=3, gene_sets=None).items()})
    assert (model.num_groups, model.num_fragments) == (
        len(groups), sum(map(len, groups)))
    got = model(genes)
    assert got.shape == (2, 8)
    for row, patient in zip(got, genes, strict=True):
        want = naive_group_msa(model, patient, groups)
        assert (row - want).abs().max() < 1e-12


def test_a_checkpoint_brings_its_sets():
    """Weights of a set are for its genes, whatever the file says later."""
    model, genes = tiny(gene_sets=SETS, num_groups=0), draw()
    other = tiny(gene_sets=[SETS[2], SETS[0], SETS[1]], num_groups=0)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(genes), model(genes))
    assert 'places' not in tiny().state_dict()


def test_sets_of_a_file(tmp_path, monkeypatch):
    names = [f'G{place}' for place in range(19)]
    file = tmp_path / 'sets.gmt'
    file.write_text(''.join(
        '\t'.join([f'set{number}', '-', *(names[place] for place in genes)])
        + '\n' for number, genes in enumerate(SETS)))
    lines = logged(monkeypatch)
    model = tiny(gene_sets=str(file), gene_list=names, num_groups=0)
    assert model.gene_ids == tuple(names)
    assert torch.equal(model.places, tiny(gene_sets=SETS, num_groups=0).places)
    assert lines[0] == ('GroupMSA: leaves out 7 of 19 genes, which are in no '
                        'set (num_groups=0).')


def test_shapes_that_attention_sees(monkeypatch):
    """Check 17: (B * N_gr, N_f / N_gr + 1, d), then (B, N_gr + 1, d)."""
    model, seen, attended = tiny(intra_layers=2), [], []
    for block in (*model.intra, *model.inter):
        block.register_forward_pre_hook(
            lambda module, inputs: seen.append(tuple(inputs[0].shape)))
    original = nn.functional.scaled_dot_product_attention

    def attention(query, key, value, **arguments):
        attended.append((tuple(query.shape), tuple(key.shape)))
        return original(query, key, value, **arguments)

    monkeypatch.setattr(nn.functional, 'scaled_dot_product_attention',
                        attention)
    model(draw(5))
    assert seen == [(15, 3, 8), (15, 3, 8), (5, 4, 8)]
    assert attended == [((15, 2, 3, 4), (15, 2, 3, 4)),
                        ((15, 2, 1, 4), (15, 2, 3, 4)),
                        ((5, 2, 1, 4), (5, 2, 4, 4))]


@pytest.mark.parametrize(('arguments', 'inside'), [
    (dict(position=False, projection='shared'), False),
    (dict(projection='shared'), True), (dict(position=False), True)])
def test_what_exchanging_fragments_changes(arguments, inside):
    """Check 17: inside a group only what tells fragments apart notices."""
    model, genes = tiny(num_genes=24, **arguments), draw(genes=24)
    before = model(genes)
    for others, changes in (([0, 1], inside), ([1, 2], True)):
        moved = genes.unflatten(1, (6, 4)).clone()
        moved[:, others] = moved[:, others[::-1]]
        gap = (model(moved.flatten(1)) - before).abs().max()
        assert bool(gap > 1e-6) is changes


@pytest.mark.parametrize(('num_genes', 'options'), [
    (19, dict()), (24, dict()), (21, dict()),
    (19, dict(gene_sets=SETS, num_groups=0))])
def test_a_gene_changes_only_its_groups(num_genes, options):
    """Check 18: the Jacobian of the groups' tokens is in blocks.

    A gene may be in two sets, or in none and left out.
    """
    model = tiny(num_genes=num_genes, **options)
    assert model.fragment_size == 4
    groups = naive_groups(num_genes, 6, options.get('num_groups', 3),
                          options.get('gene_sets'))
    jacobian = torch.autograd.functional.jacobian(
        model.encode_groups, draw(1, num_genes))[0, :, :, 0]
    for gene in range(num_genes):
        touched = jacobian[:, :, gene].abs().amax(dim=1) > 0
        assert touched.nonzero().flatten().tolist() == [
            number for number, group in enumerate(groups)
            if any(gene in fragment for fragment in group)]


@pytest.mark.parametrize(('genes', 'fragments', 'groups', 'said'), [
    # Fragments of 2 and 3 genes, 30 in a group.
    (1000, 960, 32, '1000 genes in 960 fragments of 2 leave 15 of 32 groups '
     'without a gene: num_fragments=512 fills all.'),
    (1558, 960, 32, '1558 genes in 960 fragments of 2 leave 6 of 32 groups '
     'without a gene: num_fragments=800 fills all.'),
    (33, 33, 33, None),
    (34, 33, 33, '34 genes in 33 fragments of 2 leave 16 of 33 groups '
     'without a gene: take a smaller num_groups.'),
    (60480, 960, 32, None),
    # The last group is half filling, which is as it should be.
    (9, 4, 2, None),
])
def test_group_msa_says_when_groups_are_empty(
        monkeypatch, genes, fragments, groups, said):
    lines = logged(monkeypatch)
    model = build('GroupMSA', num_genes=genes, embed_dims=4,
                  num_fragments=fragments, num_groups=groups, num_heads=1)
    assert lines == ([] if said is None else [f'GroupMSA: {said}'])
    # Count by hand: fragments with a gene, groups with such a fragment.
    full = [any(place < genes for place in range(
        group * fragments // groups * model.fragment_size,
        (group + 1) * fragments // groups * model.fragment_size))
        for group in range(groups)]
    assert all(full) == (said is None)


def test_sizes_of_the_paper():
    """Check 18: 60,483 genes are filled up to 960 fragments of 64."""
    model = build('GroupMSA', torch.float32, num_genes=60_483, embed_dims=16,
                  num_fragments=960, num_groups=32, num_heads=2)
    assert model.fragment_size == 64
    genes = draw(1, 60_483, torch.float32).requires_grad_()
    # The plain sum of what a LayerNorm gives out is constant.
    (model(genes) * torch.arange(16)).sum().backward()
    assert (genes.grad != 0).all()
    exact = build('GroupMSA', torch.float32, num_genes=60_480, embed_dims=16,
                  num_heads=2)
    assert exact.fragment_size == 63


def test_snn_is_its_equations():
    model = build('SNN', num_genes=5, embed_dims=3, hidden_dims=(4, ))
    genes = draw(2, 5)
    hidden = genes
    for layer, *_ in model.layers:
        hidden = layer(hidden)
        hidden = torch.where(hidden > 0, hidden, hidden.exp() - 1)
    assert torch.allclose(model(genes), hidden, atol=1e-12)


@pytest.mark.parametrize('hidden', [(), (512, 512, 512)])
def test_snn_keeps_mean_and_variance(hidden):
    """What alpha dropout and the initialisation are for."""
    model = build('SNN', torch.float32, num_genes=600, embed_dims=512,
                  hidden_dims=hidden, activation='selu').train()
    output = model(draw(256, 600, torch.float32))
    assert abs(float(output.mean())) < .1
    assert .8 < float(output.std()) < 1.2


def test_linear_encoder_is_linear():
    model = build('LinearGeneEncoder', num_genes=5, embed_dims=3)
    one, other = draw(2, 5).unsqueeze(1)
    want = model(one) + model(other) - model(torch.zeros_like(one))
    assert torch.allclose(model(one + other), want, atol=1e-12)


def small(name, **arguments):
    if name == 'GroupMSA':
        arguments.update(num_fragments=6, num_groups=3, num_heads=2)
    return build(name, num_genes=19, embed_dims=8, **arguments)


@pytest.mark.parametrize('name', TYPES)
class TestContract:
    def test_patients_are_independent_and_all_learns(self, name):
        model = small(name)
        assert (model.num_genes, model.embed_dims) == (19, 8)
        genes = draw(3)
        together = model(genes)
        assert together.shape == (3, 8)
        alone = torch.cat([model(row[None]) for row in genes])
        assert torch.allclose(together, alone, atol=1e-12)
        model.train()
        (model(genes) * torch.randn(3, 8)).sum().backward()
        assert_trained(model)

    def test_dropout_is_for_training_alone(self, name):
        rates = ('drop_rate', 'gene_drop_rate')
        for rate in rates if name == 'GroupMSA' else rates[:1]:
            model, genes = small(name, **{rate: .5}), draw(3)
            assert torch.equal(model(genes), model(genes))
            model.train()
            assert not torch.equal(model(genes), model(genes))

    def test_names_the_wrong_number_of_genes(self, name):
        model = small(name)
        with pytest.raises(ValueError,
                           match=r'\(B, 19\), got \(2, 18\).*num_genes'):
            model(draw(2, 18))

    @pytest.mark.parametrize(('arguments', 'message'), [
        (dict(num_genes=0), 'num_genes must be at least 1, got 0'),
        (dict(embed_dims=0), 'embed_dims must be at least 1, got 0'),
        (dict(drop_rate=1.), r'drop_rate must be in \[0, 1\), got 1')])
    def test_refuses_sizes(self, name, arguments, message):
        with pytest.raises(ValueError, match=message):
            build(name, **{**dict(num_genes=960), **arguments})


test_group_msa_refuses = refuses(tiny, [
    (dict(num_groups=4), r'divide num_fragments 6, got 4; valid are '
                         r'\[1, 2, 3, 6\]'),
    (dict(num_groups=0), 'num_groups must be at least 1, got 0'),
    (dict(gene_sets='a.gmt'), 'gene_list must tell their places, got None'),
    (dict(gene_sets=[[19]]), r'gene set 0 must be .* in \[0, 19\)'),
    (dict(num_fragments=20), r'in \[1, 19\], got 20'),
    (dict(num_heads=3), 'multiple of num_heads 3, got 8'),
    (dict(intra_layers=0), 'intra_layers must be at least 1, got 0'),
    (dict(projection='both'), "one of .*'shared', 'separate'.*'both'"),
    (dict(gene_drop_rate=-1), r'gene_drop_rate must be in \[0, 1\)'),
])


test_snn_refuses = refuses(
    lambda **arguments: build('SNN', num_genes=5, **arguments), [
    (dict(hidden_dims=(4, 0)), 'hidden_dims must be at least 1, got 0'),
    (dict(activation='relu'), "one of .*'elu', 'selu'.*'relu'")])
