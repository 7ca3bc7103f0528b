"""Checkpoints of masked autoencoders: two sets of names, one conversion.

MSMAE's are mmpretrain's: ``backbone.*``, ``neck.*`` and ``head.fc.*``. MAE's
own code, and the many that follow it, have ``blocks.0.attn.qkv.weight`` and so
on. The tensors do not tell the number of attention heads, nor how images were
normalised. Position embeddings are carried by value, so it does not matter
that MAE's own have their halves the other way round than mmpretrain's.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isqrt

from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor

from mmmedmask.engine.checkpoint.matching import matches_any
from mmmedmask.engine.checkpoint.reading import LISTED_NAMES, listing
from mmmedmask.util.checks import check_choice

NAMINGS = ('msmae', 'mae')

#: Parts of a transformer layer, MSMAE's names to MAE's.
LAYER_PARTS = {
    'ln1': 'norm1', 'attn.qkv': 'attn.qkv', 'attn.proj': 'attn.proj',
    'ln2': 'norm2', 'ffn.layers.0.0': 'mlp.fc1', 'ffn.layers.1': 'mlp.fc2'}
#: Tensors and modules outside of the layers.
TENSORS = {'backbone.cls_token': 'cls_token',
           'backbone.pos_embed': 'pos_embed', 'neck.mask_token': 'mask_token',
           'neck.decoder_pos_embed': 'decoder_pos_embed'}
#: The norm after the last layer, and the one after average pooling, of which
#: a model has one or both.
FINAL_NORMS = {'backbone.ln1': 'norm', 'backbone.ln2': 'fc_norm'}
MODULES = {
    'backbone.patch_embed.projection': 'patch_embed.proj',
    **FINAL_NORMS,
    'neck.decoder_embed': 'decoder_embed',
    'neck.ln1': 'decoder_norm',
    'neck.decoder_pred': 'decoder_pred',
    'head.fc': 'head'}
POSITIONS = ('backbone.pos_embed', 'neck.decoder_pos_embed')
PATCH_WEIGHT = 'backbone.patch_embed.projection.weight'


def pair_names(num_layers: int, num_decoder_layers: int) -> dict[str, str]:
    """List all tensors that a masked autoencoder can have: ours to MAE's."""
    modules = dict(MODULES)
    for ours, theirs, count in (('backbone.layers', 'blocks', num_layers),
                                ('neck.decoder_blocks', 'decoder_blocks',
                                 num_decoder_layers)):
        for index in range(count):
            for part, their_part in LAYER_PARTS.items():
                modules[f'{ours}.{index}.{part}'] = (
                    f'{theirs}.{index}.{their_part}')
    return TENSORS | {f'{ours}.{parameter}': f'{theirs}.{parameter}'
                      for ours, theirs in modules.items()
                      for parameter in ('weight', 'bias')}


def recognize_naming(names: Sequence[str]) -> str:
    """Tell whose names these are: ``'msmae'`` (as mmpretrain) or ``'mae'``."""
    if any(name.startswith('backbone.layers.') for name in names):
        return 'msmae'
    if any(name.startswith('blocks.') for name in names):
        return 'mae'
    starts = sorted({name.split('.')[0] for name in names})
    raise ValueError(
        'this is not a masked autoencoder that can be converted: there is '
        'neither backbone.layers.* (mmpretrain, MSMAE) nor blocks.* (MAE); '
        f'the names begin with {starts[:LISTED_NAMES]}')


@dataclass(frozen=True)
class KeyReport:
    """What became of every tensor of the source and of the target.

    Attributes:
        carried: Names in the source to names in the target.
        notes: What was changed on the way, by the target's names.
        left_out: Names in the source to the reason; ``anew`` those in the
            target's model that the source cannot fill.
        misfits: Tensors that do not fit, a sentence each.
        unknown: Names in the source that no masked autoencoder has.
    """

    carried: Mapping[str, str]
    notes: Mapping[str, str]
    left_out: Mapping[str, str]
    anew: Mapping[str, str]
    missing: Sequence[str]
    misfits: Sequence[str]
    unknown: Sequence[str]

    @property
    def complete(self) -> bool:
        """Whether everything arrived that should."""
        return not (self.missing or self.misfits or self.unknown)

    def describe(self) -> str:
        """List every tensor of both sides, by what became of it."""
        left_out, anew = (
            [f'{name}: {reason}' for name, reason in names.items()]
            for names in (self.left_out, self.anew))
        parts = {
            'carried over': [
                f'{source} -> {target}' +
                (f' ({self.notes[target]})' if target in self.notes else '')
                for source, target in self.carried.items()],
            'of the source left out': left_out,
            'of the source unknown': self.unknown,
            'of the target that start anew': anew,
            'of the target missing': self.missing,
            'that do not fit': self.misfits}
        return '\n'.join('\n  '.join([f'{len(rows)} {title}', *rows])
                         for title, rows in parts.items())

    def problems(self) -> str:
        """Say what is wrong, naming at most a few tensors of each kind."""
        lines = list(self.misfits[:LISTED_NAMES])
        if len(self.misfits) > LISTED_NAMES:
            lines.append(f'and {len(self.misfits) - LISTED_NAMES} more that '
                         'do not fit')
        if self.missing:
            lines.append(f'{len(self.missing)} tensors are missing: '
                         f'{listing(self.missing)}')
        if self.unknown:
            lines.append(
                f'{len(self.unknown)} tensors of the source do not belong to '
                f'a masked autoencoder: {listing(self.unknown)}; leave_out '
                '(--leave-out) names those that are not needed')
        return '\n'.join(lines)


