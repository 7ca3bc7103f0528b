"""A ready-made test of what the models rely on in a patch aggregator.

Run a new bag classifier through :func:`check_aggregator_contract` before it
is trained.
"""

import copy
import math
from functools import partial
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmmedmask.testing.backbone_contract import require, require_close

# Patches of the bags: more than one, of which one is empty.
COUNTS = (9, 1, 0, 14, 5)
TOLERANCE = 1e-5
# Of bfloat16, whose numbers have 8 bits.
AMP_TOLERANCE = 0.1
_compare = partial(require_close, tolerance=TOLERANCE)


class _Bags(NamedTuple):
    patches: Tensor
    valid: Tensor | None
    coords: Tensor
    genes: dict

    def take(self, index: int, count: int) -> '_Bags':
        """One bag, without padding."""
        return _Bags(self.patches[index:index + 1, :count], None,
                     self.coords[index:index + 1, :count],
                     {key: value[index:index + 1]
                      for key, value in self.genes.items()})


def check_aggregator_contract(aggregator: nn.Module) -> None:
    """Check a patch aggregator against what the models rely on.

    Checked are: shapes, with an empty bag and one of a single patch, and
    batches without any patch; that neither padding nor other bags change a
    bag's result; the order of patches, if ``permutation_invariant``;
    attention, as weights; gradients of all parameters, with the auxiliary
    losses, without any patch, too; mixed precision. A ``mask_token`` needs
    none where nothing is masked: models freeze it there. The checks run on
    copies.

    Args:
        aggregator: The aggregator, with weights initialised. ``forward`` is
            given coordinates on a grid, and genes if ``uses_genes``.

    Raises:
        ContractError: If the aggregator breaks the contract; the message
            says where.
    """
    for name in ('in_dims', 'embed_dims'):
        require(isinstance(getattr(aggregator, name, None), int),
                f'{type(aggregator).__name__} has no {name} (int)')
    bags = _draw(aggregator)
    evaluated = copy.deepcopy(aggregator).eval()
    with torch.no_grad():
        for check in (_check_shapes, _check_padding, _check_alone,
                      _check_order, _check_attention, _check_genes,
                      _check_amp):
            check(evaluated, bags)
    if any(parameter.requires_grad for parameter in aggregator.parameters()):
        _check_gradients(copy.deepcopy(aggregator).train(), bags)


