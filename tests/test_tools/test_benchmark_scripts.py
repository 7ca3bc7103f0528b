"""The benchmarks run and report; no time is asserted."""

import os
import subprocess
import sys

import pytest
from commands import TOOLS, call, load


@pytest.mark.parametrize(('name', 'arguments', 'figures'), [
    ('cmim', '--size 64 --batch-size 2 --precisions float32 bfloat16',
     ['CMIM / plain ResNet-18 step, bfloat16', 'SparK / CMIM step, float32',
      'views, colours and stains', *(
          f'share of {part} in CMIM step, float32' for part in (
              'views', 'encoder', 'warp', 'decoder', 'optimizer', 'rest'))]),
    ('cmim', '--size 64 --batch-size 2 --precisions float32 --layouts',
     ['SparK, channels-last / contiguous step, float32']),
    ('tile_loader', '--samples 30001 --tiles 20',
     ['loader, jpg', 'loader, png', 'loader, tif',
      'shards, 30,001 samples, first batch of 2 ranks',
      'shards / single files, wall time, cold cache',
      '2 ranks, 30,001 samples: the rarest comes | 1 times |  | >= 1 | '
      'reached']),
    ('extraction', '--side 3 --tile-size 64 --batch-size 2 --warmup 0',
     ['our slide reader / OpenSlide alone, time',
      'encoder waits for tiles, one reader / none', *(
          f'share of {part} in slide of 9 tiles to h5' for part in (
              'reading', 'pictures', 'encoding', 'writing'))])])
def test_a_benchmark_reports_every_figure(name, arguments, figures):
    output = call(f'analysis_tools/benchmark_{name}.py', '--rounds', 1,
                  *arguments.split())
    for words in figures:
        assert f'| {words} |' in output


def test_precisions_that_a_cpu_emulates_are_left_out(monkeypatch, capsys):
    tool = load('analysis_tools/benchmark_cmim.py')
    monkeypatch.setattr('torch.cpu._is_amx_tile_supported', lambda: False)
    for bf16, found in ((True, tool.PRECISIONS), (False, ('float32', ))):
        monkeypatch.setattr('torch.cpu._is_avx512_bf16_supported',
                            lambda bf16=bf16: bf16)
        assert tool.fast_precisions('cpu') == found
        assert tool.fast_precisions('cuda') == tool.PRECISIONS
    assert 'bfloat16 is left out' in capsys.readouterr().err


def test_benchmark_of_msmae_reports():
    """In a process of its own; operations are exact, no time is asserted."""
    tool = load('analysis_tools/run_benchmarks.py')
    figures = tool.run_benchmark('msmae', *tool.TINY['msmae'], '--batch-size',
                                 2, '--rounds', 1, '--warmup', 0)
    values = {one.what: one.value for one in figures}
    for words in ('fine-tuning, all / visible tokens',
                  'the same with maps made every 20 epochs',
                  'pre-training step, MSMAE / MAE',
                  'share of 7 refreshes in 300 epochs of pre-training',
                  'operations, pre-training step, MSMAE / MAE'):
        assert values[words] > 0
    parts = [value for what, value in values.items()
             if what.endswith('MSMAE pre-training step')]
    assert len(parts) == 3
    assert sum(parts) == pytest.approx(100)
    # Linear layers and attention of 12 layers, forward, for 65 tokens less
    # what the last layer needs for the class token alone.
    tokens, dims = 65, 192
    whole = tokens * 12 * dims**2 + 2 * tokens**2 * dims
    last = (tokens + 1) * dims**2 + tokens * dims
    maps = 2 * (11 * whole + last + 64 * dims * 192)
    assert values['operations, maps'] == pytest.approx(maps / 1e9)


