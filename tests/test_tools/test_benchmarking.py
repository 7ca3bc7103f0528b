"""What benchmarks share, on a clock that is set by hand: no time is real."""

import mmap
import os

import pytest
import torch
from commands import load
from torch import nn

benchmarking = load('analysis_tools/benchmarking.py')
Figure, Goal, Seconds = (
    benchmarking.Figure, benchmarking.Goal, benchmarking.Seconds)


class FakeClock:
    """Moves on when it is told, by wall time three times as fast."""

    now = 0.0

    def __call__(self):
        return Seconds(self.now, 3 * self.now)

    def work(self, seconds):
        self.now += seconds


@pytest.fixture
def clock():
    return FakeClock()


def test_turns_alternate_and_give_known_ratios(clock):
    order = []

    def step(name, *durations):
        durations = iter(durations)

        def run():
            order.append(name)
            clock.work(next(durations))

        return run

    turns = benchmarking.take_turns(
        dict(a=step('a', 99, 3, 6, 8), b=step('b', 99, 2, 2, 2)),
        rounds=3, warmup=1, clock=clock)
    assert ''.join(order) == 'ab' + 'ab' + 'ba' + 'ab'
    assert turns.ratios('a', 'b') == [1.5, 3, 4]
    assert turns.ratios('b', 'a', 'wall') == [2 / 3, 1 / 3, 1 / 4]
    assert turns.values('a', 'wall') == [9, 18, 24]
    figure = benchmarking.figure_of('a / b', turns.ratios('a', 'b'))
    assert figure.value == 3
    assert (figure.low, figure.high) == (1.5, 4)


def test_turns_need_a_step_and_a_round():
    for steps, rounds in (({}, 1), (dict(a=print), 0)):
        with pytest.raises(ValueError, match='at least one step and one'):
            benchmarking.take_turns(steps, rounds)


def test_interval_of_equal_and_of_scattered_values():
    same = benchmarking.figure_of('x', [1.5] * 9)
    assert (same.value, same.low, same.high) == (1.5, 1.5, 1.5)
    wide = benchmarking.figure_of('x', [1, 1, 1, 2, 2, 2, 3, 3, 300])
    assert 1 <= wide.low < wide.value == 2 < wide.high <= 3
    for values in ([], [1, float('nan')], [float('inf')]):
        with pytest.raises(ValueError, match="'x' needs finite values"):
            benchmarking.figure_of('x', values)


@pytest.mark.parametrize(('low', 'high', 'at_most', 'at_least'), [
    (1.2, 1.3, 'reached', 'missed'), (1.4, 1.4, 'reached', 'reached'),
    (1.5, 1.6, 'missed', 'reached'),
    (1.3, 1.5, *['not conclusive on this machine'] * 2)])
def test_verdict(low, high, at_most, at_least):
    for goal, verdict in ((Goal(1.4), at_most), (Goal(1.4, True), at_least)):
        assert Figure('x', low, low, high, goal=goal).verdict == verdict
    assert Figure('x', low, low, high).verdict == ''


class Timed(nn.Module):
    """A linear map whose passes take some time by the clock."""

    def __init__(self, clock, forward, backward):
        super().__init__()
        self.clock, self.seconds = clock, (forward, backward)
        self.linear = nn.Linear(4, 4)

    def forward(self, inputs):
        forward, backward = self.seconds
        self.clock.work(forward)
        clock = self.clock

        class Work(torch.autograd.Function):
            @staticmethod
            def forward(ctx, tensor):
                return tensor.clone()

            @staticmethod
            def backward(ctx, grad):
                clock.work(backward)
                return grad

        return Work.apply(self.linear(inputs))


