"""The benchmarks of GiMP run, and compare equal layers."""

import pytest
from commands import call, load

SCRIPT = 'analysis_tools/benchmark_gimp.py'
TINY = ('--tokens', 64, '--in-dims', 8, '--embed-dims', 8, '--heads', 2,
        '--landmarks', 16, '--rounds', 1, '--genes', 1920, '--step-batch', 4,
        '--step-length', 24, '--step-rounds', 2, '--sizes', 64, 128)


@pytest.fixture
def tool(monkeypatch):
    """The script, measuring in this process."""
    module = load(SCRIPT)
    monkeypatch.setattr(
        module.bench, 'in_fresh_process',
        lambda function, *args, environment=None: function(*args))
    return module


def parsed(tool, *options):
    return tool.build_parser().parse_args([*map(str, TINY), *options])


def test_layers_are_equal_and_compared(tool):
    figures = {one.what: one for one in tool.compare_layers(parsed(tool))}
    for allocator in tool.ALLOCATORS:
        ending = f'allocator {allocator}'
        assert figures[
            f'largest difference of the layers, {ending}'].value < 1e-5
        for words, bound in (('forward', 1.8), ('forward and backward', 1.7)):
            goal = figures[f'Nyström layer naive / fused, {words}, 64 tokens, '
                           f'{ending}'].goal
            assert (goal.bound, goal.at_least) == (bound, True)


def test_sizes_are_measured(tool, monkeypatch):
    args = parsed(tool)
    assert [one.what for one in tool.measure_sizes(args)][::4] == [
        f'{size} patches, {words}, process peak'
        for words in tool.PASSES.values() for size in (64, 128)]
    args.sizes = [50_000, tool.GOAL_PATCHES]
    peaks = iter([(0, 10**9), (0, 27 * 10**8), (100, 160), (0, 7 * 10**9)])
    monkeypatch.setattr(tool, 'measure_size', lambda *_: (*next(peaks), 1.0))
    verdicts = {one.what: one.verdict for one in tool.measure_sizes(args)}
    for words, peak, linear in (('forward', 'reached', 'reached'),
                                ('forward and backward', 'missed', 'missed')):
        what = f'150,000 patches, {words}'
        assert verdicts[f'{what}, process peak'] == peak
        assert verdicts[f'{what}, over linear'] == linear
        assert verdicts[f'50,000 patches, {words}, process peak'] == ''


@pytest.mark.parametrize('options', [(), ('--amp',)])
def test_a_step_learns_both_things(tool, options):
    args = parsed(tool, *options)
    kind = 'bfloat16' if options else 'float32'
    assert [(one.what, one.verdict) for one in tool.measure_steps(args)][::2] \
        == [(f'pre-training step, 4 runs of 24, {kind}, layers {layers}, '
             'peak', 'reached') for layers in ('kept', 'recomputed')]
    first = tool.measure_step(args, False)[2]
    args.step_rounds = 20
    last = tool.measure_step(args, False)[2]
    assert first['tri_count'] == 4 * 1 * 2
    assert last['loss_rec'] < first['loss_rec']


def test_a_measurement_has_a_process_of_its_own():
    tool = load(SCRIPT)
    before, peak, seconds = tool.bench.in_fresh_process(
        tool.measure_size, parsed(tool), 64, True)
    assert 0 < before <= peak
    assert seconds > 0


def test_uneven_tokens_are_refused():
    output = call(SCRIPT, '--tokens', 100, '--landmarks', 16, status=2)
    assert '100 is not a multiple of --landmarks 16' in output


def test_loader():
    output = call('analysis_tools/benchmark_slide_loader.py',
                  '--slide-patches', 40, '--length', 16, '--in-dims', 8,
                  '--genes', 60, '--reads', 6, '--workers', 0, '--rounds', 1,
                  '--layouts', 'clam-h5', 'clam-pt')
    for layout in ('clam-h5', 'clam-pt'):
        for words in ('files', 'fp16 copies', 'pipeline with 0 workers',
                      'a run / the whole slide, time'):
            assert f'| {layout}, {words} |' in output
