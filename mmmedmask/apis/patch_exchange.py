"""Ask a trained model which places in the file its answers rest on.

One that reads some places of the file, as published Nyström models read the
first patches, can memorise patients by them, and attention maps hide it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from mmengine.structures import BaseDataElement
from torch import nn

from mmmedmask.engine.preserved_state import evaluating
from mmmedmask.evaluation.classification_scores import classification_scores
from mmmedmask.util.checks import check_integer


@dataclass(frozen=True)
class ExchangeCurve:
    """What exchanged patches do to a model's answers.

    Attributes:
        places: Where in the file the exchanged patches lay, shape (P, ), 0
            for the first ones and 1 for the last.
        change: Mean change of the probability of the own class, shape
            (P, ), in [-1, 1]; below 0 if the answer turns to the other's.
        auc: AUC of the answers against the own classes, shape (P, ).
        untouched_auc: The same with no patch exchanged.

    Example:
        >>> places, change = np.array([0., .5, 1.]), np.array([-.4, 0., 0.])
        >>> curve = ExchangeCurve(places, change, np.array([.6, .9, .9]), .9)
        >>> float(curve.places[curve.change.argmin()])  # the first patches
        0.0
    """

    places: np.ndarray
    change: np.ndarray
    auc: np.ndarray
    untouched_auc: float


@torch.inference_mode()
def exchange_patches(model: nn.Module, samples: Sequence[dict],
                     block: int = 16, places: int = 13,
                     seed: int = 0) -> ExchangeCurve:
    """Give patients a block of patches of a patient of another class.

    The block comes from the same place of the other's file. Coordinates stay
    the patient's own. Each patient's giver is drawn, and all patients of
    other classes give about as often. A ValueError if a number or a patient's
    bag is too small, all patients are of one class, or the model is no
    classifier of bags.

    Args:
        samples: What a pipeline that ends with ``PackSlideOmicInputs`` gives,
            or a data set, of whole bags; patients of at least two classes,
            each with ``block`` patches.
        block: Patches that are exchanged together, at least 1.
        places: Places to try, at equal distances over each file, P >= 2.
        seed: Draws who gives patches to whom.

    Example:
        >>> from mmpretrain.structures import DataSample
        >>> from mmmedmask.apis import get_model
        >>> model = get_model('abmil_1xb8-coslr-70e_tcga-nsclc')
        >>> samples = [dict(inputs=dict(patches=torch.randn(9, 1024)),
        ...                 data_samples=DataSample().set_gt_label(label))
        ...            for label in (0, 1)]
        >>> exchange_patches(model, samples, block=2, places=3).places
        array([0. , 0.5, 1. ])
    """
    check_integer('block', block)
    check_integer('places', places, 2)
    if not (hasattr(model, 'aggregator') and hasattr(model, 'predict')):
        raise ValueError('patches are exchanged for a classifier of bags, '
                         'such as mmmedmask.SlideOmicClassifier, which '
                         f'{type(model).__name__} is not')
    labels, counts, names = [], [], []
    for place in range(len(samples)):
        # A cohort need not fit into memory: bags are read when they are asked.
        bag, about = _read(samples, place)
        labels.append(int(about.gt_label))
        counts.append(0 if bag is None else len(bag))
        names.append(about.get('case_id', f'no. {place}'))
    if len(set(labels)) < 2:
        raise ValueError('patients of at least two classes are needed, got '
                         f'labels {sorted(set(labels))}')
    least = int(np.argmin(counts))
    if counts[least] < block:
        raise ValueError(f'each patient needs block = {block} patches, '
                         f'{names[least]} has {counts[least]}')
    labels, shares = np.array(labels), np.linspace(0, 1, places)
    with evaluating(model):
        scores = np.stack([
            _scores(model, samples[place]['inputs'],
                    _read(samples, other)[0], shares, block)
            for place, other in enumerate(_draw_others(labels, seed))], 1)
    untouched, *mixed = scores
    rows = np.arange(len(labels))
    return ExchangeCurve(
        shares,
        np.array([(exchanged - untouched)[rows, labels].mean()
                  for exchanged in mixed]),
        np.array([classification_scores(labels, exchanged)['auc']
                  for exchanged in mixed]),
        classification_scores(labels, untouched)['auc'])


def _read(samples: Sequence[dict], place: int
          ) -> tuple[torch.Tensor | None, BaseDataElement]:
    sample = samples[place]
    return sample['inputs'].get('patches'), sample['data_samples']


def _draw_others(labels: np.ndarray, seed: int) -> np.ndarray:
    """Draw a patient of another class for each, all about as often."""
    random = np.random.default_rng(seed)
    others = np.empty(len(labels), int)
    for label in np.unique(labels):
        own = random.permutation(np.flatnonzero(labels == label))
        others[own] = np.resize(
            random.permutation(np.flatnonzero(labels != label)), len(own))
    return others


def _scores(model: nn.Module, inputs: dict, giver: torch.Tensor,
            shares: np.ndarray, block: int) -> np.ndarray:
    """Probabilities (1 + P, K) of a bag, and with the giver's blocks."""
    def answer(patches: torch.Tensor) -> torch.Tensor:
        batch = model.data_preprocessor(dict(
            inputs={key: [patches if key == 'patches' else value]
                    for key, value in inputs.items()}, data_samples=None))
        return model.predict(batch['inputs'])[0].pred_score

    bag = inputs['patches']
    scores = [answer(bag)]
    for share in shares:
        start, first = (round(share * (len(patches) - block))
                        for patches in (bag, giver))
        mixed = bag.clone()
        mixed[start:start + block] = giver[first:first + block]
        scores.append(answer(mixed))
    return torch.stack(scores).float().cpu().numpy()
