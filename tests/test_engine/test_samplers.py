"""Batches by class and by length: what is in them, for any rank and epoch."""

from collections import Counter

import pytest
import torch
from mmengine.dataset import (
    BaseDataset,
    DefaultSampler,
    InfiniteSampler,
    RepeatDataset,
)
from mmengine.logging import MMLogger
from refusals import refuses
from tiny_runs import TinyModel, first_samples, tiny_runner
from torch.utils.data import ConcatDataset, Dataset, Subset

from mmmedmask.engine.samplers import (
    BlockShuffleSampler,
    ClassBalancedBatchSampler,
    LengthBucketBatchSampler,
)
from mmmedmask.engine.samplers.class_balanced import share_out
from mmmedmask.engine.samplers.length_bucket import bucket_by_length
from mmmedmask.engine.samplers.seeded_batches import ask_dataset


class Patients(Dataset):
    """Samples with a label and a number of patches."""

    def __init__(self, labels=(), lengths=(), classes=()):
        self.labels, self.lengths = list(labels), list(lengths)
        self.metainfo = dict(classes=classes)

    def __len__(self):
        return len(self.labels or self.lengths)

    def get_gt_labels(self):
        return self.labels

    def get_num_patches(self):
        return self.lengths


class Listed(BaseDataset):
    """The same, as a data set of MMEngine, which others can wrap."""

    def __init__(self, labels, lengths):
        self.rows = [dict(gt_label=label, num_patches=length)
                     for label, length in zip(labels, lengths, strict=True)]
        super().__init__()

    def load_data_list(self):
        return list(self.rows)

    def get_gt_labels(self):
        return [row['gt_label'] for row in self.rows]

    def get_num_patches(self):
        return [row['num_patches'] for row in self.rows]


def build(kind, dataset, batch_size, ranks=1, seed=0, **arguments):
    """A sampler for each rank, as the runner builds it."""
    samplers = []
    for rank in range(ranks):
        inner = DefaultSampler(dataset, seed=seed)
        inner.rank, inner.world_size = rank, ranks
        samplers.append(kind(inner, batch_size=batch_size, **arguments))
    return samplers


def epoch_of(samplers, epoch=0):
    """Steps of an epoch: the batch of each rank."""
    for sampler in samplers:
        sampler.set_epoch(epoch)
    batches = [list(sampler) for sampler in samplers]
    for sampler, mine in zip(samplers, batches, strict=True):
        assert len(mine) == len(sampler)
    assert len({len(mine) for mine in batches}) == 1
    return list(zip(*batches, strict=True))


@pytest.mark.parametrize(('counts', 'batch_size', 'ranks', 'classes'), [
    ((20, 23), 16, 1, 2), ((20, 23), 8, 2, 2), ((9, 14, 30), 7, 2, 3),
    ((2, 40), 16, 1, 2), ((3, 40, 5), 9, 2, 3), ((12, 9, 11, 10, 14), 6, 1, 3),
    ((12, 9, 11, 10, 14), 5, 3, 2), ((2, 2, 2), 4, 1, 2)])
def test_every_batch_has_triplets(counts, batch_size, ranks, classes):
    labels = [label for label, count in enumerate(counts)
              for _ in range(count)]
    dataset = Patients(labels)
    samplers = build(ClassBalancedBatchSampler, dataset, batch_size, ranks)
    seen = Counter()
    for epoch in range(25):
        steps = epoch_of(samplers, epoch)
        assert len(steps) == len(labels) // (batch_size * ranks)
        for step in steps:
            for batch in step:
                assert len(batch) == len(set(batch)) == batch_size
                per_class = Counter(labels[index] for index in batch)
                assert len(per_class) >= 2
                assert min(per_class.values()) >= 2
                assert len(per_class) == classes
                # As equal as the sizes of the classes allow.
                free = [count for label, count in per_class.items()
                        if count < counts[label]]
                assert not free or max(per_class.values()) - min(free) <= 1
                seen.update(batch)
    assert set(seen) == set(range(len(labels)))


@pytest.mark.parametrize('wrap', [
    lambda first, second: RepeatDataset(first, 3),
    lambda first, second: ConcatDataset([first, second, first]),
    lambda first, second: ConcatDataset([second, RepeatDataset(first, 2)]),
    lambda first, second: Subset(RepeatDataset(first, 2), [7, 0, 3]),
    lambda first, second: first_samples(first, 3),
    lambda first, second: first_samples(RepeatDataset(second, 2), 3)])
