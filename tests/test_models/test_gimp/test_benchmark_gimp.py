"""The benchmarks of GiMP run, and compare equal layers."""

import argparse
import json
import re
import sys

import pytest
from commands import TOOLS, call, load, run

SCRIPT = TOOLS / 'analysis_tools/benchmark_gimp.py'
TINY = dict(sizes=[64, 128], tokens=64, in_dims=8, embed_dims=8, heads=2,
            landmarks=16, rounds=1, threads=1, genes=1920, step_batch=4,
            step_length=24, step_rounds=2)


def options():
    return [part for name, value in TINY.items()
            for part in (f'--{name.replace("_", "-")}',
                         *(value if isinstance(value, list) else [value]))]


@pytest.fixture
def tool(monkeypatch):
    """The script, measuring in this process."""
    module = load(SCRIPT)

    def measure(args, part, allocator, *options):
        assert allocator in module.ALLOCATORS
        args = argparse.Namespace(
            **vars(args), train='--train' in options,
            recompute='--recompute' in options,
            patches=options[1] if part == 'size' else None)
        return getattr(module, f'measure_{part}')(args)

    monkeypatch.setattr(module, 'run_part', measure)
    return module


def test_layers_are_equal_and_compared(tool):
    args = argparse.Namespace(**TINY, device='cpu', warmup=0)
    report = tool.report_layers(args, 'keeping')
    difference, = re.findall(r'differ by at most (\S+)', report)
    assert float(difference) < 1e-5
    assert re.findall(r'(\w+) +(wall|processor)', report) == [
        ('forward', 'wall'), ('forward', 'processor'), ('train', 'wall'),
        ('train', 'processor')]
    assert len(re.findall('naive / fused', report)) == 4
    assert len(re.findall('goal at least 1.8', report)) == 2


def test_sizes_are_measured(tool, monkeypatch):
    args = argparse.Namespace(**TINY, device='cpu')
    for train in (False, True):
        report = tool.report_sizes(args, train)
        assert re.findall(r'(\d+) patches', report) == ['64', '128']
    peaks = iter([(100, 160), (100, 232), (0, 10**9), (0, 5 * 10**9)])

    def measured(*_):
        before, peak = next(peaks)
        return dict(before=before, peak=peak, wall=1.0, processor=2.0)

    monkeypatch.setattr(tool, 'run_part', measured)
    report = tool.report_sizes(args, False)
    assert '1.00 x linear (goal at most 1.1: reached)' in report
    assert '1.10 x linear (goal at most 1.1: reached)' in report
    args.sizes = [50_000, tool.GOAL_PATCHES]
    report = tool.report_sizes(args, False)
    assert '1.67 x linear (goal at most 1.1: missed)' in report
    assert '5.000 GB at the peak (goal below 4: missed)' in report


@pytest.mark.parametrize('amp', [False, True])
def test_a_step_learns_both_things(tool, amp):
    args = argparse.Namespace(**TINY, device='cpu', warmup=1, amp=amp)
    report = tool.report_step(args)
    assert 'bfloat16' in report if amp else 'float32' in report
    assert re.findall(r'layers (\w+)', report) == ['kept', 'recomputed']
    assert len(re.findall('goal below 16: reached', report)) == 2
    args.recompute = False
    first = tool.measure_step(args)['losses']
    args.step_rounds = 20
    last = tool.measure_step(args)['losses']
    assert first['tri_count'] == 4 * 1 * 2
    assert last['loss_rec'] < first['loss_rec']


def test_loader():
    loader = load('analysis_tools/benchmark_slide_loader.py')
    args = loader.build_parser().parse_args([
        '--slide-patches', '40', '--length', '16', '--in-dims', '8',
        '--genes', '60', '--reads', '6', '--workers', '0',
        '--layouts', 'clam-h5', 'clam-pt'])
    report = loader.report(args)
    assert report.startswith('runs of 16 of 40 patches of 8')
    assert re.findall(r'^ +(\S.*?) +\d+\.\d ms a run', report, re.M) == [
        'clam-h5', 'as fp16 copy', 'clam-pt', 'as fp16 copy']
    assert len(re.findall('runs/s with 0 workers', report)) == 2


def test_a_part_has_a_process_of_its_own():
    """What each of the benchmark's processes does: measure, print json."""
    output = run(sys.executable, SCRIPT, *options(), '--part', 'layers')
    measured = json.loads(output.splitlines()[-1])
    assert measured['difference'] < 1e-5
    assert set(measured['times']) == {'forward', 'train'}


def test_uneven_tokens_are_refused():
    output = call(SCRIPT, '--tokens', 100, '--landmarks', 16, status=2)
    assert '100 is not a multiple of --landmarks 16' in output