def _draw(aggregator: nn.Module) -> _Bags:
    generator = torch.Generator().manual_seed(0)
    batch, longest = len(COUNTS), max(COUNTS)
    valid = torch.arange(longest) < torch.tensor(COUNTS)[:, None]
    patches = torch.randn(batch, longest, aggregator.in_dims,
                          generator=generator)
    patches[~valid] = 0
    cells = torch.stack([torch.randperm(36, generator=generator)[:longest]
                         for _ in range(batch)])
    coords = torch.stack([cells // 6, cells % 6], dim=2) * 256
    genes = {}
    if getattr(aggregator, 'uses_genes', False):
        genes = dict(genes=torch.randn(batch, aggregator.num_genes,
                                       generator=generator),
                     has_genes=torch.tensor([True, False, True, True, False]))
    return _Bags(patches, valid, coords, genes)


def _run(aggregator: nn.Module, bags: _Bags,
         mask: Tensor | None = None) -> tuple[Tensor, ...]:
    return aggregator(bags.patches, bags.valid, mask, bags.coords,
                      **bags.genes)


def _attention(aggregator: nn.Module, bags: _Bags) -> Tensor:
    return aggregator.attention(bags.patches, bags.valid, bags.coords,
                                **bags.genes)


def _without_patches(bags: _Bags) -> _Bags:
    return bags._replace(patches=bags.patches[:, :0], valid=bags.valid[:, :0],
                         coords=bags.coords[:, :0])


def _check_shapes(aggregator: nn.Module, bags: _Bags) -> None:
    class_wise = getattr(aggregator, 'class_wise', False)
    width = (aggregator.num_classes, ) if class_wise else ()
    none = _without_patches(bags)
    for what, batch in (('a batch', bags), ('a batch without patches', none)):
        vector, tokens = _run(aggregator, batch)
        rows, dims = batch.patches.shape[:2], aggregator.embed_dims
        for name, tensor, shape in (
                ('vector', vector, (len(COUNTS), *width, dims)),
                ('tokens', tokens, (*rows, dims))):
            require(tensor.shape == shape, f'the {name} of {what} has the '
                    f'shape {tuple(tensor.shape)}, expected {shape}')
            require(tensor.isfinite().all(), f'the {name} of {what} (bags of '
                    f'{COUNTS} patches) is not finite')
        require(not tokens[~batch.valid].any(),
                'tokens must be zero at padding')


def _check_padding(aggregator: nn.Module, bags: _Bags) -> None:
    vector, _ = _run(aggregator, bags)
    for content in (math.nan, 1e4):
        patches = bags.patches.masked_fill(~bags.valid[..., None], content)
        other, tokens = _run(aggregator, bags._replace(patches=patches))
        _compare(other, vector, f'padding of {content} reaches the vector')
        require(not tokens[~bags.valid].any(),
                'tokens must be zero at padding')
    longer = [nn.functional.pad(tensor, (0, 0, 0, 7))
              for tensor in (bags.patches, bags.coords)]
    padded = bags._replace(patches=longer[0], coords=longer[1],
                           valid=nn.functional.pad(bags.valid, (0, 7)))
    _compare(_run(aggregator, padded)[0], vector, 'more padding counts')


def _check_alone(aggregator: nn.Module, bags: _Bags) -> None:
    vector, tokens = _run(aggregator, bags)
    for index, count in enumerate(COUNTS):
        alone, own = _run(aggregator, bags.take(index, count))
        what = f'a bag of {count} patches alone against in a batch, '
        _compare(alone[0], vector[index], what + 'vector')
        _compare(own[0], tokens[index, :count], what + 'tokens')


def _check_order(aggregator: nn.Module, bags: _Bags) -> None:
    if not getattr(aggregator, 'permutation_invariant', False):
        return
    order = torch.arange(bags.patches.shape[1]).expand(len(COUNTS), -1).clone()
    generator = torch.Generator().manual_seed(1)
    for row, count in zip(order, COUNTS, strict=True):
        row[:count] = torch.randperm(count, generator=generator)
    rows = torch.arange(len(COUNTS))[:, None]
    shuffled = bags._replace(
        patches=bags.patches[rows, order], coords=bags.coords[rows, order])
    bag_tokens, tokens = _run(aggregator, shuffled)
    expected = _run(aggregator, bags)
    _compare(bag_tokens, expected[0],
             'permutation_invariant, but the order of patches counts')
    _compare(tokens, expected[1][rows, order],
             'tokens do not follow the order of their patches')


def _check_attention(aggregator: nn.Module, bags: _Bags) -> None:
    weights = _attention(aggregator, bags)
    batch, length = bags.valid.shape
    require(weights.ndim in (2, 3) and
            (weights.shape[0], weights.shape[-1]) == (batch, length),
            f'attention has the shape {tuple(weights.shape)}, expected '
            f'({batch}, {length}) or ({batch}, K, {length})')
    by_row = weights if weights.ndim == 3 else weights[:, None]
    outside = ~bags.valid[:, None].expand_as(by_row)
    require((by_row >= 0).all() and not by_row[outside].any(),
            'attention must be at least 0, and 0 at padding')
    filled = bags.valid.any(dim=1)
    total = by_row.sum(dim=2)
    _compare(total, filled[:, None].expand_as(total).to(total.dtype),
             'attention must have sum 1 over each bag, 0 if it is empty')
    for index, count in enumerate(COUNTS):
        alone = _attention(aggregator, bags.take(index, count))
        _compare(alone[0], weights[index][..., :count],
                 f'attention of a bag of {count} patches alone')


def _check_genes(aggregator: nn.Module, bags: _Bags) -> None:
    if not bags.genes:
        return
    vector, _ = _run(aggregator, bags)
    has, genes = bags.genes['has_genes'], bags.genes['genes']
    hidden, changed = (
        _run(aggregator, bags._replace(
            genes=dict(genes=other, has_genes=has)))[0]
        for other in (genes.masked_fill(~has[:, None], 7), -genes))
    _compare(hidden, vector, 'genes of patients without genes count')
    require(not torch.allclose(changed[has], vector[has]),
            'uses_genes, but genes make no difference')


def _check_amp(aggregator: nn.Module, bags: _Bags) -> None:
    vector, _ = _run(aggregator, bags)
    with torch.autocast('cpu', torch.bfloat16):
        half, _ = _run(aggregator, bags)
        weights = _attention(aggregator, bags)
    require_close(half.float(), vector, 'bfloat16 autocast', AMP_TOLERANCE)
    require(weights.dtype in (torch.float32, torch.float64),
            f'attention under autocast must stay float32, is {weights.dtype}')


def _check_gradients(aggregator: nn.Module, bags: _Bags) -> None:
    token = getattr(aggregator, 'mask_token', None)
    none = _without_patches(bags)
    batches = [('a batch', bags, None),
               ('a batch without patches', none, None),
               ('a batch without patches', none._replace(valid=None), None)]
    if token is not None:
        mask = bags.valid & (torch.arange(bags.valid.shape[1]) % 2 == 0)
        batches.append(('a masked batch', bags, mask))
    trained = {name: parameter for name, parameter
               in aggregator.named_parameters() if parameter.requires_grad}
    moved = set()
    for (what, batch, mask), amp in product(batches, (False, True)):
        aggregator.zero_grad()
        with torch.autocast('cpu', torch.bfloat16, enabled=amp):
            loss = _loss(aggregator, batch, mask, with_tokens=amp)
        if loss.requires_grad:
            loss.backward()
        for name, parameter in trained.items():
            if mask is None and parameter is token:
                continue
            require(parameter.grad is not None, f'the vector of {what} does '
                    f'not depend on {name}{" in bfloat16" if amp else ""}: '
                    'distributed training would wait for it')
            require(parameter.grad.isfinite().all(),
                    f'the gradient of {name} is not finite')
            if parameter.grad.any():
                moved.add(name)
    still = [name for name in trained if name not in moved]
    require(not still, f'no gradient reaches {", ".join(still)}')


def _loss(aggregator: nn.Module, bags: _Bags, mask: Tensor | None,
          with_tokens: bool) -> Tensor:
    """What a model would minimise; some parameters serve the tokens alone."""
    generator = torch.Generator().manual_seed(2)
    vector, tokens = _run(aggregator, bags, mask)
    total = (vector.float() * torch.randn(
        vector.shape, generator=generator)).sum()
    if hasattr(aggregator, 'auxiliary_losses'):
        labels = torch.arange(len(COUNTS)) % aggregator.num_classes
        total = total + sum(aggregator.auxiliary_losses(
            tokens, bags.valid, labels).values())
    if hasattr(aggregator, 'instance_logits'):
        total = total + aggregator.instance_logits(
            tokens, bags.valid).float().square().sum()
    if with_tokens:
        total = total + tokens.float().pow(2).sum()
    return total