def test_wrapped_patients_are_those_of_a_loop(wrap):
    dataset = wrap(Listed([0, 2, 1, 1, 0], [5, 8, 0, 3, 4]),
                   Listed([3, 4], [9, 7]))
    sampler = DefaultSampler(dataset, seed=0)
    samples = [dataset[place] for place in range(len(dataset))]
    for key in ('gt_label', 'num_patches'):
        method = {'gt_label': 'get_gt_labels'}.get(key, f'get_{key}')
        assert ask_dataset(sampler, method, 'it') == [
            sample[key] for sample in samples]


def test_nobody_is_twice_in_a_step_if_there_are_enough():
    samplers = build(ClassBalancedBatchSampler,
                     Patients([0] * 17 + [1] * 18), 4, 4)
    for epoch in range(20):
        for step in epoch_of(samplers, epoch):
            everybody = sum(step, [])
            assert len(everybody) == len(set(everybody))


def test_all_of_a_class_come_before_one_comes_again():
    counts = (11, 40)
    labels = [0] * counts[0] + [1] * counts[1]
    sampler, = build(ClassBalancedBatchSampler, Patients(labels), 6)
    order = [index for batch, in epoch_of([sampler]) for index in batch
             if not labels[index]]
    # 8 batches with 3 of 11 each.
    assert len(order) == 24
    seen = Counter(order)
    assert max(seen.values()) - min(seen[index] for index in range(11)) <= 1


def test_ranks_have_together_what_one_process_has():
    dataset = Patients([0, 1] * 24)
    one = epoch_of(build(ClassBalancedBatchSampler, dataset, 16), 3)
    two = epoch_of(build(ClassBalancedBatchSampler, dataset, 8, 2), 3)
    assert len(one) == len(two) == 3
    for (batch, ), parts in zip(one, two, strict=True):
        assert set(batch) == set(parts[0]) | set(parts[1])


def test_seed_and_epoch_determine_the_batches():
    first, again, other = (
        build(ClassBalancedBatchSampler, Patients([0, 1] * 20), 8, seed=seed)
        for seed in (0, 0, 1))
    assert epoch_of(first, 5) == epoch_of(again, 5)
    assert epoch_of(first, 5) != epoch_of(first, 6)
    assert epoch_of(first, 5) == epoch_of(again, 5)
    assert epoch_of(first, 5) != epoch_of(other, 5)


@pytest.mark.parametrize('limits', [
    {0: 5, 1: 5}, {0: 1, 1: 9, 2: 9}, {0: 2, 1: 3, 2: 30}, {0: 4, 1: 4}])
def test_shares_are_equal_up_to_their_limits(limits):
    for total in range(1, sum(limits.values()) + 1):
        parts = share_out(total, limits)
        assert sum(parts.values()) == total
        assert all(parts[name] <= limits[name] for name in limits)
        below = [parts[name] for name in limits if parts[name] < limits[name]]
        assert not below or max(parts.values()) - min(below) <= 1


@pytest.mark.parametrize(('labels', 'batch_size', 'ranks', 'said'), [
    ([0] * 9 + [2], 4, 1, 'of rare there is 1: add some'),
    ([1] * 9, 4, 1, 'at least 2 classes, all samples are of other'),
    ([0, 0, 1, 1], 3, 1, '2 classes with 2 .* at least 4, got 3'),
    ([0, 0, 1, 1], 8, 1, 'have 4 samples together, fewer than a batch of 8'),
    ([0, 1] * 5, 8, 2, '10 samples, a step of 2 ranks'),
    ([], 8, 1, 'Patients has no samples')])
def test_bad_classes_are_refused(labels, batch_size, ranks, said):
    dataset = Patients(labels, classes=('common', 'other', 'rare'))
    with pytest.raises(ValueError, match=said):
        build(ClassBalancedBatchSampler, dataset, batch_size, ranks)


