"""What a reconstruction loss is worth: the losses of guesses without a model.

A guess is one value per channel for a whole sample: one colour for an image,
one patch for a bag.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from mmmedmask.functional.masking import resize_mask

# Share of the mean variance that keeps the regression solvable.
RIDGE = 1e-6
# Steps of the least absolute deviations at most, and the share by which all
# channels' errors have to fall for another one.
ITERATIONS = 100
CONVERGED = 1e-5
CRITERIA = ('squared', 'absolute')


class MaskedTargets(NamedTuple):
    """What a batch of samples is asked for, and what can be seen of it.

    Attributes:
        values: What is to be predicted at each place, shape (B, P, C).
        weight: Where the loss counts, shape (B, P), at least 0.
        features: What a linear guess may use, shape (B, F), or None.
        guess: A ready guess from what is visible, shape (B, C), or None.

    Example:
        >>> values = torch.rand(2, 9, 3)  # 2 samples, 9 places, 3 channels
        >>> MaskedTargets(values, weight=torch.ones(2, 9)).features is None
        True
    """

    values: Tensor
    weight: Tensor
    features: Tensor | None = None
    guess: Tensor | None = None


class Guesses(NamedTuple):
    """What was fitted: the best value (C,) for all samples, and a line.

    Its coefficients, (F + 1, C), are those of the features and a constant.

    Example:
        >>> targets = MaskedTargets(torch.tensor([[[1.], [3.]]]),
        ...                         torch.ones(1, 2))
        >>> fit_guesses([targets], 'squared')
        Guesses(criterion='squared', constant=tensor([2.], ...), line=None)
    """

    criterion: str
    constant: Tensor
    line: Tensor | None


def visible_color(images: Tensor, mask: Tensor) -> Tensor:
    """Mean and deviation (B, 2 C), float64, of channels where not masked.

    Of images (B, C, H, W) and a mask (B, 1, h, w), 1 = masked.

    Example:
        >>> visible_color(torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 1, 1))
        tensor([[1., 0.]], dtype=torch.float64)
    """
    images = images.double()
    seen = 1 - resize_mask(mask, images.shape[-2:]).double()
    area = seen.sum(dim=(2, 3)).clamp_min(1)
    mean = (images * seen).sum(dim=(2, 3)) / area
    centred = (images - mean[..., None, None])**2
    return torch.cat(
        [mean, ((centred * seen).sum(dim=(2, 3)) / area).sqrt()], dim=1)


def fit_guesses(parts: list[MaskedTargets], criterion: str) -> Guesses:
    """Fit the guesses on batches of training samples.

    For the loss of a place and channel, ``'squared'`` or ``'absolute'``. The
    best constant is then the mean or the median, the line that of least
    squares or of least absolute deviations (by reweighting: Schlossmacher,
    JASA 1973). Places without weight may be left out. A ValueError if no place
    counts.

    Example:
        >>> values = torch.tensor([[[0.], [1.], [5.]]])
        >>> targets = MaskedTargets(values, torch.ones(1, 3))
        >>> [float(fit_guesses([targets], name).constant) for name in CRITERIA]
        [2.0, 1.0]
    """
    values, weight, sample, features = _flatten(parts)
    if not weight.sum() > 0:
        raise ValueError('the loss counts no place of the '
                         f'{sum(len(part.values) for part in parts)} samples '
                         'that guesses are to be fitted on')
    constant = weight @ values / weight.sum() if criterion == 'squared' \
        else weighted_median(values, weight)
    line = None
    if features is not None:
        design = _with_constant(features)
        line = _solve(values, weight[:, None].expand_as(values), sample,
                      design)
        if criterion == 'absolute':
            line = _least_absolute(values, weight, sample, design, line,
                                   constant)
    return Guesses(criterion, constant, line)


def guess_errors(targets: MaskedTargets, guesses: Guesses) -> dict[str, float]:
    """Sum up the errors of all guesses on a batch.

    Weighted sums over places and channels: ``constant``; ``color`` with the
    line, for samples with features; ``median_patch``, the ready guess of
    samples that have one; and what no model is told, ``own_mean``, or for
    absolute errors ``own_median``: each sample's own best value.

    Example:
        >>> targets = MaskedTargets(torch.tensor([[[1.], [3.]]]),
        ...                         torch.ones(1, 2))
        >>> guesses = Guesses('squared', torch.zeros(1).double(), None)
        >>> guess_errors(targets, guesses)
        {'constant': 10.0, 'own_mean': 2.0}
    """
    answers = dict(constant=guesses.constant.expand(len(targets.values), -1))
    if guesses.line is not None:
        answers['color'] = _with_constant(
            targets.features.double()) @ guesses.line
    if targets.guess is not None:
        answers['median_patch'] = targets.guess.double()
    values, weight = targets.values.double(), targets.weight.double()
    if guesses.criterion == 'squared':
        answers['own_mean'] = (values * weight[..., None]).sum(
            dim=1) / weight.sum(dim=1).clamp_min(1e-12)[:, None]
    else:
        answers['own_median'] = torch.stack([
            weighted_median(*sample)
            for sample in zip(values, weight, strict=True)])
    return {name: prediction_error(answer[:, None], targets, guesses.criterion)
            for name, answer in answers.items()}


def prediction_error(prediction: Tensor, targets: MaskedTargets,
                     criterion: str) -> float:
    """Sum up the weighted errors of a prediction, (B, P or 1, C), in float64.

    Example:
        >>> targets = MaskedTargets(torch.ones(1, 2, 1), torch.ones(1, 2))
        >>> prediction_error(torch.full((1, 2, 1), 3.), targets, 'squared')
        8.0
    """
    error = prediction.double() - targets.values.double()
    error = error.square() if criterion == 'squared' else error.abs()
    return float((error * targets.weight.double()[..., None]).sum())


def thin_places(targets: MaskedTargets, count: int,
                generator: torch.Generator) -> list[MaskedTargets]:
    """Keep at most ``count`` places that count of each sample of a CPU batch.

    Each sample becomes one of its own, and weighs as much as all of its
    places did.

    Example:
        >>> targets = MaskedTargets(torch.ones(1, 9, 1), torch.ones(1, 9))
        >>> thin_places(targets, 4, torch.Generator())[0].weight.shape
        torch.Size([1, 4])
    """
    parts = []
    for index in range(len(targets.values)):
        places = targets.weight[index].nonzero()[:, 0]
        sample = slice(index, index + 1)
        weight = targets.weight[sample, places]
        if len(places) > count:
            kept = torch.randperm(len(places), generator=generator)[:count]
            places, whole = places[kept], weight.sum()
            weight = weight[:, kept] * (whole / weight[:, kept].sum())
        parts.append(MaskedTargets(
            targets.values[sample, places], weight,
            *(None if value is None else value[sample]
              for value in (targets.features, targets.guess))))
    return parts


def weighted_median(values: Tensor, weight: Tensor) -> Tensor:
    """The lower weighted median (C,) of values (P, C).

    Weights (P,) are at least 0; where all are, so is the median.

    Example:
        >>> weighted_median(torch.tensor([[1.], [2.], [9.]]),
        ...                 torch.tensor([1., 1., 3.]))
        tensor([9.])
    """
    if not weight.sum() > 0:
        return values.new_zeros(values.shape[1])
    ordered, order = values.sort(dim=0)
    reached = weight[order].cumsum(dim=0)
    place = (reached >= weight.sum() / 2 * (1 - 1e-9)).int().argmax(dim=0)
    return ordered.gather(0, place[None])[0]


def _flatten(parts: list[MaskedTargets]
             ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Places of all samples, one after another, and the sample of each."""
    sizes = [part.values.shape[:2] for part in parts]
    sample = torch.arange(sum(size[0] for size in sizes)).repeat_interleave(
        torch.tensor([size[1] for size in sizes for _ in range(size[0])]))
    features = None
    if parts[0].features is not None:
        features = torch.cat([part.features for part in parts]).double()
    return (torch.cat([part.values.flatten(0, 1) for part in parts]).double(),
            torch.cat([part.weight.flatten() for part in parts]).double(),
            sample, features)


