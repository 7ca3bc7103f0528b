"""Two processes take the step of one with both batches, triplets included."""

import json

import pytest
import torch
from processes import run_ranks
from torch import nn

from mmmedmask.functional.triplets import MININGS

from .tiny_gimp import GROUPS, batch, tiny_gimp, total

SIZE = 2
LABELS = (0, 1, 0, 1, 1, 0, 0, 1)
LACKING = 3
HEADS = {
    **{mining: dict(contrast_head=dict(
        type='mmmedmask.TripletHead', mining=mining), seed=0)
       for mining in MININGS},
    'contrast': dict(contrast_head=dict(
        type='mmmedmask.InfoNCEHead', proj_dims=4)),
    **{name: dict(
        contrast_head=dict(type=f'mmmedmask.{name}', proj_dims=4),
        gene_encoder=GROUPS, freeze_gene_encoder=False)
       for name in ('BioViLHead', 'MGCAHead', 'REFERSHead')},
}


def patients(name, rows=None):
    """A batch; in those of contrasts a patient of one rank lacks genes."""
    rows = list(range(len(LABELS))) if rows is None else rows
    inputs, samples = batch(torch.float64, LABELS, rows=rows)
    if name not in MININGS and LACKING in rows:
        inputs['has_genes'][rows.index(LACKING)] = False
    return inputs, samples


def gradients(model, inputs, samples):
    """Gradient of each parameter after a step, and the losses."""
    losses = model(inputs, samples, mode='loss')
    total(losses).backward()
    model = getattr(model, 'module', model)
    return dict(
        losses={name: float(value) for name, value in losses.items()},
        gradients={name: parameter.grad.tolist() for name, parameter in
                   model.named_parameters() if parameter.requires_grad})


def work(rank, folder):
    found = {}
    for name, arguments in HEADS.items():
        # A frozen encoder needs no search for unused parameters.
        model = nn.parallel.DistributedDataParallel(
            tiny_gimp(torch.float64, **arguments).train())
        rows = list(range(4 * rank, 4 * rank + 4))
        found[name] = gradients(model, *patients(name, rows))
    rows = list(range(3 if rank == 0 else 5))
    try:
        tiny_gimp()(*batch(labels=LABELS, rows=rows), mode='loss')
    except ValueError as error:
        found['error'] = str(error)
    with open(f'{folder}/{rank}.json', 'w') as file:
        json.dump(found, file)


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp('ranks')
    run_ranks(lambda rank: work(rank, folder), folder, SIZE)
    return [json.loads((folder / f'{rank}.json').read_text())
            for rank in range(SIZE)]


@pytest.mark.parametrize('name', HEADS)
def test_gradients_are_those_of_one_process(ranks, name):
    model = tiny_gimp(torch.float64, **HEADS[name]).train()
    want = gradients(model, *patients(name))
    contrast = next(key for key in want['losses'] if key in (
        'loss_tri', 'loss_nce'))
    for rank in ranks:
        got = rank[name]
        assert got['losses'][contrast] == pytest.approx(
            want['losses'][contrast], abs=1e-12)
        if name in MININGS:
            assert got['losses']['tri_count'] == want['losses']['tri_count']
        assert set(got['gradients']) == set(want['gradients'])
        for key, values in want['gradients'].items():
            difference = torch.tensor(values) - torch.tensor(
                got['gradients'][key])
            assert difference.abs().max() < 1e-7, key
    # Each has those of its own patients, of which DDP takes the mean.
    for key in {'loss_rec', 'loss_genes', 'loss_local'} & {*want['losses']}:
        mean = sum(rank[name]['losses'][key] for rank in ranks) / SIZE
        assert mean == pytest.approx(want['losses'][key], abs=1e-12), key


def test_batches_of_different_sizes_are_refused(ranks):
    for rank in ranks:
        assert '[3, 5]' in rank['error']
        assert 'drop_last' in rank['error']