def convert_mae(
    tensors: Mapping[str, Tensor], naming: str = 'msmae', *,
    model: Mapping[str, Tensor] | None = None,
    grid_size: tuple[int, int] | None = None,
    source_grid: tuple[int, int] | None = None, encoder_only: bool = False,
    keep_head: bool = False, leave_out: Sequence[str] = ()
) -> tuple[dict[str, Tensor], KeyReport]:
    """Convert the tensors of a masked autoencoder.

    Without ``model``, the target is the architecture of the source: all
    layers up to the last one, each of them complete. With it, names and
    shapes have to be those of the model, except that

    * position embeddings are interpolated (bicubic, as mmpretrain does it)
      to another grid of patches,
    * the norm after average pooling and the class head start anew if the
      source has none, and
    * what only one of pre-training and fine-tuning needs (decoder, final
      norm) is left out where the model has no such part.

    Args:
        tensors: Name to tensor; whose names they are is recognised.
        naming: Whose names to write, one of ``NAMINGS``.
        model: State dict of the model to load the result, in MSMAE's names.
        grid_size: The model's (rows, columns) of patches; needed with it.
        source_grid: The source's; needed if it is not square.
        encoder_only: Leave the decoder out.
        keep_head: Carry the class head, for the very same classes.
        leave_out: Shell patterns of names in the source to do without.

    Raises:
        ValueError: If not everything arrives that should; says what.
    """
    check_choice('naming', naming, NAMINGS)
    if (model is None) != (grid_size is None):
        raise ValueError('model and grid_size belong together, got '
                         f'{"a" if model is not None else "no"} model and the '
                         f'grid_size {grid_size}')
    pairs = pair_names(_count_layers(tensors, ('backbone.layers', 'blocks')),
                       _count_layers(tensors, ('neck.decoder_blocks',
                                               'decoder_blocks')))
    to_ours = {ours: ours for ours in pairs}
    if recognize_naming(list(tensors)) == 'mae':
        to_ours = {theirs: ours for ours, theirs in pairs.items()}
    to_target = pairs if naming == 'mae' else {name: name for name in pairs}

    # All in MSMAE's names until the end.
    given, sources, left_out, unknown = {}, {}, {}, []
    for source, value in tensors.items():
        ours = to_ours.get(source)
        if matches_any(source, leave_out):
            left_out[source] = 'as asked'
        elif ours is None:
            unknown.append(source)
        elif reason := _reason_to_leave_out(ours, model, encoder_only,
                                            keep_head):
            left_out[source] = reason
        else:
            given[ours], sources[ours] = value, source
    missing, anew = [], {}
    for name in model if model is not None else pairs:
        if name in given:
            continue
        reason = _reason_to_start_anew(name, encoder_only, keep_head)
        if not reason:
            missing.append(name)
        elif model is not None:
            anew[to_target.get(name, name)] = reason
    norms = [f'{norm}.weight' in given for norm in FINAL_NORMS]
    if model is None and norms == [False, True]:
        # A norm after average pooling replaces the other.
        missing = [name for name in missing
                   if not _is_part(name, 'backbone.ln1')]
    notes, misfits = {}, [
        f'{name} holds values that are not finite'
        for name, value in given.items()
        if value.is_floating_point() and not value.isfinite().all()]
    if model is not None:
        given, notes, others = _fit(given, model, grid_size, source_grid)
        misfits += others
    report = KeyReport(
        carried={source: to_target[ours] for ours, source in sources.items()},
        notes={to_target[name]: note for name, note in notes.items()},
        left_out=left_out, anew=anew, misfits=misfits, unknown=unknown,
        missing=[to_target.get(name, name) for name in missing])
    if not report.complete:
        advice = ''
        if missing and all(_is_part(name, 'neck') for name in missing):
            advice = ('\nOnly the decoder is not there: encoder_only '
                      '(--encoder-only) converts the encoder alone.')
        raise ValueError('the conversion is not complete.\n'
                         f'{report.problems()}{advice}')
    return {to_target[name]: value for name, value in given.items()}, report