def test_a_sampler_that_knows_no_rank_is_refused():
    with pytest.raises(ValueError, match='needs sampler=.*got Infinite'):
        ClassBalancedBatchSampler(
            InfiniteSampler(Patients([0, 1] * 5), seed=0), 4)
    with pytest.raises(ValueError, match=r'list has no get_gt_labels\(\)'):
        build(ClassBalancedBatchSampler, [0, 1], 4)
    # What it wraps lacks it, not the wrapper.
    with pytest.raises(ValueError, match=r'list has no get_gt_labels\(\)'):
        build(ClassBalancedBatchSampler, Subset([0, 1], [0]), 4)


@pytest.fixture
def said(monkeypatch):
    """What is logged: level and text."""
    lines = []
    monkeypatch.setattr(MMLogger.get_current_instance(), 'log',
                        lambda *line: lines.append(line))
    return lines


def test_few_samples_are_told(said):
    dataset = Patients([0] * 3 + [1] * 30, classes=('rare', 'common'))
    build(ClassBalancedBatchSampler, dataset, 16)
    (level, text), = said
    assert level == 30
    assert "of ['rare'] there are fewer" in text


LENGTHS = [1, 3, 485, 500, 520, 610, 600, 0, 15000, 14000, 12001, 148569,
           15500, 700, 90, 100, 99, 101, 98, 5, 0, 14500]


@pytest.mark.parametrize('ranks', [1, 2, 3])
@pytest.mark.parametrize('max_waste', [0., .2, .6])
def test_bags_of_a_batch_are_of_similar_length(ranks, max_waste):
    samplers = build(LengthBucketBatchSampler, Patients(lengths=LENGTHS), 8,
                     ranks, max_tokens=31000, max_waste=max_waste)
    for epoch in range(4):
        steps = epoch_of(samplers, epoch)
        batches = [batch for step in steps for batch in step]
        seen = Counter(index for batch in batches for index in batch)
        assert set(seen) == set(range(len(LENGTHS)))
        # Nothing comes twice but what fills the last step.
        assert max(seen.values()) == 1 or ranks > 1
        for batch in batches:
            bags = [LENGTHS[index] for index in batch]
            padded = len(bags) * max(bags)
            assert len(bags) <= 8
            assert padded <= 31000 or len(bags) == 1
            assert not padded or 1 - sum(bags) / padded <= max_waste
    if max_waste == .6:
        assert any(len(batch) > 2 for batch in batches)


def test_steps_of_ranks_are_of_similar_size():
    lengths = [100] * 16 + [1000] * 16
    samplers = build(LengthBucketBatchSampler, Patients(lengths=lengths), 4,
                     2, max_tokens=10**6)
    for one, other in epoch_of(samplers):
        assert {lengths[index] for index in one} == \
            {lengths[index] for index in other}


def test_who_is_together_changes_but_not_the_number_of_batches():
    lengths = list(range(900, 1000, 5)) + [4000, 4100]
    sampler, = build(LengthBucketBatchSampler, Patients(lengths=lengths), 4,
                     max_tokens=10**6)
    epochs = [epoch_of([sampler], epoch) for epoch in range(3)]
    together = [{frozenset(batch) for batch, in steps} for steps in epochs]
    assert together[0] != together[1] != together[2]
    assert len({len(steps) for steps in epochs}) == 1
    assert epoch_of([sampler], 1) == epochs[1]


def test_one_bucket_is_as_wide_as_allowed():
    assert bucket_by_length([10, 8, 7, 4], .2) == [[3], [2], [0, 1]]
    assert bucket_by_length([0, 3, 0], .9) == [[0, 2], [1]]


@pytest.mark.parametrize(('arguments', 'said'), [
    (dict(max_tokens=0), 'max_tokens must be at least 1, got 0'),
    (dict(max_tokens=9, max_waste=1), r'max_waste must be in \[0, 1\), '),
    (dict(max_tokens=9, batch_size=0), 'batch_size must be at least 1')])
def test_bad_lengths_are_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        build(LengthBucketBatchSampler, Patients(lengths=LENGTHS),
              **{'batch_size': 4, **arguments})


def test_long_bags_are_told(said):
    build(LengthBucketBatchSampler, Patients(lengths=LENGTHS), 8,
          max_tokens=15100)
    assert '2 of 22 bags have more than max_tokens=15100' in said[0][1]
    assert 'up to 148569' in said[0][1]


class Images(Patients):
    """Images that a tiny model takes; it writes down which ones came."""

    def __getitem__(self, index):
        SEEN.append(index)
        return dict(inputs=torch.full((3, 6, 6), float(index)))


