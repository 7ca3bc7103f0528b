"""The classifier of slides, genes or both, with patients who lack some."""

import copy

import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmpretrain.structures import DataSample
from model_checks import unchanged

from mmmedmask.registry import MODELS

NUM_GENES = 10
HEAD = dict(type='mmmedmask.SlideOmicHead', num_classes=3)
ABMIL = dict(type='mmmedmask.ABMIL', in_dims=6, embed_dims=8, attention_dims=4)
NYSTROM = dict(type='mmmedmask.NystromAggregator', in_dims=6, embed_dims=8,
               num_heads=2)
SNN = dict(type='mmmedmask.SNN', num_genes=NUM_GENES, embed_dims=5)
MCAT = dict(type='mmmedmask.MCAT', in_dims=6, num_genes=NUM_GENES,
            gene_sets=2, embed_dims=8, num_heads=2)
BOTH = dict(aggregator=ABMIL, gene_encoder=SNN, head=HEAD)
DSMIL = dict(
    aggregator=dict(type='mmmedmask.DSMIL', in_dims=6, embed_dims=8,
                    num_classes=3),
    head=dict(type='mmmedmask.ClasswiseSlideOmicHead', num_classes=3))
KRONECKER = BOTH | dict(fusion=dict(
    type='mmmedmask.KroneckerFusion', reduced_dims=8, out_dims=16))


def build(**arguments):
    torch.manual_seed(0)
    return MODELS.build(copy.deepcopy(
        dict(type='mmmedmask.SlideOmicClassifier', **arguments)))


def batch(counts=(4, 2, 7), genes=(True, True, True)):
    """A batch as the preprocessor gives it; a count of 0: no slides."""
    valid = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
    has = torch.tensor(genes)
    inputs = dict(patches=None, valid=None, mask=None, coords=None, genes=None,
                  has_genes=has, has_patches=valid.any(dim=1))
    if valid.any():
        inputs.update(valid=valid, patches=torch.randn(
            *valid.shape, 6).masked_fill(~valid[..., None], 0))
    if has.any():
        inputs['genes'] = torch.randn(len(has), NUM_GENES).masked_fill(
            ~has[:, None], 0)
    samples = [
        DataSample(metainfo=dict(case_id=f'case-{place}')).set_gt_label(
            place % 3) for place in range(len(counts))]
    return inputs, samples


def modalities(model, inputs, samples=None):
    return [one.modalities for one in model(inputs, samples, mode='predict')]


@pytest.mark.parametrize(('parts', 'uses', 'dims'), [
    (dict(aggregator=ABMIL, head=HEAD), 'slides', 8),
    (dict(gene_encoder=SNN, head=HEAD), 'genes', 5),
    (BOTH, 'slides+genes', 13),
    (KRONECKER, 'slides+genes', 16),
    (dict(aggregator=MCAT, head=HEAD), 'slides+genes', 8)])
def test_parts_decide_what_the_model_looks_at(parts, uses, dims):
    model = build(**parts)
    assert {key.split('.')[0] for key in model.state_dict()} == {
        *parts, *(['fusion'] if 'gene_encoder' in parts
                  and 'aggregator' in parts else [])}
    inputs, samples = batch()
    losses = model(inputs, samples, mode='loss')
    sum(losses.values()).backward()
    assert all(one.grad is not None for one in model.parameters())
    model.eval()
    assert model.head.in_dims == dims
    logits = model(inputs)
    assert logits.shape == (3, 3)
    predictions = model(inputs, samples, mode='predict')
    torch.testing.assert_close(
        torch.stack([one.pred_score for one in predictions]),
        logits.softmax(dim=1))
    assert [one.modalities for one in predictions] == [uses] * 3
    for name in ('slides', 'genes'):
        assert (f'{name}_hidden' in predictions[0]) == ('+' in uses)
    assert [one.case_id for one in predictions] == [
        'case-0', 'case-1', 'case-2']
    features = model.extract_feat(inputs)
    assert features['patient'].shape == (3, dims)
    torch.testing.assert_close(model.head(features['patient']), logits)
    assert (features['image'] is None) == (parts.get('aggregator') is None)
    assert (features['genes'] is None) == (parts.get('gene_encoder') is None)


@pytest.mark.parametrize('parts', [
    BOTH, dict(aggregator=MCAT, head=HEAD), BOTH | DSMIL])
def test_an_answer_says_what_it_rests_on(parts):
    model = build(**parts).eval()
    torch.manual_seed(1)
    inputs, samples = batch((4, 0, 7), (True, True, False))
    assert modalities(model, inputs, samples) == [
        'slides+genes', 'genes', 'slides']
    # An answer is the same alone, where nobody in the batch has the other.
    logits = model(inputs)
    for row, name, lacks in ((1, 'genes', ('patches', 'valid')),
                             (2, 'slides', ('genes', ))):
        alone = {key: None if value is None or key in lacks
                 else value[row:row + 1] for key, value in inputs.items()}
        torch.testing.assert_close(model(alone)[0], logits[row])
        assert modalities(model, alone) == [name]


