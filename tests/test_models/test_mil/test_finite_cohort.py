"""A class in single patches is found from a finite set of patients.

The mean of a slide tells nothing, held-out patients are tested, and the form
in which the class token reads the first patches fails: it tells the training
patients apart by them.
"""

import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample
from sklearn.metrics import roc_auc_score

from mmmedmask.models.slide_omic import SlideOmicClassifier
from mmmedmask.phantoms.slide_omic_drawing import (
    draw_slide,
    draw_slide_style,
)

DIMS, PATCHES, TRAINED, TESTED, EPOCHS, RATE = 16, 64, 80, 60, 8, 3e-3
LITERAL = dict(class_token_in_conv=True, conv_start='uniform')


@pytest.fixture(scope='module')
def cohort():
    """Training and held-out patients: patches, coordinates, labels."""
    style = draw_slide_style(2, DIMS, np.random.default_rng(0))
    sets = []
    for split, count in enumerate((TRAINED, TESTED)):
        slides = [draw_slide(
            style, number % 2, PATCHES,
            np.random.default_rng((split, number)), share=.06, signal=3.)
            for number in range(count)]
        sets.append((
            torch.from_numpy(np.stack([one.features for one in slides])),
            torch.from_numpy(np.stack([one.coords for one in slides])),
            torch.arange(count) % 2))
    return sets


def held_out_auc(cohort, aggregator):
    torch.manual_seed(0)
    model = SlideOmicClassifier(
        aggregator=dict(in_dims=DIMS, embed_dims=32, num_heads=4,
                        num_landmarks=32, **aggregator),
        head=dict(type='mmmedmask.SlideOmicHead', num_classes=2, drop_rate=0.))
    model.init_weights()
    optimizer = torch.optim.AdamW(model.parameters(), RATE)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, total_steps=EPOCHS * TRAINED // 8, pct_start=.05)
    patches, coords, labels = cohort[0]
    for _ in range(EPOCHS):
        for rows in torch.randperm(TRAINED).split(8):
            samples = [DataSample().set_gt_label(int(label))
                       for label in labels[rows]]
            optimizer.zero_grad()
            sum(model(dict(patches=patches[rows], coords=coords[rows]),
                      samples, mode='loss').values()).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.)
            optimizer.step()
            scheduler.step()
    model.eval()
    patches, coords, labels = cohort[1]
    with torch.no_grad():
        logits = model(dict(patches=patches, coords=coords))
    return roc_auc_score(labels, logits[:, 1] - logits[:, 0])


@pytest.mark.parametrize(('name', 'literal'), [
    ('TransMIL', LITERAL),
    ('NystromAggregator', dict(LITERAL, embed_relu=False))])
def test_finds_the_planted_class_but_in_the_literal_form(
        cohort, name, literal):
    kind = dict(type=f'mmmedmask.{name}')
    assert held_out_auc(cohort, kind) > .95
    assert held_out_auc(cohort, kind | literal) < .9