SEEN = []


def test_the_runner_builds_it_and_tells_the_epoch(tmp_path):
    """Also after a resume in the middle of the run."""

    def run(folder, epochs, **arguments):
        SEEN.clear()
        runner = tiny_runner(
            tmp_path / folder, TinyModel(), by_epoch=True, max_iters=epochs,
            train_dataloader=dict(
                dataset=Images([0, 1] * 10), batch_size=8, num_workers=0,
                sampler=dict(type='DefaultSampler'),
                batch_sampler=dict(type='mmmedmask.ClassBalancedBatchSampler'),
                collate_fn=dict(type='default_collate')),
            randomness=dict(seed=7), **arguments)
        runner.train()
        return list(SEEN)

    whole = run('whole', 4)
    assert len(whole) == 4 * 16
    assert len({tuple(whole[start:start + 16])
                for start in range(0, 64, 16)}) == 4
    assert run('parts', 2) == whole[:32]
    assert run('parts', 4, resume=True) == whole[32:]


def blocks_of(count, ranks=1, epoch=0, start=0, seed=3, **arguments):
    """The samples of each rank in an epoch."""
    drawn = []
    for rank in range(ranks):
        sampler = BlockShuffleSampler(range(count), seed=seed, **arguments)
        sampler.rank, sampler.world_size = rank, ranks
        sampler.num_samples = -(-count // ranks)
        sampler.set_epoch(epoch)
        sampler.start = start
        drawn.append(list(sampler))
        assert len(drawn[-1]) == len(sampler) - start
    return drawn


def test_blocks_give_all_ranks_together_every_sample_once():
    for count, ranks in ((1000, 1), (1000, 2), (1000, 8), (64, 2)):
        drawn = blocks_of(count, ranks, block_size=10, mixed_blocks=4)
        assert sorted(sum(drawn, [])) == list(range(count))
    # Seven do not come out even with two: the first one comes again.
    drawn = blocks_of(7, 2, block_size=2, mixed_blocks=2)
    assert sorted(sum(drawn, [])).count(drawn[1][-1]) == 2
    assert set(sum(drawn, [])) == set(range(7))
    # Whole ranks begin behind the end.
    for count in (8, 9, 10, 13):
        drawn = sum(blocks_of(count, 8, block_size=3, mixed_blocks=2), [])
        assert set(drawn) == set(range(count))
        assert max(map(drawn.count, drawn)) <= 2


def test_blocks_follow_seed_and_epoch():
    same, again = (blocks_of(500, 2, block_size=7) for _ in range(2))
    assert same == again
    assert same != blocks_of(500, 2, epoch=1, block_size=7)
    assert same != blocks_of(500, 2, seed=4, block_size=7)
    sampler = BlockShuffleSampler(range(100), block_size=10, seed=0)
    sampler.start = 30
    assert (len(list(sampler)), len(list(sampler))) == (70, 100)


def test_blocks_go_on_from_any_sample():
    for ranks in (1, 2, 3):
        whole = blocks_of(100, ranks, block_size=7, mixed_blocks=2)
        for start in range(0, 33):
            assert blocks_of(100, ranks, start=start, block_size=7,
                             mixed_blocks=2) == [
                                 part[start:] for part in whole]


def test_blocks_are_read_nearly_in_sequence_and_mixed():
    (order, ) = blocks_of(10_000, block_size=50, mixed_blocks=4)
    blocks = [index // 50 for index in order]
    for start in range(0, 10_000, 200):
        # Four blocks are in use at a time, each to its end.
        assert len(set(blocks[start:start + 200])) == 4
    followed = sum(after - before == 1
                   for before, after in zip(order, order[1:], strict=False))
    assert followed < 200
    firsts = torch.tensor(blocks[::200], dtype=torch.float64)
    place = torch.arange(len(firsts), dtype=torch.float64)
    assert abs(torch.corrcoef(torch.stack([firsts, place]))[0, 1]) < .4


test_blocks_of_bad_size = refuses(
    lambda **arguments: BlockShuffleSampler(range(9), **arguments), [
    (dict(block_size=0), 'block_size .* 0'),
    (dict(mixed_blocks=.5), 'mixed_blocks .* 0.5')])