@pytest.mark.parametrize('aggregator', [ABMIL, NYSTROM])
def test_a_batch_in_which_all_lack_a_modality_moves_the_same_parameters(
        aggregator):
    """Distributed training would wait for those without a gradient."""
    for counts, genes in (((3, 2), (False, False)), ((0, 0), (True, True))):
        model = build(**BOTH | dict(aggregator=aggregator))
        model(*batch(counts, genes), mode='loss')['loss_cls'].backward()
        trained = [one for one in model.parameters() if one.requires_grad]
        assert all(one.grad is not None and one.grad.isfinite().all()
                   for one in trained)
        frozen = {name for name, one in model.named_parameters()
                  if not one.requires_grad}
        # Nothing is masked here, and checkpoints have the token still.
        assert frozen == ({'aggregator.mask_token'}
                          if aggregator is NYSTROM else set())
        assert frozen <= set(model.state_dict())


@pytest.mark.parametrize(('parts', 'counts', 'genes', 'message'), [
    (BOTH, (3, 0), (False, False), r"\['case-1'\] .* no slides nor genes"),
    (dict(aggregator=ABMIL, head=HEAD), (3, 0), (True, True),
     r"\['case-1'\] of the batch have no slides,"),
    (dict(gene_encoder=SNN, head=HEAD), (3, 1), (False, True),
     r"\['case-0'\] of the batch have no genes,")])
def test_a_patient_with_nothing_to_look_at(parts, counts, genes, message):
    model = build(**parts)
    inputs, samples = batch(counts, genes)
    for mode in ('loss', 'predict'):
        with pytest.raises(ValueError, match=message):
            model(inputs, samples, mode=mode)


@pytest.mark.parametrize('aggregator', [
    dict(type='mmmedmask.TransMIL', in_dims=6, embed_dims=8, num_heads=2),
    NYSTROM | dict(ppeg=True)])
def test_a_patient_without_slides_alone_in_a_batch(aggregator):
    """Aggregators that read coordinates have none to read here."""
    model = build(**BOTH | dict(aggregator=aggregator)).eval()
    inputs, samples = batch((0, ), (True, ))
    assert modalities(model, inputs, samples) == ['genes']
    assert samples[0].pred_score.isfinite().all()


def test_batches_of_the_preprocessor_fit():
    """That of slides and genes is the default."""
    model = build(**BOTH | dict(gene_encoder=None)).eval()
    samples = [dict(
        inputs=dict(patches=torch.randn(count, 6), coords=None, mask=None,
                    genes=None),
        data_samples=DataSample(metainfo=dict(case_id=str(count))))
        for count in (3, 5)]
    found = model.test_step(pseudo_collate(samples))
    assert [one.case_id for one in found] == ['3', '5']
    assert [one.modalities for one in found] == ['slides', 'slides']


def test_clam_adds_the_loss_of_its_patches():
    aggregator = dict(type='mmmedmask.CLAM_SB', in_dims=6, num_classes=3,
                      embed_dims=8, num_instances=1)
    model = build(aggregator=aggregator, head=HEAD | dict(
        loss_weight=.7)).eval()
    inputs, samples = batch()
    losses = model(inputs, samples, mode='loss')
    assert set(losses) == {'loss_cls', 'loss_instance'}
    _, tokens = model.aggregator(inputs['patches'], inputs['valid'])
    expected = model.aggregator.auxiliary_losses(
        tokens, inputs['valid'], torch.tensor([0, 1, 2]))
    torch.testing.assert_close(losses['loss_instance'],
                               expected['loss_instance'])


@pytest.mark.parametrize('options', [
    {}, dict(class_weights=[0., 1., 5.], label_smoothing=.3)])
def test_both_streams_of_dsmil_are_weighted_alike(options):
    model = build(**DSMIL | dict(head=DSMIL['head'] | options)).eval()
    model.aggregator.instance_weight = .5
    inputs, samples = batch()
    labels = [sample.gt_label.item() for sample in samples]
    vector, tokens = model.aggregator(inputs['patches'], inputs['valid'])
    stream = model.aggregator.instance_logits(tokens, inputs['valid'])
    weights = options.get('class_weights', [1.] * 3)
    smoothing = options.get('label_smoothing', 0)
    expected = []
    for place in range(3):
        logs = stream[place].log_softmax(dim=0)
        expected.append(-weights[labels[place]] * (
            (1 - smoothing) * logs[labels[place]] + smoothing * logs.mean()))
    losses = model.loss(inputs, samples)
    torch.testing.assert_close(losses['loss_instance'], sum(expected) / 6)


