"""Every bag classifier finds a class that few patches of a bag show."""

import pytest
import torch
from mmpretrain.structures import DataSample

from mmmedmask.models.slide_omic import SlideOmicClassifier

DIMS, PATCHES, SHOWN = 12, 24, 3
SIZES = dict(in_dims=DIMS, embed_dims=16, drop_rate=0.0)
HEAD = dict(type='mmmedmask.SlideOmicHead', num_classes=2, drop_rate=0.0)
CLASSWISE = dict(type='mmmedmask.ClasswiseSlideOmicHead', num_classes=2)
MODELS = {
    'MeanPool': (dict(), HEAD),
    'MaxPool': (dict(), HEAD),
    'ABMIL': (dict(attention_dims=8), HEAD),
    'CLAM_SB': (dict(num_classes=2, attention_dims=8,
                     num_instances=SHOWN), HEAD),
    'CLAM_MB': (dict(num_classes=2, attention_dims=8,
                     num_instances=SHOWN), CLASSWISE),
    'DSMIL': (dict(num_classes=2, query_dims=8), CLASSWISE),
    'TransMIL': (dict(num_heads=2, num_landmarks=8, conv_kernel=3,
                      without_coords='square'), HEAD),
}


def draw(count, generator):
    """Bags with three patches moved to one of two sides, and the classes."""
    patches = torch.randn(count, PATCHES, DIMS, generator=generator)
    labels = torch.arange(count) % 2
    patches[:, :SHOWN, 0] += 3 * (2 * labels - 1)[:, None]
    patches[:, :SHOWN, 1] += 4
    order = torch.rand(count, PATCHES, generator=generator).argsort(dim=1)
    shuffled = patches.gather(1, order[..., None].expand(-1, -1, DIMS))
    return dict(patches=shuffled), order < SHOWN, [
        DataSample().set_gt_label(int(label)) for label in labels]


@pytest.mark.parametrize('name', MODELS)
def test_learns_a_class_shown_by_an_eighth_of_the_patches(name):
    arguments, head = MODELS[name]
    model = SlideOmicClassifier(
        aggregator=dict(type=f'mmmedmask.{name}', **SIZES, **arguments),
        head=dict(head))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    generator = torch.Generator().manual_seed(0)
    # TransMIL needs fewer steps, and more time for each.
    for _ in range(25 if name == 'TransMIL' else 60):
        inputs, _, samples = draw(32, generator)
        optimizer.zero_grad()
        sum(model(inputs, samples, mode='loss').values()).backward()
        optimizer.step()
    model.eval()
    inputs, shown, samples = draw(100, generator)
    with torch.no_grad():
        labels = torch.cat([one.gt_label for one in samples])
        found = torch.cat(
            [one.pred_label for one in model(inputs, samples, 'predict')])
        weights = model.aggregator.attention(inputs['patches'])
    accuracy = (found == labels).double().mean()
    assert accuracy > .9
    # Where it can choose, it looks there more than at others. TransMIL's
    # last class token looks at patches that have seen each other.
    if name not in ('MeanPool', 'TransMIL'):
        by_row = weights if weights.ndim == 3 else weights[:, None]
        share = (by_row * shown[:, None]).sum(dim=2).mean()
        assert share > 1.5 * SHOWN / PATCHES