def test_start_is_measured_until_a_line():
    """Of a process that would go on for ever, and of one that ends."""
    start = load('analysis_tools/benchmark_start.py')
    code = ('import itertools, time\nprint("first", flush=True)\n'
            'for _ in itertools.count(): time.sleep(1)')
    assert start.seconds_until([sys.executable, '-c', code], 'first') > 0
    command = [sys.executable, '-c', 'print("other")']
    assert start.seconds_until(command, None) > 0
    with pytest.raises(RuntimeError, match="line with 'first':\nother"):
        start.seconds_until(command, 'first')


@pytest.fixture
def benchmarks(monkeypatch):
    tool = load('analysis_tools/run_benchmarks.py')
    values = dict(cmim=1.5, msmae=.8, gimp=None, tile_loader=1, extraction=2,
                  start=9)

    def run(name, *options):
        value = values[name]
        return None if value is None else [
            tool.Figure(name, value, value, value)]

    monkeypatch.setattr(tool, 'run_benchmark', run)
    return tool, values


def test_all_benchmarks_in_one_table(
        benchmarks, tmp_path, capsys, monkeypatch):
    """What fails is named, what was not run stays, changes are shown."""
    tool, values = benchmarks
    file = tmp_path / 'bench.json'
    with pytest.raises(SystemExit, match='failed: gimp, gimp'):
        tool.main(['--save', str(file)])
    assert 'change' not in capsys.readouterr().out
    values.update(cmim=1.2, gimp=3)
    tool.main(['--save', str(file), '--only', 'cmim', 'gimp'])
    printed = capsys.readouterr().out
    assert '| cmim | 1.2 |  |  |  | 1.5 | -20 % |' in printed
    assert '| gimp | 3 |  |  |  |  |  |' in printed
    assert 'msmae' not in printed
    tool.main(['--show', str(file)])
    printed = capsys.readouterr().out
    assert '| cmim | 1.2 |' in printed
    other = tmp_path / 'other.json'
    tool.main(['--save', str(other), '--only', 'start'])
    tool.main(['--save', str(file), '--against', str(other), '--only', 'cmim'])
    assert {figure.what for figure in tool.read_figures(file)} == {*values}
    # Asked for figures that are not there, it does not measure in vain.
    other.write_text('{}')
    for option in ('--show', '--against', '--save'):
        for path, message in ((other, "other.json has no figures"),
                              (tmp_path, 'Is a directory')):
            with pytest.raises(SystemExit, match=message):
                tool.main([option, str(path)])
    with pytest.raises(SystemExit, match='No such file'):
        tool.main(['--against', str(tmp_path / 'none.json')])
    # Figures of tiny sizes are compared with by nobody.
    monkeypatch.setattr(tool, 'SAVE', tmp_path / 'default.json')
    tool.main(['--tiny'])
    assert not tool.SAVE.exists()
    assert '| msmae | 0.8 |' in printed


def test_options_of_all_benchmarks_exist():
    tool = load('analysis_tools/run_benchmarks.py')
    shared = (TOOLS / 'analysis_tools/benchmarking.py').read_text()
    assert set(tool.TINY) == {name for name, *_ in tool.BENCHMARKS}
    for name, *options in (*tool.BENCHMARKS, *(
            (name, *options) for name, options in tool.TINY.items())):
        script = TOOLS / f'analysis_tools/benchmark_{name}.py'
        for option in options:
            assert not str(option).startswith('--') \
                or f"'{option}'" in script.read_text() + shared


def test_growth_is_fitted_and_drawn(tmp_path):
    growth = load('analysis_tools/measure_growth.py')

    def cost(power):
        return {x: growth.bench.Figure('', 5 + x**power, 5, 9)
                for x in (1, 2, 4)}

    offset, slope, share, _ = growth.fit_line(cost(1))
    assert (offset, slope, share) == pytest.approx((5, 1, 1))
    assert growth.fit_line(cost(3))[2] < .99
    *_, exponent = growth.fit_line(
        {x: growth.bench.Figure('', 3 * x**2, 0, 0) for x in (1, 2, 4)})
    assert exponent == pytest.approx(2)
    curve = growth.Curve('MSMAE', 'tokens', {'time': cost(1)})
    assert growth.table_of_curves([curve]).endswith(
        '| MSMAE: time | tokens | 6 at 1 | 9 at 4 | 1.000 | 0.29 | straight |')
    growth.draw(curve, tmp_path / 'tokens.png')
    assert (tmp_path / 'tokens.png').stat().st_size > 1000