@pytest.mark.parametrize('recompute', [False, True])
def test_parts_add_up_to_the_step(clock, recompute):
    """Also those of the backward pass, and what no part owns."""
    encoder, between, decoder = (
        Timed(clock, *seconds) for seconds in ((1, 10), (2, 20), (4, 40)))
    parts = benchmarking.Parts(clock)
    parts.mark(encoder, 'forward', 'encoder')
    parts.mark(decoder, 'forward', 'decoder')

    def step():
        clock.work(100)
        run = encoder
        if recompute:
            def run(x):
                return torch.utils.checkpoint.checkpoint(
                    encoder, x, use_reentrant=False)
        # Both a part's own result and a tensor of the rest go in.
        first = run(torch.ones(2, 4))
        decoder(between(first) + first).sum().backward()

    turns = benchmarking.take_turns(
        dict(step=parts.around(step)), rounds=2, clock=clock)
    wanted = dict(encoder=12 if recompute else 11, decoder=44, rest=122)
    assert parts.steps == [wanted] * 3
    assert turns.values('step') == [sum(wanted.values())] * 2
    shares = parts.shares(2)
    assert shares['decoder'] == [44 / sum(wanted.values())] * 2
    assert sum(share[0] for share in shares.values()) == pytest.approx(1)


def test_parts_that_follow_one_another(clock):
    """A part's input that is another part's result, in lists and dicts."""

    class Chain:
        def __init__(self):
            self.first, self.second = (
                Timed(clock, 1, 10), Timed(clock, 2, 20))

        def levels(self, inputs):
            return [self.first(inputs), dict(other=self.first(inputs))]

        def merge(self, levels, *, factor):
            return self.second(levels[0] + factor * levels[1]['other'])

    chain = Chain()
    parts = benchmarking.Parts(clock)
    parts.mark(chain, 'levels', 'levels')
    parts.mark(chain, 'merge', 'merge')
    parts.around(lambda: chain.merge(chain.levels(
        torch.ones(1, 4)), factor=2).sum().backward())()
    assert parts.steps == [dict(levels=22, merge=22, rest=0)]


def test_table_and_json(tmp_path):
    figures = [Figure('CMIM / plain', 1.512, 1.487, 1.6, goal=Goal(1.4)),
               Figure('loader', 2408.2, 2408.2, 2408.2, 'tiles/s',
                      Goal(2000, True))]
    file = tmp_path / 'folder' / 'figures.json'
    benchmarking.write_figures(figures, file, 'cpu')
    assert benchmarking.read_figures(file) == figures
    assert benchmarking.table_of(figures).splitlines()[2:] == [
        '| CMIM / plain | 1.51 | 1.49 to 1.6 | <= 1.4 | missed |',
        '| loader | 2,408 tiles/s |  | >= 2000 | reached |']
    before = {'CMIM / plain': Figure('CMIM / plain', 1.89, 1.8, 1.9)}
    table = benchmarking.table_of(figures, before).splitlines()
    assert table[0].endswith('| verdict | before | change |')
    assert table[2].endswith('| missed | 1.89 | -20 % |')
    assert table[3].endswith('| reached |  |  |')


def test_memory_counts_what_was_held():
    before = benchmarking.held_bytes()
    # Not by an allocator, which may have kept as much of earlier tests.
    with mmap.mmap(-1, 2**28) as block:
        block[::mmap.PAGESIZE] = bytes(len(block) // mmap.PAGESIZE)
        assert benchmarking.held_bytes() - before > 0.9 * len(block)
    assert benchmarking.peak_bytes() >= benchmarking.held_bytes()


def test_a_fresh_process_has_its_own_settings(monkeypatch, tmp_path):
    monkeypatch.setenv('MALLOC_ARENA_MAX', '1')
    monkeypatch.setenv('KEPT', 'yes')
    script = tmp_path / 'measured.py'
    script.write_text(
        'import os\ndef look(*names):\n    print("no result")\n'
        '    return os.getpid(), [os.environ[name] for name in names]\n')
    look = load(script).look
    pid, values = benchmarking.in_fresh_process(
        look, 'KEPT', 'MALLOC_TOP_PAD_', environment=dict(MALLOC_TOP_PAD_='4'))
    assert pid != os.getpid()
    assert values == ['yes', '4']
    with pytest.raises(RuntimeError, match='look of .* ended with 1'):
        benchmarking.in_fresh_process(look, 'MALLOC_ARENA_MAX')
