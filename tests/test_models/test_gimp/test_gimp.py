"""GiMP's pre-training step: its losses, its frozen half (checks 16, 24)."""

import copy

import pytest
import torch
from mmengine.optim import OptimWrapper
from model_checks import assert_near_in_bfloat16, assert_trained, unchanged
from refusals import refuses

from mmmedmask.registry import MODELS

from .tiny_gimp import (
    DIMS,
    GENES,
    GROUPS,
    LABELS,
    NYSTROM,
    WIDTH,
    batch,
    tiny_gimp,
    total,
)

DOUBLE = torch.float64
SLIDES = dict(gene_encoder=None)
NCE = dict(contrast_head=dict(type='mmmedmask.InfoNCEHead', proj_dims=4))


def test_losses_are_those_of_the_equations():
    """Eq. 3 and 4 in loops, from the aggregator's own output."""
    model = tiny_gimp(DOUBLE)
    inputs, samples = batch(DOUBLE)
    losses = model(inputs, samples, mode='loss')
    image, tokens = model.aggregator(inputs['patches'], None, inputs['mask'])
    prediction = model.mpm_head(tokens)
    errors = []
    for bag, flags in enumerate(inputs['mask']):
        for place in flags.nonzero()[:, 0].tolist():
            errors += (prediction[bag, place] -
                       inputs['patches'][bag, place]).abs().tolist()
    assert len(errors) == 6 * 6 * DIMS
    assert losses['loss_rec'].item() == pytest.approx(
        sum(errors) / len(errors), rel=1e-12)
    model.gene_encoder.eval()
    patients = torch.cat([image, model.gene_encoder(inputs['genes'])], dim=1)
    hinges = []
    for a, anchor in enumerate(patients):
        for p, positive in enumerate(patients):
            for n, negative in enumerate(patients):
                if a != p and LABELS[a] == LABELS[p] != LABELS[n]:
                    hinge = ((anchor - positive)**2).sum() + .8 - (
                        (anchor - negative)**2).sum()
                    hinges.append(max(float(hinge), 0.))
    active = [hinge for hinge in hinges if hinge]
    assert 0 < len(active) < len(hinges) == 2 * 3 * 2 * 3
    assert losses['loss_tri'].item() == pytest.approx(
        sum(active) / len(active), rel=1e-9)
    assert losses['tri_active'].item() == pytest.approx(
        len(active) / len(hinges))
    assert [name for name in losses if 'loss' in name] == [
        'loss_rec', 'loss_tri']


@pytest.mark.parametrize(('arguments', 'names'), [
    (dict(), {'loss_rec', 'loss_tri'}), (dict(mpm_head=None), {'loss_tri'}),
    (dict(gene_encoder=None, contrast_head=None), {'loss_rec'}),
    (SLIDES, {'loss_rec', 'loss_tri'}),
    (dict(mpm_head=None, **SLIDES), {'loss_tri'}),
    (NCE, {'loss_rec', 'loss_nce'})])
def test_parts_can_be_left_out(arguments, names):
    """Rows of Table 2; all that is trained has a gradient."""
    model = tiny_gimp(**arguments)
    assert model.aggregator.mask_token.requires_grad == (
        model.mpm_head is not None)
    losses = model(*batch(), mode='loss')
    assert {name for name in losses if 'loss' in name} == names
    total(losses).backward()
    # Only patches see the last layer's convolution.
    assert_trained(model, ['layers.1.value_conv.weight']
                   if model.mpm_head is None else [])


def test_nothing_is_masked_without_reconstruction():
    model = tiny_gimp(mpm_head=None)
    inputs, samples = batch()
    with_mask = model.loss(inputs, samples)
    inputs['mask'] = None
    assert model.loss(inputs, samples) == with_mask
    masked = tiny_gimp().loss(*batch())
    assert masked['loss_tri'] != with_mask['loss_tri']


def test_reduced_precision_is_near():
    """Check 24: bfloat16 within 2 %; the losses stay in float32."""
    model = tiny_gimp()
    inputs, samples = batch(labels=LABELS * 3)

    def losses():
        model.gene_cache.clear()
        return model.loss(inputs, samples)

    want, got = assert_near_in_bfloat16(losses, .02)
    # Genes do not take part in the autocast.
    assert got['d2_ap_ge'] == want['d2_ap_ge']


