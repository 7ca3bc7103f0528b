"""Two processes have the gradient of one with both batches."""

import json

import pytest
import torch
from processes import run_ranks
from torch import nn

from mmmedmask.functional.randomness import per_sample_uniform
from mmmedmask.models.gimp import InfoNCEHead, TripletHead

SIZE = 2
LABELS = torch.tensor([0, 1, 0, 1, 1, 2, 2, 0])


class Patients(nn.Module):
    """Every loss across ranks, on encoders of slides and of genes."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.image = nn.Linear(6, 4, dtype=torch.float64)
        self.genes = nn.Linear(5, 4, dtype=torch.float64)
        self.triplets = nn.ModuleList(
            TripletHead(mining=mining)
            for mining in ('all', 'batch_hard', 'semi_hard', 'random'))
        self.contrast = InfoNCEHead(
            proj_dims=3, image_dims=4, gene_dims=4).double()

    def forward(self, rows):
        data = torch.randn(8, 11, dtype=torch.float64,
                           generator=torch.Generator().manual_seed(1))[rows]
        image, genes = self.image(data[:, :6]), self.genes(data[:, 6:])
        uniform = per_sample_uniform(0, 0, rows, 2)
        losses = [
            head.loss(image, genes, LABELS[rows], uniform)['loss_tri']
            for head in self.triplets]
        keep = torch.tensor(rows) != 3
        losses.append(self.contrast.loss(image, genes, keep)['loss_nce'])
        return torch.stack([loss.double() for loss in losses])


def work(rank, folder):
    """One rank: gradients with two batches of four, then of 3 and 5."""
    model = nn.parallel.DistributedDataParallel(Patients())
    losses = model(list(range(4 * rank, 4 * rank + 4)))
    losses.sum().backward()
    results = dict(
        losses=losses.tolist(),
        gradients={name: parameter.grad.tolist() for name, parameter in
                   model.module.named_parameters()})
    try:
        Patients()(list(range(3 if rank == 0 else 5)))
    except ValueError as error:
        results['error'] = str(error)
    with open(f'{folder}/{rank}.json', 'w') as file:
        json.dump(results, file)


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp('ranks')
    run_ranks(lambda rank: work(rank, folder), folder, SIZE)
    return [json.loads((folder / f'{rank}.json').read_text())
            for rank in range(SIZE)]


def test_gradient_is_that_of_one_process(ranks):
    model = Patients()
    losses = model(list(range(8)))
    losses.sum().backward()
    for got in ranks:
        assert got['losses'] == pytest.approx(losses.tolist(), abs=1e-12)
        for name, parameter in model.named_parameters():
            gradient = torch.tensor(got['gradients'][name],
                                    dtype=parameter.dtype)
            assert (gradient - parameter.grad).abs().max() < 1e-7, name
            assert parameter.grad.any(), name


def test_batches_of_different_sizes_are_refused(ranks):
    for rank in ranks:
        assert '[3, 5]' in rank['error']
        assert 'drop_last' in rank['error']
