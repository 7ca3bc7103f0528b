"""Vectors of genes from encoders that have not seen the patient."""

import math

import pytest
import torch
from torch import nn

from mmmedmask.models.gimp.cross_fitting import (
    cross_fit_vectors,
    deal_into_folds,
    fit_encoder,
)
from mmmedmask.registry import MODELS

LINEAR = dict(type='mmmedmask.LinearGeneEncoder', num_genes=30, embed_dims=6)
FITTING = dict(max_epochs=3, batch_size=8, base_lr=.01, weight_decay=.1)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(count=30):
    return (torch.randn(count, 30, generator=seeded()),
            torch.arange(count) % 2)


def test_folds_have_equal_shares_of_the_classes():
    labels = torch.tensor([0] * 11 + [1] * 23)[torch.randperm(34)]
    folds = deal_into_folds(labels, 4, seeded())
    for label, sizes in ((0, {2, 3}), (1, {5, 6})):
        assert set(folds[labels == label].bincount().tolist()) == sizes
    assert torch.equal(folds, deal_into_folds(labels, 4, seeded()))
    assert not torch.equal(folds, deal_into_folds(labels, 4, seeded(1)))
    with pytest.raises(ValueError, match='class 0 has 11 with genes'):
        deal_into_folds(labels, 12, seeded())
    with pytest.raises(ValueError, match='num_folds must be at least 2'):
        deal_into_folds(labels, 1, seeded())


def naive_fit(encoder, head, genes, labels, orders, lr, decay):
    """AdamW by its equations, warm-up and cosine, for a linear network."""
    parameters = [*encoder.parameters(), *head.parameters()]
    first = [torch.zeros_like(one) for one in parameters]
    second = [torch.zeros_like(one) for one in parameters]
    steps = len(orders)
    warm_up = max(1, steps // 10)
    for step, rows in enumerate(orders):
        rate = lr * min(1, (step + 1) / warm_up)
        if step > warm_up:
            part = (step - warm_up) / (steps - warm_up)
            rate *= (1 + math.cos(math.pi * part)) / 2
        loss = nn.functional.cross_entropy(
            head(encoder(genes[rows])), labels[rows])
        grads = torch.autograd.grad(loss, parameters)
        norm = torch.cat([one.flatten() for one in grads]).norm()
        grads = [one * min(1, 1 / (float(norm) + 1e-6)) for one in grads]
        with torch.no_grad():
            for place, (one, grad) in enumerate(
                    zip(parameters, grads, strict=True)):
                first[place] = .9 * first[place] + .1 * grad
                second[place] = .999 * second[place] + .001 * grad**2
                mean = first[place] / (1 - .9**(step + 1))
                square = second[place] / (1 - .999**(step + 1))
                one -= rate * (mean / (square.sqrt() + 1e-8) + decay * one)


def test_fitting_equals_a_naive_one():
    genes, labels = draw(20)
    genes = genes.double()
    one, other = (MODELS.build(dict(LINEAR)).double() for _ in range(2))
    other.load_state_dict(one.state_dict())
    torch.set_default_dtype(torch.float64)
    try:
        torch.manual_seed(3)
        fitted = fit_encoder(one, genes, labels, **FITTING, generator=seeded())
        torch.manual_seed(3)
        head = nn.Linear(6, 2)
    finally:
        torch.set_default_dtype(torch.float32)
    generator = seeded()
    orders = [rows for _ in range(3) for rows in torch.randperm(
        20, generator=generator).split(8)]
    naive_fit(other, head, genes, labels, orders, .01, .1)
    for name, value in one.state_dict().items():
        assert (value - other.state_dict()[name]).abs().max() < 1e-9, name
    assert (fitted.weight - head.weight).abs().max() < 1e-9
    assert not one.training


def test_a_vector_does_not_depend_on_the_patients_own_label():
    """Nor on that of others of the fold; on those of other folds it does."""
    genes, labels = draw()
    folds = deal_into_folds(labels, 3, seeded(7))
    before = torch.get_rng_state()
    vectors = cross_fit_vectors(LINEAR, genes, labels, 3, 7, **FITTING)
    assert torch.equal(torch.get_rng_state(), before)
    assert vectors.shape == (30, 6)
    assert not vectors.requires_grad
    inside = folds == 0
    changed = genes.clone()
    # The patients themselves are encoded: only what they teach is changed.
    changed[inside] = 5 * torch.randn(int(inside.sum()), 30)
    other = cross_fit_vectors(LINEAR, changed, labels, 3, 7, **FITTING)
    torch.manual_seed(7)
    model = MODELS.build(dict(LINEAR))
    model.init_weights()
    fit_encoder(model, genes[~inside], labels[~inside],
                generator=seeded(7), **FITTING)
    assert torch.equal(vectors[inside], model(genes[inside]).detach())
    assert torch.equal(other[inside], model(changed[inside]).detach())
    assert not torch.equal(vectors[~inside], other[~inside])