def test_growth_is_measured(tmp_path):
    """No time is asserted; what a forward pass keeps is exact."""
    call('analysis_tools/measure_growth.py', '--out', tmp_path, '--rounds', 1,
         '--warmup', 0, '--curves', 'batch', 'depth', 'patches', 'genes',
         'refresh', 'workers', '--batches', 1, 2, '--depths', 1, 2, 3,
         '--patches', 20, 40, '--genes', 1920, 3840, '--images', 2, 3,
         '--workers', 0, 1, '--tiles', 4)
    lines = [line.split(',') for line in
             (tmp_path / 'growth.csv').read_text().splitlines()]
    assert len({line[0] for line in lines[1:]}) == 6
    kept = [float(line[3]) for line in lines
            if line[0] == 'depth' and line[1].startswith('kept')]
    assert kept[2] - kept[1] == pytest.approx(kept[1] - kept[0], rel=1e-2)
    assert len(list(tmp_path.glob('*.png'))) == 6


STAND_IN = """#!/bin/bash
echo "$*" >> calls
case "$*" in
  *--show*) shift 2; echo "shown: $#" ;;
  *gimp*) echo 'out of memory'; exit 1 ;;
  *pytest*) echo '3 passed' ;;
  *--json*) while [ "$1" != --json ]; do shift; done; echo '{}' > "$2" ;;
esac
"""


def test_gpu_check_goes_on_after_a_failure(tmp_path):
    """All steps are taken, with tiny sizes; Python is a stand-in."""
    python = tmp_path / 'python'
    python.write_text(STAND_IN.replace('calls', str(tmp_path / 'calls')))
    python.chmod(0o755)
    script = TOOLS / 'analysis_tools/gpu_check.sh'

    def check(*words):
        return subprocess.run(
            ['bash', script, '--device', 'cpu', *words], text=True,
            cwd=TOOLS.parent, env=os.environ | dict(PYTHON=str(python)),
            capture_output=True, check=False)

    result = check('--tiny', '--out', str(tmp_path / 'out'))
    assert result.returncode == 1
    assert '| tests marked gpu | 3 passed |' in result.stdout
    assert '| GiMP | **failed** with 1, see' in result.stdout
    assert '| training on gloo, one process | ran' in result.stdout
    assert 'shown: 2' in result.stdout
    calls = (tmp_path / 'calls').read_text().splitlines()
    assert len(calls) == 7
    assert '--batch-size 2 --size 64' in calls[1]
    assert check('--fast').returncode == 2


@pytest.mark.parametrize(('name', 'peak'), [
    ('NVIDIA A100-SXM4-80GB', '312'), ('NVIDIA L40', ''), ('NVIDIA L4', '121'),
    ('NVIDIA RTX A1000', ''), ('NVIDIA H100 PCIe', '756'),
    ('NVIDIA H200', '989'), ('NVIDIA GeForce RTX 4090', '165')])
def test_peaks_go_by_whole_names(name, peak):
    text = (TOOLS / 'analysis_tools/gpu_check.sh').read_text()
    start = text.index('  case " ${name')
    case = text[start:text.index('  esac', start)] + 'esac'
    result = subprocess.run(
        ['bash', '-c', f'name={name!r}\n{case}\necho "$peak"'], text=True,
        capture_output=True, check=True)
    assert result.stdout.strip() == peak
    assert ('is not known' in result.stderr) == (peak == '')