def _with_constant(values: Tensor) -> Tensor:
    return torch.cat([values, torch.ones_like(values[:, :1])], dim=1)


def _least_absolute(values: Tensor, weight: Tensor, sample: Tensor,
                    design: Tensor, line: Tensor, constant: Tensor) -> Tensor:
    """Go on from the line of least squares; a channel may stay constant."""
    best = torch.cat([torch.zeros_like(line[:-1]), constant[None]])
    least = weight @ (values - constant).abs()
    last = torch.full_like(least, torch.inf)
    # Smaller errors than this count as equal.
    share = (weight / weight.sum())[:, None]
    centred = values - (values * share).sum(dim=0)
    smallest = 1e-3 * float((centred.square() * share).sum().sqrt())
    for _ in range(ITERATIONS):
        error = (values - (design @ line)[sample]).abs()
        total = weight @ error
        best = torch.where(total < least, line, best)
        least = least.minimum(total)
        if not (total < (1 - CONVERGED) * last).any():
            break
        last = total
        line = _solve(values, weight[:, None] / error.clamp_min(smallest),
                      sample, design)
    return best


def _solve(values: Tensor, weight: Tensor, sample: Tensor,
           design: Tensor) -> Tensor:
    """Weighted least squares, weights (P, C), of one value per sample."""
    zeros = values.new_zeros(len(design), values.shape[1])
    weights = zeros.index_add(0, sample, weight)
    totals = zeros.index_add(0, sample, values * weight)
    gram = torch.einsum('nf,ng,nc->cfg', design, design, weights)
    ridge = RIDGE * gram.diagonal(dim1=1, dim2=2).mean(dim=1)
    gram = gram + ridge[:, None, None] * torch.eye(
        design.shape[1], dtype=gram.dtype)
    return torch.linalg.solve(gram, (design.T @ totals).T[..., None])[..., 0].T
