"""The survival head: its loss, its risks, and patients that do not fit."""

import pytest
import torch
from mmpretrain.structures import DataSample
from refusals import refuses

from mmmedmask.functional.survival import cox_partial_likelihood
from mmmedmask.models.slide_omic import CoxHead
from mmmedmask.registry import MODELS


def patients(*follow_up):
    samples = []
    for place, (months, censorship) in enumerate(follow_up):
        meta = dict(case_id=f'case-{place}')
        if months is not None:
            meta['survival_months'] = months
        if censorship is not None:
            meta['censorship'] = censorship
        samples.append(DataSample(metainfo=meta))
    return samples


SOME = ((5., 0), (3., 1), (8.5, 0), (3., 0))


def test_loss_is_the_partial_likelihood():
    head = CoxHead(6, loss_weight=2.0).eval()
    vector = torch.randn(4, 6)
    losses = head.loss(vector, patients(*SOME))
    risks = head(vector)
    assert risks.shape == (4, 1)
    expected = 2 * cox_partial_likelihood(
        risks[:, 0], torch.tensor([5, 3, 8.5, 3]),
        torch.tensor([True, False, True, True]))
    assert losses['loss_cox'].item() == pytest.approx(expected.item())
    assert losses['events'].item() == 3
    assert set(losses) == {'loss_cox', 'events'}


def test_batch_without_an_event_has_a_gradient_of_zero():
    head = CoxHead(6, hidden_dims=5)
    losses = head.loss(torch.randn(2, 6), patients((5., 1), (3., 1)))
    losses['loss_cox'].backward()
    assert losses['loss_cox'].item() == 0
    assert all(not parameter.grad.any() for parameter in head.parameters())


def test_batch_of_one_warns_once(monkeypatch):
    messages = []
    monkeypatch.setattr('mmmedmask.models.slide_omic.heads.print_log',
                        lambda message, **options: messages.append(message))
    head = CoxHead(6)
    for _ in range(2):
        losses = head.loss(torch.randn(1, 6), patients((5., 0)))
        assert losses['loss_cox'].item() == 0
    assert len(messages) == 1
    assert 'raise batch_size' in messages[0]


def test_as_the_head_of_a_classifier():
    model = MODELS.build(dict(
        type='mmmedmask.SlideOmicClassifier',
        gene_encoder=dict(type='mmmedmask.SNN', num_genes=7, embed_dims=4,
                          hidden_dims=(5, )),
        data_preprocessor=dict(type='mmmedmask.SlideOmicDataPreprocessor'),
        head=dict(type='mmmedmask.CoxHead', hidden_dims=3)))
    inputs = dict(genes=torch.randn(4, 7),
                  has_genes=torch.ones(4, dtype=torch.bool))
    model(inputs, patients(*SOME), mode='loss')['loss_cox'].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    model.eval()
    samples = model(inputs, patients(*SOME), mode='predict')
    assert [sample.modalities for sample in samples] == ['genes'] * 4
    torch.testing.assert_close(
        torch.stack([sample.pred_risk for sample in samples]), model(inputs))


@pytest.mark.parametrize(('follow_up', 'message'), [
    ((None, 0), 'case-1 has survival_months=None and censorship=0'),
    ((3., None), 'case-1 has survival_months=3.0 and censorship=None'),
    ((-1., 0), 'case-1 has survival_months=-1.0'),
    ((float('nan'), 0), 'case-1 has survival_months=nan'),
    ((3., 2), 'case-1 has .* censorship=2; .* 1 .censored. needed')])
def test_follow_up_that_is_not_there(follow_up, message):
    with pytest.raises(ValueError, match=message):
        CoxHead(6).loss(torch.randn(2, 6), patients((5., 0), follow_up))


test_bad_arguments = refuses(CoxHead, [
    (dict(in_dims=0), 'in_dims must be at least 1, got 0'),
    (dict(in_dims=6, hidden_dims=0), 'hidden_dims .*, got 0'),
    (dict(in_dims=6, loss_weight=-1), 'loss_weight .*, got -1')])
