"""The patch aggregator against its equations (checks 4 to 12, 22 to 24)."""

import math

import pytest
import torch
from refusals import refuses
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmmedmask.functional.bags import lay_slides_apart
from mmmedmask.functional.patch_grid import grid_cells, stack_cells
from mmmedmask.models.gimp import NystromAggregator
from mmmedmask.models.gimp.aggregator import ValueConvolution
from mmmedmask.registry import MODELS

from .naive_aggregator import naive_aggregator, naive_value_conv

DOUBLE = torch.float64


def tiny(dtype=torch.float32, **arguments):
    """Two layers of two heads; parameters large enough to be seen."""
    arguments = dict(in_dims=6, embed_dims=8, num_heads=2, num_landmarks=5,
                     conv_kernel=5) | arguments
    model = NystromAggregator(**arguments).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(.3 * torch.randn_like(parameter))
    return model.eval()


def ragged(counts, length=None, dims=6, dtype=torch.float32):
    """Bags padded with NaN, their validity, masks and coordinates."""
    length = length or max(counts)
    valid = torch.arange(length) < torch.tensor(counts)[:, None]
    patches = torch.randn(len(counts), length, dims, dtype=dtype)
    patches[~valid] = math.nan
    mask = (torch.rand(len(counts), length) < .5) & valid
    # Each at a place of its own, several in a cell.
    places = torch.stack([torch.randperm(400)[:length] for _ in counts])
    coords = torch.stack([places // 20, places % 20], dim=2) * 64 + 100
    return patches, valid, mask, coords


def difference(one, other):
    return float((one - other).detach().abs().max())


# What changes the function, not only its size.
FORMS = [dict(), dict(attn='exact'), dict(conv_kernel=0),
         dict(class_token_in_conv=True), dict(ppeg=True), dict(num_heads=1)]


@pytest.mark.parametrize('arguments', [
    *FORMS, dict(embed_relu=False, num_layers=1),
    dict(mask_token='zeros', final_norm=False, num_layers=3)])
def test_equals_the_equations_bag_by_bag(arguments):
    """Check 9: ragged, with bags above and below m, masked, one empty."""
    model = tiny(DOUBLE, **arguments)
    counts = [17, 11, 4, 1, 0]
    patches, valid, mask, coords = ragged(counts, dtype=DOUBLE)
    cls, tokens = model(patches, valid, mask, coords)
    assert cls.shape == (5, 8)
    assert tokens.shape == (5, 17, 8)
    assert tokens.isfinite().all()
    assert not tokens[~valid].any()
    for bag, count in enumerate(counts):
        if not count and model.positions is not None:
            continue
        cells = grid_cells(coords[bag, :count]) if count else None
        want = naive_aggregator(
            model, patches[bag, :count], mask[bag, :count], cells)
        assert difference(cls[bag], want[0]) < 1e-9
        if count:
            assert difference(tokens[bag, :count], want[1]) < 1e-9


@pytest.mark.parametrize('arguments', FORMS)
def test_without_gradients_it_is_the_same(monkeypatch, arguments):
    """Then tokens go through a few at a time, over tokens that it owns."""
    monkeypatch.setattr('mmmedmask.models.gimp.aggregator.TOKEN_CHUNK', 4)
    model = tiny(DOUBLE, **arguments)
    inputs = ragged([17, 11, 4, 1], dtype=DOUBLE)
    want = model(*inputs)
    kept = [x.clone() for x in inputs]
    with torch.no_grad():
        got = model(*inputs)
        bags = model.pack(*inputs)
        tokens = bags.tokens.clone()
        model.layers[0](bags.tokens, bags.slides)
    for one, other in zip(got, want, strict=True):
        assert not one.requires_grad
        assert difference(one, other) < 1e-12
    assert torch.equal(bags.tokens, tokens)
    for one, other in zip(inputs, kept, strict=True):
        assert torch.equal(one.nan_to_num(), other.nan_to_num())


# Checks 10 and 11: what is seen.
@pytest.mark.parametrize(('arguments', 'alike'), [
    (dict(conv_kernel=0), True), (dict(conv_kernel=0, attn='exact'), True),
    (dict(), False), (dict(conv_kernel=0, ppeg=True), False)])
def test_only_positions_tell_masked_patches_apart(arguments, alike):
    """Check 10."""
    model = tiny(DOUBLE, **arguments)
    patches, valid, mask, coords = ragged([30], dtype=DOUBLE)
    tokens = model(patches, valid, mask, coords)[1][mask]
    assert bool(tokens.std(dim=0).max() < 1e-9) is alike


@pytest.mark.parametrize(('arguments', 'alike'), [
    (dict(), False), (dict(conv_kernel=0), False),
    (dict(attn='exact'), False), (dict(attn='exact', conv_kernel=0), True)])
def test_order_counts_but_for_exact_attention_alone(arguments, alike):
    """Check 11."""
    model = tiny(DOUBLE, **arguments)
    patches = torch.randn(1, 30, 6, dtype=DOUBLE)
    moved = patches[:, torch.randperm(30)]
    assert (difference(model(patches)[0], model(moved)[0]) < 1e-9) is alike


def test_class_token_of_the_convolution_sees_no_patch():
    """Its row is zero, and no patch sees it; as published both are not."""
    slides = [[20, 3], [9]]
    for literal in (False, True):
        conv = ValueConvolution(2, 5, literal, 'uniform').to(DOUBLE)
        value = torch.randn(34, 2, 4, dtype=DOUBLE, requires_grad=True)
        output = conv(value, slides)
        heads = torch.tensor([0, 24])
        seen, = torch.autograd.grad(output[heads].sum(), value,
                                    retain_graph=True)
        patches = torch.ones(34, dtype=torch.bool)
        patches[heads] = False
        shown, = torch.autograd.grad(output[patches].sum(), value)
        assert bool(seen.any()) is literal
        assert bool(output[heads].any()) is literal
        assert bool(shown[heads].any()) is literal
        for head, kernel in enumerate(conv.weight):
            for start, counts in zip(heads, slides, strict=True):
                rows = slice(start, start + 1 + sum(counts))
                want = naive_value_conv(value[rows, head], kernel, counts,
                                        literal)
                assert difference(output[rows, head], want) < 1e-12


@pytest.mark.parametrize('arguments', [dict(), dict(ppeg=True)])
def test_slides_of_a_patient_are_no_neighbours(arguments):
    model = tiny(DOUBLE, **arguments)
    patches, _, mask, coords = ragged([8, 9], 9, dtype=DOUBLE)
    one, other = coords[0, :8], coords[1]
    bag = torch.cat([patches[0, :8], patches[1]])
    hidden = mask.flatten()[:17]
    laid = lay_slides_apart([one, other])
    cls, tokens = model(bag[None], None, hidden[None], laid[None])
    cells = stack_cells([grid_cells(one), grid_cells(other)], 3)
    want = naive_aggregator(model, bag, hidden, cells, slides=[8, 9])
    assert difference(cls[0], want[0]) < 1e-9
    assert difference(tokens[0], want[1]) < 1e-9
    # It does not matter where their origins are.
    moved = lay_slides_apart([one + 512, other + 2560])
    assert difference(
        model(bag[None], None, hidden[None], moved[None])[0], cls) < 1e-12
    together = model(bag[None], None, hidden[None],
                     torch.cat([one, other + 10**6])[None])[1]
    assert difference(together[0], tokens[0]) > 1e-3


def test_patches_at_one_place_are_of_two_slides():
    """Where nobody has laid slides apart, positions still do not mix."""
    model = tiny(DOUBLE, conv_kernel=0, ppeg=True)
    _, _, _, coords = ragged([8], dtype=DOUBLE)
    bag = torch.randn(1, 16, 6, dtype=DOUBLE)
    same, apart = (
        model(bag, coords=torch.cat([coords, coords + gap], dim=1))[0]
        for gap in (0, 64 * 10**6))
    assert difference(same, apart) < 1e-9


def relative_step(model, patches, rate=1e-3):
    """How far a step of AdamW moves what has a gradient, of its length."""
    before = {name: value.detach().clone()
              for name, value in model.named_parameters()}
    model(patches)[0][:, ::2].sum().backward()
    torch.optim.AdamW(model.parameters(), rate).step()
    # What starts at zero has no length.
    return {name: float((value.detach() - before[name]).norm() /
                        (before[name].norm() or value.numel()**.5))
            for name, value in model.named_parameters()
            if value.grad is not None and value.grad.any()}


def test_the_start_does_not_depend_on_the_width():
    """What a layer adds, what attention tells apart, what a step moves.

    A step of AdamW is as long for each weight, so that at one rate the
    weights of a layer as wide as the tokens, and they alone, move by the root
    of the width more, relative to their length.
    """
    moved, told, steps = [], [], []
    for width in (64, 512):
        torch.manual_seed(0)
        model = NystromAggregator(64, width, num_heads=8, attn='exact')
        model.init_weights()
        patches = torch.randn(2, 100, 64)
        bags = model.pack(patches, None, None, None)
        after = model.layers[0](bags.tokens, bags.slides)
        moved.append(float((after - bags.tokens)[bags.is_patch].norm() /
                           bags.tokens[bags.is_patch].norm()))
        query, key, _ = model.layers[0].project(bags.tokens)
        logits = torch.einsum('qhc,khc->hqk', query, key)
        told.append(float(logits.std()) * (width / 8)**-.5)
        steps.append(relative_step(model, patches))
    for one, other in (moved, told):
        assert .75 < one / other < 1.33
    one, other = steps
    assert one.keys() == other.keys()
    assert {'cls_token', 'embed.0.weight', 'layers.0.norm.weight',
            'layers.0.value_conv.weight', 'layers.0.qkv.weight',
            'layers.1.proj.weight', 'norm.weight'} <= one.keys()
    for name in one:
        wide = name.endswith(('qkv.weight', 'proj.weight'))
        assert .75 < one[name] / other[name] * (8**.5 if wide else 1) < 1.33, (
            name)
    assert min(told) > .2


# Checks 6 to 9: neighbours and padding.
def test_bags_of_one_length_are_a_loop_over_bags():
    model = tiny()
    patches = torch.randn(3, 30, 6)
    patches[1] *= 20
    for one, *alone in zip(model(patches), *map(model, patches.split(1)),
                           strict=True):
        assert difference(one, torch.cat(alone)) < 1e-6


def test_padding_anywhere_changes_nothing():
    """Also for the convolution: neighbours are those of the bag."""
    model = tiny(DOUBLE, ppeg=True)
    patches, _, mask, coords = ragged([14], dtype=DOUBLE)
    want = model(patches, None, mask, coords)
    kept = torch.zeros(1, 25, dtype=torch.bool)
    kept[0, torch.randperm(25)[:14]] = True
    wide = [torch.full((1, 25, 6), math.inf, dtype=DOUBLE),
            torch.ones(1, 25, dtype=torch.bool),
            torch.full((1, 25, 2), -10**9)]
    for one, other in zip(wide, (patches, mask, coords), strict=True):
        one[kept] = other[0]
    got = model(wide[0], kept, *wide[1:])
    assert torch.equal(got[0], want[0])
    assert torch.equal(got[1][kept], want[1][0])


def test_padding_gets_no_gradient():
    model = tiny()
    patches, valid, mask, _ = ragged([9, 3, 0])
    patches = patches.nan_to_num().requires_grad_()
    cls, tokens = model(patches, valid, mask)
    (cls.square().sum() + tokens.square().sum()).backward()
    assert patches.grad.isfinite().all()
    seen = valid & ~mask
    assert not patches.grad[~seen].any()
    assert patches.grad[seen].any(dim=1).all()
    assert all(parameter.grad.isfinite().all()
               for parameter in model.parameters())


# Check 22: one set of names.
def test_exact_attention_has_the_same_parameters():
    model, exact = tiny(), tiny(attn='exact')
    assert list(model.state_dict()) == list(exact.state_dict())
    assert 'mask_token' in model.state_dict()
    assert 'mask_token' not in tiny(mask_token='zeros').state_dict()
    exact.load_state_dict(model.state_dict())
    patches = torch.randn(1, 40, 6)
    gap = difference(model(patches)[0], exact(patches)[0])
    assert 1e-4 < gap


@pytest.mark.parametrize('arguments', [dict(), dict(ppeg=True),
                                       dict(attn='exact')])
def test_every_parameter_is_trained_also_with_checkpoints(arguments):
    patches, valid, mask, coords = ragged([30, 9])
    gradients = []
    model = tiny(**arguments)
    for with_cp in (False, True):
        model.with_cp = with_cp
        model.zero_grad()
        cls, tokens = model(patches, valid, mask, coords)
        (cls.sum() + tokens.pow(3).sum()).backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in
                          model.named_parameters()})
    for name, gradient in gradients[0].items():
        assert gradient.any(), name
        assert torch.allclose(gradient, gradients[1][name], rtol=1e-4,
                              atol=1e-5), name


