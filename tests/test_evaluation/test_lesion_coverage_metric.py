"""The metric that measures maps and maskings against lesion masks."""

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmpretrain.structures import DataSample

from mmmedmask.functional.lesion_coverage import (
    image_coverage,
    summarize_coverage,
)


def make_samples(number=5, flags=True):
    generator = torch.Generator().manual_seed(0)
    samples = []
    for index in range(number):
        sample = DataSample(metainfo=dict(img_path=f'{index}.png'))
        sample.attention_map = torch.rand(4, 4, generator=generator).half()
        # Every image has its own size; the last one has no lesion.
        mask = torch.rand(20 + index, 30, generator=generator) < 0.3
        sample.lesion_mask = mask & (index < number - 1)
        if flags:
            sample.partition_flags = torch.randint(
                -1, 2, (8, 16), generator=generator)
        samples.append(sample)
    return samples


def evaluate(samples, **arguments):
    evaluator = Evaluator(dict(type='mmmedmask.LesionCoverage', **arguments))
    return evaluator.offline_evaluate(samples, chunk_size=2)


@pytest.mark.parametrize('flags', [True, False])
def test_averages_over_images(flags):
    samples = make_samples(flags=flags)
    expected = summarize_coverage([
        image_coverage(sample.attention_map, sample.lesion_mask,
                       sample.get('partition_flags'), 2, 0.3)
        for sample in samples
    ])
    found = evaluate(samples, tolerance=2, min_share=0.3)
    assert found == {
        f'lesion_coverage/{name}': value for name, value in expected.items()}
    assert ('lesion_coverage/masked' in found) == flags
    assert found['lesion_coverage/num_images'] == 4
    assert found['lesion_coverage/num_without_lesion'] == 1
    assert np.isfinite(list(found.values())).all()


def test_arrays_do_as_well():
    samples = make_samples()
    expected = evaluate(samples)
    for sample in samples:
        sample.set_field(sample.pop('lesion_mask').numpy(), 'lesion_mask')
    assert evaluate(samples) == expected


def test_what_is_missing():
    samples = make_samples(2)
    del samples[0].lesion_mask
    with pytest.raises(ValueError, match=r"0.png lacks \['lesion_mask'\]"):
        evaluate(samples)
    with pytest.raises(ValueError, match='none of 1 images has a lesion'):
        evaluate(make_samples(1))


@pytest.mark.parametrize('arguments', [
    dict(tolerance=-1), dict(min_share=0), dict(min_share=1.5)])
def test_bad_arguments(arguments):
    with pytest.raises(ValueError, match=f'got {list(arguments.values())[0]}'
                       ):
        evaluate([], **arguments)
