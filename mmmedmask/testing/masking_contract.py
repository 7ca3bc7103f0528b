"""A ready-made test of what training relies on in a masking strategy.

Run a new strategy through :func:`check_masking_contract` before it is
trained; docs/how_to/add_a_masking_strategy.md shows how to write one.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from mmengine.logging import MessageHub
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from mmmedmask.functional.attention_masking import (
    TokenPartition,
    token_counts,
)
from mmmedmask.functional.masking import num_masked_patches, resize_mask
from mmmedmask.testing.backbone_contract import require, require_close

# Indices of a batch's samples, in no order; the last one differs from the
# first by a multiple of all numbers up to 16.
SAMPLES = (7, 0, 12, 3, 5, 720727)
# Iterations, or seeds, in which masks could be equal by chance.
DRAWS = 8
# How probable it is that a patch is never masked by chance.
UNREACHED = 1e-6
# By how much heavy patches are more frequent where a map puts them, at least.
# Half of them are heavy: a draw that follows maps strictly has 0.5 or more.
MAP_MARGIN = 0.25
MAP_TOLERANCE = 1e-4
# By how much a loss or a prediction may change with what nothing sees.
UNSEEN_TOLERANCE = 1e-6


class _Case(NamedTuple):
    """Masks (B, L) of samples: 1 = masked, -1 = thrown, 0 = visible."""

    what: str
    drawn: bool
    draw: Callable[..., Tensor]
    masked: int
    thrown: int
    visible: int

    def __call__(self, samples: Sequence[int | None] = SAMPLES,
                 iteration: int = 0, seed: int = 0,
                 weights: Tensor | None = None) -> Tensor:
        with _run_state(seed=seed, iter=iteration):
            return self.draw(samples, weights)


def check_masking_contract(model: nn.Module, drawn: bool = True,
                           tolerance: int = 0) -> None:
    """Check how a model masks against what its training relies on.

    The model is an MSMAE, an MSMAEClassifier or another one with their
    ``partition``; or a CMIM, whose preprocessor makes the ``mask``. Checked
    are: shape, type and device of masks, and that 1 is masked; that as many
    patches of every image are masked as the ratios say; that the masks of
    each sample follow the seed, the iteration and its index, and neither a
    global generator nor the rest of the batch; that every patch is masked in
    some draws and visible in others; maps, and that each sample's masks
    follow its own, the right way; the error for samples without an index;
    gradients of the mask tokens; that nothing of the pixels of masked and
    thrown patches reaches a prediction (or a classifier's loss), and that
    the loss counts masked patches alone. The checks run on a copy.

    Args:
        model: The model, with weights initialised.
        drawn: Whether masks are drawn from maps, too. False: with maps they
            follow from these alone, as those of the most attended patches do.
        tolerance: By how many patches an image may miss the ratios.

    Raises:
        ContractError: If the strategy breaks the contract; the message
            says where.
    """
    model = copy.deepcopy(model).train()
    if hasattr(model, 'partition'):
        model.seed = None
        cases = _partition_cases(model, drawn)
        _check_maps(model)
    else:
        preprocessor = getattr(model, 'data_preprocessor', None)
        require(hasattr(preprocessor, 'mask_ratio'),
                f'{type(model).__name__} has neither partition() nor a data '
                'preprocessor with a mask_ratio')
        preprocessor.seed = preprocessor.color = None
        cases = [_mask_case(model)]
    for case in cases:
        _check_counts(case, tolerance)
        if case.drawn:
            _check_draws(case)
        _check_reach(case)
    if hasattr(model, 'partition'):
        _check_own_maps(model, cases[-1])
        _check_gradients(model)
        _check_unseen_patches(model)
    else:
        _check_gradients(model)
        _check_unseen_views(model)


@contextmanager
def _run_state(**values: int) -> Iterator[None]:
    """What the runner would tell the model; afterwards as it was."""
    state = MessageHub.get_current_instance().runtime_info
    before = dict(state)
    state.update(values)
    try:
        yield
    finally:
        state.clear()
        state.update(before)


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _images(model: nn.Module, samples: Sequence[int | None]) -> Tensor:
    """An image of its own for each index, of the size of the backbone."""
    size = model.backbone.img_size
    return torch.stack([
        torch.rand(model.backbone.in_channels, *size,
                   generator=torch.Generator().manual_seed(index or 0))
        for index in samples]).to(_device(model))


def _grid(model: nn.Module) -> tuple[int, int]:
    return model.backbone.grid_size(_images(model, SAMPLES[:1]))


def _samples(samples: Sequence[int | None], maps: Tensor | None,
             device: torch.device | str = 'cpu') -> list[DataSample]:
    """Samples that show their whole image, of class 0."""
    packed = []
    for row, index in enumerate(samples):
        sample = DataSample(metainfo=dict(
            img_path=f'{index}.png', crop_box=(0.0, 0.0, 1.0, 1.0),
            flip=False, flip_direction=None))
        if index is not None:
            sample.set_field(index, 'sample_idx', field_type='metainfo')
        if maps is not None:
            # As the hook keeps them.
            sample.set_field(maps[row].half(), 'attention_map',
                             dtype=Tensor)
        packed.append(sample.set_gt_label(0).to(device))
    return packed


def _partition_cases(model: nn.Module, drawn: bool) -> list[_Case]:
    """Without maps, if the model can, and with them."""
    grid = _grid(model)

    def draw_without(samples: Sequence[int | None],
                     weights: Tensor | None) -> Tensor:
        images = _images(model, samples)
        partition = model.partition(
            images, _samples(samples, weights, images.device))
        return _flags_of_partition(partition, images, math.prod(grid))

    def draw_with(samples: Sequence[int | None],
                  weights: Tensor | None) -> Tensor:
        if weights is None:
            weights = torch.ones(len(samples), math.prod(grid))
        return draw_without(samples, weights.unflatten(1, grid))

    cases = []
    without = getattr(model, 'ratios_without_maps', None)
    if without is not None:
        cases.append(_Case('without maps', True, draw_without,
                           *token_counts(math.prod(grid), *without)))
    return [*cases, _Case('with maps', drawn, draw_with, *token_counts(
        math.prod(grid), model.mask_ratio, model.throw_ratio))]


def _flags_of_partition(partition: TokenPartition, images: Tensor,
                        num_patches: int) -> Tensor:
    require(isinstance(partition, TokenPartition),
            'partition() must return a TokenPartition, got '
            f'{type(partition).__name__}')
    for name, ids in partition._asdict().items():
        require(ids.ndim == 2 and len(ids) == len(images),
                f'{name} has the shape {tuple(ids.shape)}, expected '
                f'({len(images)}, number of {name} tokens)')
        require(ids.dtype == torch.int64,
                f'{name} is {ids.dtype}, expected ids in torch.int64')
        require(ids.device == images.device, f'{name} is on {ids.device}, '
                f'the images are on {images.device}')
        require((ids.diff(dim=1) > 0).all(),
                f'the ids of {name} are not ascending')
    together = torch.cat(partition, dim=1).sort(dim=1).values
    every = torch.arange(num_patches, device=images.device)
    require(together.shape[1] == num_patches and (together == every).all(),
            f'each of {num_patches} tokens has to be in one of masked, thrown '
            'and visible')
    return partition.flags()


def _mask_case(model: nn.Module) -> _Case:
    """The patch mask that the preprocessor of CMIM makes."""
    preprocessor = model.data_preprocessor
    grid = tuple(side // preprocessor.patch_size
                 for side in preprocessor.view_size)

    def draw(samples: Sequence[int | None],
             weights: Tensor | None) -> Tensor:
        mask = _cmim_inputs(model, samples)['mask']
        shape = (len(samples), 1, *grid)
        require(mask.shape == shape, f'the mask has the shape '
                f'{tuple(mask.shape)}, expected {shape}')
        require(mask.dtype == torch.float32,
                f'the mask is {mask.dtype}, expected torch.float32')
        require(mask.device == _device(model), f'the mask is on {mask.device},'
                f' the model on {_device(model)}')
        require(((mask == 0) | (mask == 1)).all(),
                'the mask has other values than 0 (visible) and 1 (masked)')
        return mask.flatten(1)

    patches = math.prod(grid)
    masked = num_masked_patches(patches, preprocessor.mask_ratio)
    return _Case('in the views', True, draw, masked, 0, patches - masked)


def _cmim_inputs(model: nn.Module, samples: Sequence[int | None]) -> dict:
    preprocessor = model.data_preprocessor
    packed = _samples(samples, None)
    tiles = [torch.randint(
        256, (preprocessor.in_channels, *preprocessor.view_size),
        generator=torch.Generator().manual_seed(index or 0),
        dtype=torch.uint8) for index in samples]
    if preprocessor.view_source == 'loader':
        tiles = [torch.stack([tile, tile]) for tile in tiles]
        for sample in packed:
            for name in ('theta_query', 'theta_key'):
                sample.set_field(torch.eye(3), name, field_type='metainfo')
    return preprocessor(dict(inputs=tiles, data_samples=packed),
                        training=True)['inputs']


def _check_counts(case: _Case, tolerance: int) -> None:
    flags = case()
    for name, flag, expected in (('masked', 1, case.masked),
                                 ('thrown', -1, case.thrown)):
        for index, count in zip(SAMPLES, (flags == flag).sum(dim=1).tolist(),
                                strict=True):
            hint = '. That many should be visible: is the mask inverted? 1 ' \
                'is masked' if name == 'masked' and count == case.visible \
                else ''
            require(abs(count - expected) <= tolerance,
                    f'{case.what}, {count} of {flags.shape[1]} patches of '
                    f'sample {index} are {name}, but the ratios say '
                    f'{expected}{hint}')


def _check_draws(case: _Case) -> None:
    masks = case()
    by_seed = torch.stack([case(seed=seed) for seed in range(DRAWS)])
    by_iteration = torch.stack([case(iteration=iteration)
                                for iteration in range(DRAWS)])
    different = len(by_iteration.transpose(0, 1).unique(dim=0))
    require(different == len(SAMPLES),
            f'{case.what}, the samples {SAMPLES} of a batch share '
            f'{different} mask{"s" * (different > 1)} in each of {DRAWS} '
            'iterations')
    state = torch.get_rng_state()
    torch.manual_seed(1 + torch.initial_seed() % 2**31)
    again = case()
    torch.set_rng_state(state)
    require(torch.equal(again, masks), f'{case.what}, a second draw from the '
            'same seed, iteration and samples gives other masks: draw from '
            'mmmedmask.functional.randomness, not from a global generator')
    for row, index in enumerate(SAMPLES):
        require(torch.equal(case([index])[0], masks[row]), f'{case.what}, the '
                f'mask of sample {index} alone is not the one in its batch')
    for name, drawn in (('seed', by_seed), ('iteration', by_iteration)):
        stuck = [index for index, same in zip(
            SAMPLES, (drawn == masks).all(dim=2).all(dim=0).tolist(),
            strict=True) if same]
        require(not stuck, f'{case.what}, the masks of the samples {stuck} do '
                f'not follow the {name} of the run')
    try:
        case([None, *SAMPLES])
    except ValueError as error:
        require('sample_idx' in str(error), 'the ValueError for a sample '
                f'without sample_idx does not name that: {error}')
        return
    except (AttributeError, KeyError, TypeError) as error:
        require(False, 'a sample without sample_idx needs a ValueError that '
                f'names it, got {type(error).__name__}: {error}')
    require(False, 'a sample without sample_idx is accepted, so the masks '
            'are not drawn from it')


def _check_reach(case: _Case) -> None:
    """Masked and visible, over draws or, if nothing is drawn, over maps."""
    patches = case.masked + case.thrown + case.visible
    counts = {flag: count for flag, count in (
        (1, case.masked), (0, case.visible)) if count}
    share = min(counts.values()) / patches
    rounds = math.ceil(math.log(UNREACHED / patches) / math.log1p(-share)
                       / len(SAMPLES)) if share < 1 else 1
    generator = torch.Generator().manual_seed(0)
    seen = {flag: torch.zeros(patches, dtype=torch.bool) for flag in counts}
    for iteration in range(rounds):
        maps = None if case.drawn else torch.rand(
            len(SAMPLES), patches, generator=generator)
        flags = case(iteration=iteration, weights=maps).cpu()
        for flag, reached in seen.items():
            reached |= (flags == flag).any(dim=0)
    for flag, reached in seen.items():
        never = (~reached).nonzero().flatten().tolist()
        require(not never, f'{case.what}, {len(never)} of {patches} patches '
                f'are never {"masked" if flag else "visible"} in '
                f'{rounds * len(SAMPLES)} draws: {never[:8]}')


def _check_maps(model: nn.Module) -> None:
    """The model's own maps, as AttentionMaskHook asks for them."""
    if not hasattr(model, 'attention_maps'):
        return
    evaluated = copy.deepcopy(model).eval()
    images = _images(model, SAMPLES)
    with torch.no_grad():
        maps = evaluated.attention_maps(images)
        require(maps.ndim == 3 and len(maps) == len(images),
                f'attention maps have the shape {tuple(maps.shape)}, expected '
                f'({len(images)}, rows, columns)')
        require(maps.is_floating_point(),
                f'attention maps are {maps.dtype}, expected floats')
        require((maps >= 0).all(), 'attention maps have to be finite and at '
                f'least 0, the least is {maps.min()}')
        require(maps.half().isfinite().all(), 'attention maps are kept as '
                f'float16, which does not hold {maps.max()}')
        for row in range(len(images)):
            require_close(
                evaluated.attention_maps(images[row:row + 1])[0], maps[row],
                f'the attention map of sample {SAMPLES[row]} alone',
                MAP_TOLERANCE)


def _check_own_maps(model: nn.Module, case: _Case) -> None:
    """Each sample follows its own map: heavy patches first, or last."""
    patches = case.masked + case.thrown + case.visible
    maps = torch.rand(len(SAMPLES), patches,
                      generator=torch.Generator().manual_seed(0))
    flags = case(weights=maps)
    for row, index in enumerate(SAMPLES):
        alone = case([index], weights=maps[row:row + 1])[0]
        require(torch.equal(alone, flags[row]), f'{case.what}, the mask of '
                f'sample {index} alone is not the one in its batch: does it '
                'follow the map of another sample?')
    masking = getattr(model, 'masking', 'random')
    if masking == 'random' or not case.masked:
        return
    heavy = _heavy_halves(*_grid(model))
    weights = heavy.float().clamp_min(0.001)
    flags = torch.stack([case(iteration=iteration, weights=weights)
                         for iteration in range(DRAWS)], dim=1).cpu()
    for index, half, drawn in zip(SAMPLES, heavy, flags, strict=True):
        masked, visible = (float(half.expand_as(drawn)[drawn == flag]
                                 .float().mean()) for flag in (1, 0))
        gap = masked - visible if masking == 'attention' \
            else visible - masked
        hint = 'is the mask inverted?' if gap <= -MAP_MARGIN else \
            'does the draw follow the map of each sample, place by place?'
        require(gap >= MAP_MARGIN, f'masking={masking!r}, but {masked:.0%} of '
                f'the masked patches of sample {index} and {visible:.0%} of '
                f'the visible ones are heavy in its map: {hint}')


def _heavy_halves(rows: int, columns: int) -> Tensor:
    """A half of the grid per sample, neighbours' differ: bool (B, L)."""
    top = (torch.arange(rows) < rows / 2)[:, None].expand(rows, columns)
    left = (torch.arange(columns) < columns / 2).expand(rows, columns)
    halves = [half.flatten() for half in (
        top, ~top, left, ~left, top ^ left, top == left)
        if half.any() and not half.all()]
    return torch.stack([halves[row % len(halves)]
                        for row in range(len(SAMPLES))])


def _training_batch(model: nn.Module
                    ) -> tuple[Tensor | dict, list[DataSample] | None]:
    """What the model's ``loss`` takes."""
    if not hasattr(model, 'partition'):
        with _run_state(seed=0, iter=0):
            return _cmim_inputs(model, SAMPLES), None
    images = _images(model, SAMPLES)
    return images, _samples(SAMPLES, torch.ones(len(SAMPLES), *_grid(model)),
                            images.device)


def _loss(model: nn.Module, inputs: Tensor | dict,
          packed: list[DataSample] | None) -> Tensor:
    with _run_state(seed=0, iter=0):
        losses = model.loss(inputs, packed)
    return sum(value for name, value in losses.items() if 'loss' in name)


def _check_gradients(model: nn.Module) -> None:
    model.zero_grad()
    total = _loss(model, *_training_batch(model))
    require(total.isfinite(), f'the loss is {float(total.detach())}')
    total.backward()
    for name, parameter in model.named_parameters():
        gradient = parameter.grad
        require(gradient is None or gradient.isfinite().all(),
                f'the gradient of {name} is not finite')
        if 'mask_token' in name and parameter.requires_grad:
            require(gradient is not None and gradient.any(),
                    f'no gradient reaches {name}: are the masked patches '
                    'hidden from the encoder, and decoded?')


@torch.no_grad()
def _step(model: nn.Module, inputs: Tensor | dict,
          packed: list[DataSample] | None) -> tuple[Tensor, list[Tensor]]:
    """The loss, and what the decoder gave; dropout is the same each time."""
    device, predictions = _device(model), []
    neck = getattr(model, 'neck', None) or nn.Identity()
    watching = neck.register_forward_hook(
        lambda module, arguments, output: predictions.extend(
            [output] if isinstance(output, Tensor) else output))
    try:
        with torch.random.fork_rng([device] if device.type == 'cuda' else []):
            torch.manual_seed(0)
            return _loss(model, inputs, packed), predictions
    finally:
        watching.remove()


def _repainted(images: Tensor, where: Tensor) -> Tensor:
    """Other pixels, those of another image, where a patch mask is 1."""
    places = resize_mask(where.to(images), images.shape[-2:])
    return torch.where(places == 1, images.roll(1, dims=0), images)


def _check_unseen_patches(model: nn.Module) -> None:
    """Masked patches are for the loss alone, thrown ones for nothing."""
    images, packed = _training_batch(model)
    with _run_state(seed=0, iter=0):
        partition = model.partition(images, packed)
    # A strategy may look at the whole image, but not what is trained.
    model.partition = lambda inputs, data_samples: partition
    flags = partition.flags().unflatten(1, _grid(model))[:, None]
    reconstructs = any('mask_token' in name
                       for name, _ in model.named_parameters())
    loss, predictions = _step(model, images, packed)
    for name, flag in (('masked', 1), ('thrown', -1)):
        if not (flags == flag).any():
            continue
        other, others = _step(
            model, _repainted(images, flags == flag), packed)
        if reconstructs:
            for first, second in zip(predictions, others, strict=True):
                require_close(second, first, f'with other pixels in {name} '
                              'patches the prediction changes, so the encoder '
                              'or decoder sees them', UNSEEN_TOLERANCE)
        if reconstructs and name == 'masked':
            require(other != loss, 'the loss does not change with the pixels '
                    'of masked patches: are these the ones that are to be '
                    'predicted?')
        else:
            require_close(other, loss, f'with other pixels in {name} patches '
                          'the loss changes, so something sees them',
                          UNSEEN_TOLERANCE)


def _check_unseen_views(model: nn.Module) -> None:
    """The query counts where it is visible, the key where it is masked."""
    inputs, _ = _training_batch(model)
    mask = inputs['mask']
    # The same view twice: key and mask then share their places.
    views = torch.eye(3, device=mask.device).expand(len(mask), 3, 3)
    inputs |= dict(theta_query=views, theta_key=views, separable=True)

    def loss_with(name: str, where: Tensor) -> Tensor:
        return _step(model, inputs | {
            name: _repainted(inputs[name], where)}, None)[0]

    loss, _ = _step(model, inputs, None)
    require_close(loss_with('query', mask), loss, 'with other pixels in '
                  'masked patches of the query the loss changes, so the '
                  'encoder sees them', UNSEEN_TOLERANCE)
    require(loss_with('key', mask) != loss, 'the loss does not change with '
            'the pixels of the key where the query is masked: are these the '
            'ones that are to be predicted?')
    # A target that is normalised per patch takes whole patches of the head.
    size = inputs['key'].shape[-2:]
    side = model.head.patch_size if getattr(model.head, 'norm_pix', 0) else 1
    counted = resize_mask(max_pool2d(resize_mask(mask, size), side), size)
    require_close(loss_with('key', 1 - counted), loss, 'with other pixels of '
                  'the key where the query is visible the loss changes, so '
                  'it counts them', UNSEEN_TOLERANCE)