def test_checkpoints_keep_less():
    kept = []
    for with_cp in (False, True):
        model = tiny(with_cp=with_cp)
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, sizes=sizes: sizes.append(x.numel()) or x, lambda x: x):
            model(torch.randn(1, 400, 6))
        kept.append(sum(sizes))
    assert kept[1] < .5 * kept[0]


def test_reduced_precision_is_near():
    """Check 24: bfloat16 within 2.5 %."""
    model = tiny(embed_dims=32, num_landmarks=16, ppeg=True)
    patches, valid, mask, coords = ragged([90, 40])
    patches = patches.nan_to_num()
    want = model(patches, valid, mask, coords)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        got = model(patches, valid, mask, coords)
        rows = model.class_token_attention(patches, valid, mask, coords)
    assert rows.dtype == torch.float32
    for one, other in zip(got, want, strict=True):
        one = one.float()
        assert (one - other).norm() < .025 * other.norm()
        assert abs(one.abs().mean() - other.abs().mean()) < \
            .02 * other.abs().mean()


# Check 12: memory.
class LargestTensor(TorchDispatchMode):
    """Remembers how large tensors get, and how large all are together."""

    def __init__(self):
        super().__init__()
        self.largest = self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(output):
            if isinstance(leaf, torch.Tensor):
                self.largest = max(self.largest, leaf.numel())
                self.total += leaf.numel()
        return output