def _count_layers(names: Mapping[str, Tensor], prefixes: Sequence[str]) -> int:
    pattern = '|'.join(map(re.escape, prefixes))
    layers = [re.match(rf'(?:{pattern})\.(\d+)\.', name) for name in names]
    return max((int(layer[1]) + 1 for layer in layers if layer), default=0)


def _is_part(name: str, *parts: str) -> bool:
    return name.startswith(tuple(f'{part}.' for part in parts))


def _reason_to_leave_out(name: str, model: Mapping[str, Tensor] | None,
                         encoder_only: bool, keep_head: bool) -> str | None:
    if _is_part(name, 'neck') and encoder_only:
        return 'the decoder is not asked for'
    if _is_part(name, 'head') and not keep_head:
        return "the class head knows the source's classes only"
    if model is not None and name not in model:
        if _is_part(name, 'neck') and not any(
                _is_part(other, 'neck') for other in model):
            return 'the model has no decoder'
        if _is_part(name, *FINAL_NORMS):
            return 'the model has no such norm after its last layer'
    return None


def _reason_to_start_anew(name: str, encoder_only: bool,
                          keep_head: bool) -> str | None:
    if _is_part(name, 'neck') and encoder_only:
        return 'the decoder was not asked for'
    if _is_part(name, 'head') and not keep_head:
        return "the class head learns the new task's classes"
    if _is_part(name, 'backbone.ln2'):
        return 'the norm after average pooling is not pre-trained'
    return None


def _fit(
    given: Mapping[str, Tensor], model: Mapping[str, Tensor],
    grid_size: tuple[int, int], source_grid: tuple[int, int] | None
) -> tuple[dict[str, Tensor], dict[str, str], list[str]]:
    """Give tensors, notes on what was interpolated, and what does not fit."""
    fitted, notes, misfits = {}, {}, []
    for name, value in given.items():
        if name not in model:
            misfits.append(f'the model has no {name}: is it shallower, or of '
                           'another architecture?')
            continue
        fitted[name] = value
        if name in POSITIONS and value.ndim == 3 \
                and value.shape[2] == model[name].shape[2]:
            grid = source_grid or _guess_grid(name, value.shape[1] - 1,
                                              grid_size)
            if tuple(grid) == tuple(grid_size) \
                    and value.shape == model[name].shape:
                continue
            fitted[name] = resize_positions(value, grid, grid_size)
            notes[name] = (f'interpolated from {grid[0]} x {grid[1]} to '
                           f'{grid_size[0]} x {grid_size[1]} patches')
        elif value.shape != model[name].shape:
            misfits.append(_explain_shape(name, tuple(value.shape),
                                          tuple(model[name].shape)))
    return fitted, notes, misfits


def resize_positions(positions: Tensor, source_grid: tuple[int, int],
                     grid_size: tuple[int, int]) -> Tensor:
    """Interpolate position embeddings (1, 1 + rows * columns, C).

    The class token's is the first and stays; the type does, too. Raises a
    ValueError if ``source_grid`` is not the grid of ``positions``.
    """
    if source_grid[0] * source_grid[1] + 1 != positions.shape[1]:
        raise ValueError(
            f'a grid of {source_grid[0]} x {source_grid[1]} patches does not '
            f'have {positions.shape[1] - 1} positions')
    resized = resize_pos_embed(positions.float(), tuple(source_grid),
                               tuple(grid_size), 'bicubic', 1)
    return resized.to(positions.dtype)


def _guess_grid(name: str, num_patches: int,
                grid_size: tuple[int, int]) -> tuple[int, int]:
    """Tell the grid of positions from their number, if that is possible."""
    side = isqrt(num_patches)
    square = side**2 == num_patches
    alike = grid_size[0] * grid_size[1] == num_patches
    if square and alike and tuple(grid_size) != (side, side):
        raise ValueError(
            f'{name} is of {num_patches} patches, which may be {side} x '
            f'{side} or, as in the model, {grid_size[0]} x {grid_size[1]}: '
            'say which (source_grid, --source-grid)')
    if square:
        return side, side
    if alike:
        return grid_size
    raise ValueError(
        f'{name} is of {num_patches} patches, which is not a square: say how '
        'many rows and columns they are (source_grid, --source-grid)')


def _explain_shape(name: str, given: tuple[int, ...],
                   wanted: tuple[int, ...]) -> str:
    text = f'{name} has the shape {given}, the model wants {wanted}'
    if name == PATCH_WEIGHT and given[0] == wanted[0]:
        if given[1] != wanted[1]:
            return (f'{text}: the source was trained on {given[1]} channels, '
                    f'the model takes {wanted[1]}, and weights for other '
                    'channels would be invented. Gray images can be repeated '
                    '(LoadTile(gray_to_rgb=True))')
        return (f'{text}: the patches are of {given[2]} x {given[3]} pixels, '
                f"the model's of {wanted[2]} x {wanted[3]}")
    return text