def test_who_lacks_genes_or_slides_is_in_no_triplet():
    """He may be of any class, and gets a gradient from Eq. 3 alone."""
    model = tiny_gimp(DOUBLE)
    inputs, samples = batch(DOUBLE)
    inputs['has_genes'][1] = False
    inputs['genes'][1] = 0
    inputs['has_patches'][4] = False
    inputs['valid'][4] = inputs['mask'][4] = False
    got = model.loss(inputs, samples)
    rows = [0, 2, 3, 5]
    few, theirs = batch(DOUBLE, rows=rows)
    want = model.loss(few, theirs)
    assert got['tri_count'] == want['tri_count'] == 3 * 2
    for name in ('loss_tri', 'd2_ap_img', 'd2_an_ge'):
        assert torch.allclose(got[name], want[name])
    # Whoever has slides is reconstructed.
    alone, who = batch(DOUBLE, rows=[0, 1, 2, 3, 5])
    assert torch.allclose(got['loss_rec'], model.loss(alone, who)['loss_rec'])
    image = torch.randn(6, WIDTH, dtype=DOUBLE, requires_grad=True)
    losses = model.contrast(image, None, inputs, samples)
    losses['loss_tri'].backward()
    assert not image.grad[[1, 4]].any()


def test_who_lacks_genes_is_not_contrasted():
    model = tiny_gimp(DOUBLE, **NCE)
    inputs, samples = batch(DOUBLE)
    inputs['has_genes'][[0, 3]] = False
    got = model.loss(inputs, samples)
    want = model.loss(*batch(DOUBLE, rows=[1, 2, 4, 5]))
    assert torch.allclose(got['loss_nce'], want['loss_nce'])


@pytest.mark.parametrize('arguments', [
    {}, NCE, SLIDES, dict(mpm_head=None),
    dict(gene_encoder=None, contrast_head=None),
    dict(aggregator=dict(NYSTROM, ppeg=True, norm_features=True))])
@pytest.mark.parametrize('genes', [True, False])
def test_a_batch_without_any_slides_teaches_nothing(arguments, genes):
    """Distributed training waits for the gradient of each parameter."""
    model = tiny_gimp(**arguments)
    inputs, samples = batch()
    inputs |= dict(patches=None, valid=None, mask=None, coords=None,
                   has_patches=torch.zeros(6, dtype=torch.bool))
    if not genes:
        inputs |= dict(genes=None, has_genes=inputs['has_patches'])
    losses = model(inputs, samples, mode='loss')
    assert total(losses) == 0
    total(losses).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert not parameter.grad.any(), name


@pytest.mark.parametrize('arguments', [{}, dict(mpm_head=None)])
def test_a_pipeline_without_slides_is_refused(arguments):
    """All its batches would teach nothing."""
    model = tiny_gimp(**arguments)
    inputs, samples = batch()
    inputs |= dict(patches=None, valid=None, mask=None,
                   has_patches=torch.zeros(6, dtype=torch.bool))
    for sample in samples:
        sample.set_field(False, 'loads_slides', field_type='metainfo')
    with pytest.raises(ValueError, match='and the pipeline loads none'):
        model(inputs, samples, mode='loss')
    # One that reads patients of both kinds of data sets is not.
    samples[2].set_field(True, 'loads_slides', field_type='metainfo')
    assert total(model(inputs, samples, mode='loss')) == 0


@pytest.mark.parametrize('name', ['BioViLHead', 'MGCAHead', 'REFERSHead'])
def test_a_batch_without_any_slides_has_all_gradients(name):
    """Where genes are learned, too."""
    model = tiny_gimp(
        contrast_head=dict(type=f'mmmedmask.{name}', proj_dims=4),
        gene_encoder=GROUPS, freeze_gene_encoder=False)
    inputs, samples = batch()
    inputs |= dict(patches=None, valid=None, mask=None,
                   has_patches=torch.zeros(6, dtype=torch.bool))
    total(model(inputs, samples, mode='loss')).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all()
               for parameter in model.parameters())