def test_memory_is_linear():
    """Forward and backward make nothing of N x m, nor of N x N."""
    totals = []
    for count in (2000, 4000):
        model = tiny(num_landmarks=64)
        with LargestTensor() as tensors:
            model(torch.randn(1, count, 6))[0].sum().backward()
        assert tensors.largest < 32 * count
        totals.append(tensors.total)
    assert totals[1] < 2.3 * totals[0]


# Check 23: what CLS looks at.
@pytest.mark.parametrize('layer', [0, -1])
@pytest.mark.parametrize('arguments', [
    dict(), dict(attn='exact'), dict(ppeg=True)])
def test_class_token_attention_is_the_dense_row(arguments, layer):
    model = tiny(DOUBLE, **arguments)
    patches, valid, _, coords = ragged([17, 11, 3], dtype=DOUBLE)
    rows = model.class_token_attention(patches, valid, None, coords, layer)
    assert rows.shape == (3, 2, 17)
    for bag, count in enumerate((17, 11, 3)):
        dense = naive_aggregator(model, patches[bag, :count], None,
                                 grid_cells(coords[bag, :count]))[2][layer]
        assert difference(rows[bag, :, :count], dense[:, 0, 1:]) < 1e-9
        assert not rows[bag, :, count:].any()
    alone = model.class_token_attention(
        patches[:1], None, None, coords[:1], layer)
    assert difference(alone[0], rows[0]) < 1e-12


