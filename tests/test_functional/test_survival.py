"""Cox's partial likelihood against loops, by hand, and against lifelines."""

import math

import numpy as np
import pytest
import torch

from mmmedmask.functional.survival import cox_partial_likelihood


def naive_cox(risks, times, events):
    """Efron's form, one event time after the other."""
    total, number = 0.0, 0
    for time in sorted({t for t, e in zip(times, events, strict=True) if e}):
        at_risk = sum(math.exp(r) for r, t in zip(risks, times, strict=True)
                      if t >= time)
        dead = [r for r, t, e in zip(risks, times, events, strict=True)
                if e and t == time]
        tied = sum(math.exp(r) for r in dead)
        for place, risk in enumerate(dead):
            total += math.log(at_risk - place / len(dead) * tied) - risk
            number += 1
    return total / number if number else 0.0


def draw(number=40, seed=0, months=None, censored=.4):
    random = np.random.default_rng(seed)
    times = random.exponential(20, number)
    if months:
        times = np.ceil(times / months) * months
    events = random.random(number) > censored
    return random.normal(size=number) * 2, times, events


@pytest.mark.parametrize('months', [None, 12])
def test_equals_loops(months):
    for seed in range(5):
        risks, times, events = draw(seed=seed, months=months)
        ties = len(times) - len(set(times))
        assert (ties > 20) == bool(months)
        found = cox_partial_likelihood(
            *map(torch.from_numpy, (risks, times, events)))
        assert found.item() == pytest.approx(
            naive_cox(risks, times, events), abs=1e-12)


def test_equals_lifelines():
    """At the coefficients that lifelines finds, the likelihood is its own."""
    pandas = pytest.importorskip('pandas')
    from lifelines import CoxPHFitter
    _, times, events = draw(60, months=12)
    features = np.random.default_rng(1).normal(size=(60, 2))
    table = pandas.DataFrame(features, columns=['x', 'y'])
    fitter = CoxPHFitter().fit(
        table.assign(time=times, event=events), 'time', 'event')
    weights = torch.tensor(fitter.params_.to_numpy(), requires_grad=True)
    loss = cox_partial_likelihood(
        torch.from_numpy(features) @ weights, torch.from_numpy(times),
        torch.from_numpy(events))
    assert -loss.item() * events.sum() == pytest.approx(
        fitter.log_likelihood_, rel=1e-9)
    loss.backward()
    assert weights.grad.abs().max() < 1e-5


def test_gradient_and_shift():
    risks, times, events = map(torch.from_numpy, draw(12, months=24))
    risks.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda one: cox_partial_likelihood(one, times, events), risks)
    loss = cox_partial_likelihood(risks, times, events)
    moved = cox_partial_likelihood(risks + 500, times, events)
    assert moved.item() == pytest.approx(loss.item())


def test_large_risks_stay_finite():
    """In float32, with risks whose exponentials are not."""
    risks = torch.tensor([200., -200., 0., 100.], requires_grad=True)
    times = torch.tensor([3., 1., 1., 2.])
    events = torch.tensor([True, True, True, False])
    loss = cox_partial_likelihood(risks, times, events)
    # Both early deaths meet the first patient's risk of 200.
    assert loss.item() == pytest.approx((400 + 200 + 0) / 3)
    loss.backward()
    assert torch.isfinite(risks.grad).all()


@pytest.mark.parametrize(('count', 'event'), [(4, False), (1, True)])
def test_no_event_and_a_patient_alone_teach_nothing(count, event):
    risks = torch.randn(count, requires_grad=True)
    loss = cox_partial_likelihood(
        risks, torch.arange(float(count)), torch.full((count, ), event))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(risks.grad, torch.zeros(count))


def test_shapes():
    with pytest.raises(ValueError, match=r'shape \(B,\), got \(2, 1\)'):
        cox_partial_likelihood(
            torch.zeros(2, 1), torch.zeros(2), torch.ones(2).bool())