def test_a_batch_without_any_genes_is_reconstructed():
    model = tiny_gimp()
    inputs, samples = batch()
    inputs['genes'] = None
    inputs['has_genes'][:] = False
    losses = model.loss(inputs, samples)
    assert losses['tri_count'] == losses['loss_tri'] == 0
    assert losses['loss_rec'] > 0
    assert model.gene_encoder.encoded == 1
    total(losses).backward()


# Check 16: the frozen half.
def test_the_gene_encoder_is_frozen():
    model = tiny_gimp().train()
    assert not model.gene_encoder.training
    assert model.aggregator.training
    other = copy.deepcopy(model.aggregator.state_dict())
    wrapper = OptimWrapper(torch.optim.AdamW(
        model.parameters(), lr=.1, weight_decay=.5))
    with unchanged(model.gene_encoder):
        for _ in range(3):
            wrapper.update_params(total(model.loss(*batch())))
            model.train()
    assert all(p.grad is None for p in model.gene_encoder.parameters())
    assert any(not torch.equal(value, other[name]) for name, value
               in model.aggregator.state_dict().items())


def test_a_gene_encoder_that_is_not_frozen_is_trained():
    model = tiny_gimp(freeze_gene_encoder=False).train()
    assert model.gene_encoder.training
    total(model.loss(*batch())).backward()
    assert all(p.grad.any() for p in model.gene_encoder.parameters())
    total(model.loss(*batch()))
    assert model.gene_encoder.encoded == 2 * len(LABELS)


def test_genes_are_encoded_once_per_patient():
    model = tiny_gimp().train()
    inputs, samples = batch()
    first = model.encode_genes(inputs, samples)
    assert model.gene_encoder.encoded == 6
    # Dropout has no say, and others in the batch have none.
    few, theirs = batch(rows=[4, 2])
    again = model.encode_genes(few, theirs)
    assert model.gene_encoder.encoded == 6
    assert torch.equal(again, first[[4, 2]])
    model.gene_cache.clear()
    assert torch.equal(model.encode_genes(few, theirs), first[[4, 2]])
    assert model.gene_encoder.encoded == 8
    want = model.gene_encoder(inputs['genes'])
    assert torch.allclose(first, want, atol=1e-6)
    assert first.grad_fn is None


CHANGES = {
    'in place': lambda encoder, inputs: encoder.fc.weight[0, 0].add_(1e-3),
    'behind the counter': lambda encoder, inputs:
        encoder.fc.weight.data.mul_(1.001),
    'sign': lambda encoder, inputs: encoder.fc.weight.data.neg_(),
    'buffer': lambda encoder, inputs: encoder.scale.fill_(2),
    'loaded': lambda encoder, inputs: encoder.load_state_dict(
        {name: value + .1 for name, value in encoder.state_dict().items()}),
    'another tensor': lambda encoder, inputs: setattr(
        encoder.fc, 'bias', torch.nn.Parameter(
            encoder.fc.bias + .5, requires_grad=False)),
    'scale': lambda encoder, inputs: inputs['genes'].mul_(1.01),
    'one gene': lambda encoder, inputs: inputs['genes'][:, 7].add_(1e-3),
}


@pytest.mark.parametrize('change', CHANGES)
def test_nothing_old_is_given_when_something_changes(change):
    model = tiny_gimp()
    inputs, samples = batch()
    old = model.encode_genes(inputs, samples)
    with torch.no_grad():
        CHANGES[change](model.gene_encoder, inputs)
    got = model.encode_genes(inputs, samples)
    model.gene_encoder.eval()
    assert torch.allclose(got, model.gene_encoder(inputs['genes']), atol=1e-6)
    assert not torch.equal(got, old)


def test_the_cache_is_in_no_checkpoint_and_copies_well():
    model = tiny_gimp()
    want = model.encode_genes(*batch())
    assert {name.split('.')[0] for name in model.state_dict()} == {
        'aggregator', 'gene_encoder', 'mpm_head'}
    assert torch.equal(copy.deepcopy(model).encode_genes(*batch()), want)


def test_patients_without_genes_are_one_case():
    model = tiny_gimp()
    inputs, samples = batch()
    inputs['has_genes'] = torch.arange(6) < 2
    inputs['genes'][2:] = 0
    for _ in range(2):
        genes = model.encode_genes(inputs, samples)
        assert model.gene_encoder.encoded == 2 + 1
        assert torch.equal(genes[2:], genes[2].expand(4, -1))


