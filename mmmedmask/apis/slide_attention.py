"""Ask a trained model what it sees in the patches of a bag."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

_PATCHES_AT_ONCE = 4096


@dataclass(frozen=True)
class BagEvidence:
    """What a model makes of a bag of N patches; nothing if N is 0.

    Attributes:
        attention: Weights of the patches, shape (R, N), each row with sum 1.
        attention_names: What the R rows are of: empty for the one row of
            most models, else the classes, or the sets of genes of MCAT.
        patch_scores: Probabilities of the classes for a bag that holds one
            patch alone, shape (K, N); None if the model has no classes.
        bag_scores: Probabilities of the classes for the bag, shape (K, ),
            or None. Without patches both scores are None.

    Example:
        >>> evidence = BagEvidence(np.array([[.1, .7, .2]]), (), None, None)
        >>> int(evidence.attention[0].argmax())
        1
    """

    attention: np.ndarray
    attention_names: tuple[str, ...]
    patch_scores: np.ndarray | None
    bag_scores: np.ndarray | None


@torch.inference_mode()
def find_evidence(model: nn.Module, inputs: dict, classes: Sequence[str] = (),
                  per_patch: bool = True) -> BagEvidence:
    """Run a model on a bag, and on each of its patches.

    Args:
        model: A trained classifier of slides, or GiMP in pre-training, in
            evaluation mode.
        inputs: One sample's ``patches`` (N, D) or None, ``coords`` (N, 2)
            or None, and ``genes`` (G, ) or None.
        per_patch: Whether patches are classified one by one.

    Raises:
        ValueError: If the model looks at no patches.

    Example:
        >>> from mmmedmask.apis import get_model
        >>> model = get_model('abmil_1xb8-coslr-70e_tcga-nsclc')
        >>> evidence = find_evidence(
        ...     model, dict(patches=torch.randn(5, 1024)))
        >>> evidence.attention.shape, evidence.patch_scores.shape
        ((1, 5), (2, 5))
    """
    aggregator = getattr(model, 'aggregator', None)
    if aggregator is None:
        raise ValueError(f'{type(model).__name__} has no aggregator: it does '
                         'not look at slides')
    if inputs.get('patches') is None or not len(inputs['patches']):
        return BagEvidence(np.zeros((1, 0), np.float32), (), None, None)
    batch = model.data_preprocessor(dict(inputs={
        key: [inputs.get(key)] for key in ('patches', 'coords', 'genes')}))[
            'inputs']
    extra = {}
    if getattr(aggregator, 'uses_genes', False):
        extra = {key: batch[key] for key in ('genes', 'has_genes')}
        check_genes_given(model, batch['genes'])
    attention = aggregator.attention(
        batch['patches'], batch['valid'], batch['coords'], **extra)[0]
    attention = attention.float().cpu().numpy()
    names: tuple[str, ...] = ()
    if attention.ndim == 2:
        kind = 'class' if getattr(aggregator, 'class_wise', False) else 'set'
        names = tuple(f'{kind} {row}' for row in range(len(attention)))
        if kind == 'class' and len(classes) == len(attention):
            names = tuple(classes)
    bag_scores = _scores(model, batch)
    patch_scores = None
    if bag_scores is not None and per_patch:
        patch_scores = np.concatenate([
            _scores(model, part) for part in _single_patches(batch)]).T
    return BagEvidence(np.atleast_2d(attention), names, patch_scores,
                       None if bag_scores is None else bag_scores[0])


def check_genes_given(model: nn.Module, genes: torch.Tensor | None) -> None:
    """Refuse a bag without genes if the model looks at patches through them.

    Example:
        >>> from mmmedmask.apis import get_model
        >>> check_genes_given(
        ...     get_model('abmil_1xb8-coslr-70e_tcga-nsclc'), None)
    """
    if genes is None and getattr(model.aggregator, 'uses_genes', False):
        raise ValueError(
            f'{type(model.aggregator).__name__} looks at patches through '
            'genes, which files of slides do not have: give SlideInferencer '
            'an expression, name the patient with --case of '
            'tools/visualizations/visualize_slide_attention.py, or test a '
            'data set with tools/test.py')


def _single_patches(batch: dict):
    """Give the patches of a bag as bags of one patch."""
    patches, coords = batch['patches'][0], batch['coords']
    for start in range(0, len(patches), _PATCHES_AT_ONCE):
        part = patches[start:start + _PATCHES_AT_ONCE, None]
        number, genes = len(part), batch['genes']
        yield dict(
            patches=part, mask=None,
            valid=part.new_ones(number, 1, dtype=torch.bool),
            coords=None if coords is None
            else coords[0, start:start + number, None],
            genes=None if genes is None else genes.expand(number, -1),
            has_genes=batch['has_genes'].expand(number),
            has_patches=batch['has_patches'].expand(number))


def _scores(model: nn.Module, batch: dict) -> np.ndarray | None:
    """Probabilities of the classes, (B, K), or None without classes."""
    if not hasattr(model, 'predict') or not hasattr(model, 'head'):
        return None
    samples = model.predict(batch)
    if any('pred_score' not in sample for sample in samples):
        return None
    return torch.stack(
        [sample.pred_score for sample in samples]).float().cpu().numpy()