def test_is_built_and_initialised_from_a_config():
    model = MODELS.build(
        dict(type='mmmedmask.NystromAggregator', in_dims=1024))
    model.init_weights()
    assert (model.embed_dims, len(model.layers)) == (512, 2)
    assert model.layers[0].num_landmarks == 256
    assert model.layers[0].value_conv.weight.shape == (8, 33)
    assert not model.layers[0].value_conv.weight.any()
    assert .01 < model.cls_token.std().item() < .03
    assert .01 < model.mask_token.std().item() < .03


test_bad_arguments_are_refused_by_value = refuses(tiny, [
    (dict(in_dims=0), 'in_dims .* 0'), (dict(num_layers=0), 'num_layers .* 0'),
    (dict(num_heads=3), 'num_heads 3, got 8'),
    (dict(num_heads=0), 'num_heads .* 0'),
    (dict(num_landmarks=0), 'num_landmarks .* 0'),
    (dict(attn='flash'), "'flash'"), (dict(conv_kernel=4), 'conv_kernel .* 4'),
    (dict(mask_token='mean'), "'mean'"), (dict(conv_start='ones'), "'ones'")])


@pytest.mark.parametrize(('change', 'value'), [
    (dict(patches=torch.randn(2, 9, 5)), r'got \(2, 9, 5\): in_dims=6 '),
    (dict(patches=torch.randn(9, 6)), r'got \(9, 6\)'),
    (dict(valid=torch.ones(2, 9)), 'valid must be bool .*float32'),
    (dict(mask=torch.ones(2, 8, dtype=torch.bool)), r'mask .* \(2, 8\)'),
    (dict(coords=None), 'needs coords .* None'),
    (dict(coords=torch.zeros(2, 8, 2).long()), r'\(2, 9, 2\), got \(2, 8'),
    (dict(coords=torch.zeros(2, 9, 2)), 'whole pixels, int64, got .*float32')])
def test_bad_inputs_are_refused_by_value(change, value):
    inputs = dict(patches=torch.randn(2, 9, 6), valid=None, mask=None,
                  coords=torch.zeros(2, 9, 2).long()) | change
    with pytest.raises(ValueError, match=value):
        tiny(ppeg=True)(**inputs)


def test_no_such_layer_is_refused():
    with pytest.raises(ValueError, match=r'layer must be in \[-2, 1\], got 2'):
        tiny().class_token_attention(torch.randn(1, 9, 6), layer=2)