def test_dsmil_answers_with_the_mean_of_two_streams():
    model = build(**DSMIL).eval()
    inputs, _ = batch()
    vector, tokens = model.aggregator(inputs['patches'], inputs['valid'])
    first = model.aggregator.instance_logits(tokens, inputs['valid'])
    expected = (model.head(vector) + first) / 2
    torch.testing.assert_close(model(inputs), expected)
    torch.testing.assert_close(
        torch.stack([one.pred_score for one in model.predict(inputs)]),
        expected.softmax(dim=1))


def test_a_frozen_gene_encoder_stays_as_it_is():
    model = build(**BOTH, freeze_gene_encoder=True).train()
    assert model.aggregator.training
    assert not any(one.training for one in model.gene_encoder.modules())
    optimizer = torch.optim.SGD(model.parameters(), .1, weight_decay=.1)
    inputs, samples = batch()
    genes = model.extract_feat(inputs)['genes']
    with unchanged(model.gene_encoder):
        for _ in range(2):
            optimizer.zero_grad()
            model(inputs, samples, mode='loss')['loss_cls'].backward()
            optimizer.step()
    assert all(one.grad is None for one in model.gene_encoder.parameters())
    # No dropout either.
    assert torch.equal(model.extract_feat(inputs)['genes'], genes)
    assert not genes.requires_grad


@pytest.mark.parametrize(('parts', 'message'), [
    (dict(head=HEAD), 'give an aggregator, a gene_encoder or both'),
    (dict(aggregator=ABMIL), 'head must be the config of a head'),
    (dict(aggregator=ABMIL, head=HEAD, freeze_gene_encoder=True),
     'freeze_gene_encoder=True needs a gene_encoder'),
    (dict(aggregator=ABMIL, head=HEAD | dict(in_dims=9)),
     'SlideOmicHead has in_dims=9, the parts before it give 8'),
    (BOTH | dict(fusion=dict(type='mmmedmask.ConcatFusion', gene_dims=6)),
     'ConcatFusion has gene_dims=6, the parts before it give 5'),
    (dict(aggregator=dict(type='mmmedmask.CLAM_MB', in_dims=6,
                          num_classes=3), head=HEAD),
     'CLAM_MB gives a vector per class, SlideOmicHead takes one vector'),
    (dict(aggregator=ABMIL, head=HEAD | dict(
        type='mmmedmask.ClasswiseSlideOmicHead')),
     'ABMIL gives one vector, ClasswiseSlideOmicHead takes a vector per'),
    (dict(aggregator=dict(type='mmmedmask.CLAM_SB', in_dims=6,
                          num_classes=2), head=HEAD),
     'CLAM_SB has num_classes=2, SlideOmicHead has num_classes=3')])
def test_parts_that_do_not_fit(parts, message):
    with pytest.raises(ValueError, match=message):
        build(**parts)


def test_a_mode_that_is_not_there():
    model = build(**BOTH)
    with pytest.raises(ValueError, match="got 'train'"):
        model(batch()[0], mode='train')
    with pytest.raises(ValueError, match='neither patches nor genes'):
        model({'coords': None})
    inputs, _ = batch()
    with pytest.raises(ValueError, match='GenerateSequenceMask out of'):
        model(dict(inputs, mask=inputs['valid']))


@pytest.mark.parametrize('parts', [
    BOTH, KRONECKER, dict(aggregator=MCAT, head=HEAD),
    DSMIL | dict(gene_encoder=SNN)])
def test_hidden_is_as_if_it_were_missing(parts):
    """Patients 1 and 4 lack one: nothing of theirs can be hidden."""
    model = build(**parts).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(.2 * torch.randn_like(parameter))
    counts, genes = (4, 2, 7, 5, 0), (True, False, True, True, True)
    inputs, samples = batch(counts, genes)
    predictions = model(inputs, samples, mode='predict')
    both = [0, 2, 3]
    without = dict(
        slides={**inputs, 'valid': inputs['valid'] & torch.tensor(
            [place not in both for place in range(5)])[:, None]},
        genes={**inputs, 'has_genes': torch.tensor(
            [has and place not in both for place, has in enumerate(genes)])})
    for name, rest in (('slides', 'genes'), ('genes', 'slides')):
        want = model(without[name], mode='predict')
        for place, sample in enumerate(predictions):
            hidden = sample.get(f'{name}_hidden')
            assert (hidden is not None) == (place in both)
            if hidden is None:
                continue
            assert hidden.modalities == rest
            torch.testing.assert_close(
                hidden.pred_score, want[place].pred_score)
            assert (hidden.pred_score - sample.pred_score).abs().max() > 1e-4
    assert [one.modalities for one in predictions] == [
        'slides+genes', 'slides', 'slides+genes', 'slides+genes', 'genes']
    with pytest.raises(ValueError, match="name must be one of .*'rna'"):
        model.hide('rna', inputs, model.encode(inputs))
