"""Vectors of genes from encoders that have not seen the patient.

An encoder that was fitted to the class of these very patients puts each on
the spot of his class: the triplets of GiMP's Eq. 4 are satisfied before a
slide has been looked at. Vectors of patients who are new to an encoder
overlap, as those of the next patient will.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmmedmask.registry import MODELS
from mmmedmask.util.checks import check_integer
from mmmedmask.util.silence import without_log


def deal_into_folds(labels: Tensor, num_folds: int,
                    generator: torch.Generator) -> Tensor:
    """Deal the patients of each class to folds in a random order.

    From classes (N, ) to the fold of each patient (N, ), both int64. A
    ValueError if a class has fewer patients than there are folds, or those are
    fewer than 2.
    """
    check_integer('num_folds', num_folds, 2)
    folds = torch.empty_like(labels)
    for label in labels.unique().tolist():
        members = (labels == label).nonzero()[:, 0]
        if len(members) < num_folds:
            raise ValueError(
                f'num_folds={num_folds} needs as many patients of every '
                f'class; class {label} has {len(members)} with genes')
        order = torch.randperm(len(members), generator=generator)
        folds[members[order]] = torch.arange(len(members)) % num_folds
    return folds


def new_encoder(config: dict) -> nn.Module:
    """Build a gene encoder with new weights, and no word of it in the log."""
    with without_log():
        encoder = MODELS.build(dict(config))
        encoder.init_weights()
    return encoder


def fit_encoder(encoder: nn.Module, genes: Tensor, labels: Tensor,
                max_epochs: int, batch_size: int, base_lr: float,
                weight_decay: float, generator: torch.Generator) -> nn.Linear:
    """Fit an encoder to classes, as GiMP's first stage does, in place.

    A linear layer (the result) and cross-entropy; AdamW, a tenth of the steps
    to warm up, then a cosine to zero; gradients are clipped to norm 1.

    Args:
        encoder: Gene encoder with ``embed_dims``.
        genes: Scaled expression, shape (N, G).
        labels: Classes, int64, shape (N, ).
        batch_size: Patients of a step.
        base_lr: Largest learning rate.
        weight_decay: Of all parameters.
        generator: Order of the patients, on the CPU.
    """
    head = nn.Linear(encoder.embed_dims,
                     int(labels.max()) + 1).to(genes.device)
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(
        parameters, lr=base_lr, weight_decay=weight_decay)
    steps = max_epochs * math.ceil(len(genes) / batch_size)
    warm_up = max(1, steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / warm_up) * .5 * (
            1 + math.cos(math.pi * max(0, step - warm_up)
                         / max(1, steps - warm_up))))
    encoder.train()
    for _ in range(max_epochs):
        order = torch.randperm(len(genes), generator=generator)
        for rows in order.to(genes.device).split(batch_size):
            loss = F.cross_entropy(head(encoder(genes[rows])), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
    encoder.eval()
    return head


def cross_fit_vectors(encoder: dict, genes: Tensor, labels: Tensor,
                      num_folds: int, seed: int, **fitting: float) -> Tensor:
    """Encode each patient by an encoder that has not seen him.

    The encoders of all folds start from the same weights, which keeps their
    vectors in one space: turning them onto each other afterwards
    (Procrustes) makes no difference.

    Args:
        encoder: Config of a gene encoder.
        genes: Scaled expression, shape (N, G).
        labels: Classes, int64, shape (N, ).
        num_folds: Folds, at least 2.
        seed: Of the folds, the weights, dropout and the order of patients.
            The global generators are as before afterwards.
        fitting: Arguments of :func:`fit_encoder`.

    Returns:
        Vectors, shape (N, d), without a graph.

    Raises:
        ValueError: See :func:`deal_into_folds`.
    """
    folds = deal_into_folds(
        labels.cpu(), num_folds,
        torch.Generator().manual_seed(seed)).to(labels.device)
    devices = [genes.device] if genes.is_cuda else []
    vectors = None
    for fold in range(num_folds):
        held_out = folds == fold
        with torch.random.fork_rng(devices), torch.enable_grad():
            torch.manual_seed(seed)
            model = new_encoder(encoder).to(genes.device)
            fit_encoder(model, genes[~held_out], labels[~held_out],
                        generator=torch.Generator().manual_seed(seed),
                        **fitting)
        with torch.no_grad():
            part = model(genes[held_out])
        if vectors is None:
            vectors = part.new_empty(len(genes), part.shape[1])
        vectors[held_out] = part
    return vectors