def test_patients_without_a_name_are_not_kept():
    model = tiny_gimp()
    inputs, samples = batch()
    for sample in samples[:2]:
        sample.set_metainfo(dict(case_id=None))
    model.encode_genes(inputs, samples)
    model.encode_genes(inputs, samples)
    assert model.gene_encoder.encoded == 6 + 2
    model.encode_genes(inputs)
    assert model.gene_encoder.encoded == 6 + 2 + 6


def test_random_triplets_follow_seed_and_sample():
    model = tiny_gimp(contrast_head=dict(
        type='mmmedmask.TripletHead', mining='random'))
    inputs, samples = batch()
    draws = model.draw_triplets(samples)
    assert torch.equal(model.draw_triplets(samples[::-1]), draws.flip(0))
    model.seed = 7
    assert not torch.equal(model.draw_triplets(samples), draws)
    assert model(inputs, samples, mode='loss')['tri_count'] == 6
    samples[3].set_metainfo(dict(sample_idx=None))
    with pytest.raises(ValueError, match='case case 3 lacks .* sample_idx'):
        model.draw_triplets(samples)
    assert tiny_gimp().draw_triplets(samples) is None


def test_vectors_of_whole_bags():
    model = tiny_gimp()
    inputs, samples = batch()
    got = model(inputs, samples)
    image, _ = model.aggregator(inputs['patches'])
    assert torch.equal(got['image'], image)
    assert got['patient'].shape == (6, 2 * WIDTH)
    assert torch.equal(got['patient'],
                       torch.cat([got['image'], got['genes']], dim=1))
    alone = tiny_gimp(**SLIDES)(inputs)
    assert alone['genes'] is None
    assert torch.equal(alone['patient'], alone['image'])


test_parts_that_do_not_fit_are_refused = refuses(tiny_gimp, [
    (dict(mpm_head=None, contrast_head=None), 'mpm_head, contrast_head or'),
    (dict(contrast_head=None), 'gene_encoder must be None, got Counting'),
    (dict(gene_encoder=None, contrast_head=dict(type='mmmedmask.InfoNCEHead')),
     'InfoNCEHead .* needs a gene_encoder'),
    (dict(mpm_head=dict(type='mmmedmask.MPMHead', out_dims=4)),
     'MPMHead has out_dims=4, the parts before it give 5'),
    (dict(contrast_head=dict(type='mmmedmask.InfoNCEHead', proj_dims=3,
                             gene_dims=7)),
     'InfoNCEHead has gene_dims=7, the parts before it give 8'),
    (dict(aggregator=dict(type='mmmedmask.CLAM_MB', in_dims=DIMS,
                          embed_dims=WIDTH, num_classes=2)),
     'CLAM_MB gives a vector per class'),
    (dict(aggregator=dict(type='mmmedmask.MCAT', in_dims=DIMS,
                          num_genes=GENES, embed_dims=WIDTH)),
     'MCAT looks at genes')])


@pytest.mark.parametrize(('change', 'said'), [
    (lambda inputs, samples: inputs.update(mask=None),
     'lacks mmmedmask.GenerateSequenceMask'),
    (lambda inputs, samples: samples[2].pop('gt_label'),
     'case case 2 has the gt_label None, expected one class'),
    (lambda inputs, samples: samples[1].set_gt_label([0, 1]),
     r'case case 1 has the gt_label \[0, 1\]')])
def test_bad_batches_are_refused(change, said):
    inputs, samples = batch()
    change(inputs, samples)
    with pytest.raises(ValueError, match=said):
        tiny_gimp().loss(inputs, samples)
    with pytest.raises(ValueError, match="got 'predict'"):
        tiny_gimp()(*batch(), mode='predict')


def test_is_built_from_a_config_with_real_encoders():
    model = MODELS.build(dict(
        type='mmmedmask.GiMP', aggregator=NYSTROM,
        gene_encoder=GROUPS | dict(drop_rate=.3),
        mpm_head=dict(type='mmmedmask.MPMHead'),
        contrast_head=dict(type='mmmedmask.TripletHead'))).train()
    model.init_weights()
    one, two = (model.loss(*batch()) for _ in range(2))
    assert one == two
    assert type(model.data_preprocessor).__name__ == \
        'SlideOmicDataPreprocessor'
