"""All tools, and the helper of the tests that runs them in this process."""

import ast
import logging
import os
import random
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from commands import TOOLS, call
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

# Changes whatever a tool could change, and prints in all ways.
MESSY = """
import logging, os, random, subprocess, sys, warnings
import numpy as np, torch
from mmengine.logging import MMLogger, print_log
from mmengine.registry import DefaultScope

def main(argv=None):
    print('arguments', argv, flush=True)
    print('folder', os.getcwd())
    print('on the other stream', file=sys.stderr)
    warnings.warn('a warning')
    subprocess.run(['echo', 'from a child'])
    logger = MMLogger.get_instance('run', log_file='run.log')
    print_log('from the logger', 'current')
    logging.basicConfig(level=10, force=True)
    logging.getLogger('some').info('from logging')
    os.environ['LOCAL_RANK'] = '5'
    sys.path.insert(0, 'elsewhere')
    sys.argv.append('word')
    torch.manual_seed(1); np.random.seed(1); random.seed(1)
    torch.set_num_threads(torch.get_num_threads() + 1)
    torch.set_default_dtype(torch.float64)
    torch.use_deterministic_algorithms(True)
    torch.set_grad_enabled(False)
    DefaultScope.get_instance('run', scope_name='mmdet')
    import matplotlib.pyplot as plt
    plt.figure()
    raise {end}
"""


def snapshot():
    return dict(
        folder=os.getcwd(), environment=dict(os.environ), path=list(sys.path),
        words=list(sys.argv), streams=(sys.stdout, sys.stderr),
        handlers=list(logging.getLogger().handlers),
        level=logging.getLogger().level,
        random=(random.getstate(), np.random.get_state()[1].tolist(),
                torch.get_rng_state().tolist()),
        torch=(torch.get_num_threads(), torch.get_default_dtype(),
               torch.are_deterministic_algorithms_enabled(),
               torch.is_grad_enabled()),
        signals=[signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)],
        managed=(list(MMLogger._instance_dict),
                 list(DefaultScope._instance_dict)),
        filters=list(warnings.filters), show=warnings.showwarning)


@pytest.mark.parametrize(('end', 'status', 'last'), [
    ('SystemExit(3)', 3, 'from logging'),
    ('SystemExit(None)', 0, 'from logging'),
    ("SystemExit('messy.py: bad')", 1, 'messy.py: bad'),
    ("ValueError('broken')", 1, 'ValueError: broken')])
def test_a_called_tool_leaves_the_process_as_it_was(tmp_path, end, status,
                                                    last):
    import matplotlib.pyplot as plt
    tool = tmp_path / 'messy.py'
    tool.write_text(MESSY.replace('{end}', end))
    logger = MMLogger.get_instance('mine')
    before = snapshot()
    printed = call(tool, tmp_path, 3, status=status, cwd=tmp_path,
                   SOME_VARIABLE='1')
    assert snapshot() == before
    assert MMLogger.get_instance('mine') is logger
    assert not plt.get_fignums()
    for text in (f"arguments ['{tmp_path}', '3']", f'folder {tmp_path}',
                 'on the other stream', 'a warning', 'from a child',
                 'from the logger', last):
        assert text in printed, printed
    # A second call starts afresh.
    assert 'from the logger' in call(tool, status=status, cwd=tmp_path)


def test_a_call_that_ends_otherwise_shows_what_was_printed(tmp_path):
    tool = tmp_path / 'quiet.py'
    tool.write_text('def main(argv=None):\n    print("done")\n    return 4\n')
    assert call(tool, status=4) == 'done\n'
    with pytest.raises(AssertionError, match='done'):
        call(tool)


@pytest.mark.parametrize('tool', [
    path.relative_to(TOOLS).as_posix() for path in sorted(TOOLS.rglob('*.py'))
    if "__name__ == '__main__'" in path.read_text('utf-8')])
def test_a_tool_can_be_called_as_it_is_run(tool):
    """``main(argv)``, whose status ends the process."""
    text = (TOOLS / tool).read_text('utf-8')
    main, = (node for node in ast.parse(text).body
             if isinstance(node, ast.FunctionDef) and node.name == 'main')
    assert [word.arg for word in main.args.args] == ['argv']
    assert [ast.unparse(value) for value in main.args.defaults] == ['None']
    end = text.rpartition("if __name__ == '__main__':\n    ")[2].strip()
    # The demo has an output of its own, the doctor may have no package.
    assert end == {'demo.py': 'main()', 'misc/doctor.py': DOCTOR_END}.get(
        tool, 'run_tool(main)')


ENDINGS = '''
import signal, sys, time
from mmmedmask.util.run_tool import run_tool

def main():
    late = sys.stdin.read()
    try:
        {body}
    except OSError as error:
        raise SystemExit(f'tool.py: {{error}}') from None
    if late:
        raise late

run_tool(main)
'''
MUCH = 'print("word " * 99_999, flush=True)'
DOCTOR_END = '''
    ending = load_alone('util/run_tool.py')
    ending.run_tool(main) if ending else main()
'''.strip()


@pytest.mark.parametrize(('body', 'status', 'said'), [
    (MUCH, 141, ''), ('print("word")', 141, ''),
    ('sys.stdout.reconfigure(write_through=True); print("word")', 141, ''),
    ('print("word"); sys.exit(0)', 141, ''),
    ('sys.exit("bad")', 1, 'bad\n'),
    ('late = OSError(28, "No space left on device")', 1,
     'tool.py: [Errno 28] No space left on device\n'),
    ('open("no/file")', 1, "tool.py: [Errno 2] No such file or directory: "
     "'no/file'\n"),
    ('signal.raise_signal(signal.SIGINT)', -2, '\ntool.py: stopped\n')])
def test_tools_end_as_other_programs_do(tmp_path, body, status, said):
    """A reader that goes away, Ctrl-C, a full disk leave no traceback."""
    tool = tmp_path / 'tool.py'
    tool.write_text(ENDINGS.format(body=body))
    with subprocess.Popen(
            [sys.executable, tool], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True) as process:
        process.stdout.close()
        process.stdin.close()
        process.stdin = process.stdout = None
        assert process.communicate(timeout=60)[1] == said
    assert process.returncode == status


def test_a_closed_output_is_no_error(tmp_path):
    tool = tmp_path / 'tool.py'
    tool.write_text(ENDINGS.format(body='print("word")'))
    done = subprocess.run(f'{sys.executable} {tool} >&-', shell=True, input='',
                          text=True, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, '')


def test_a_pipe_that_is_not_the_output_is_an_error(tmp_path):
    tool = tmp_path / 'tool.py'
    tool.write_text(ENDINGS.format(body='raise BrokenPipeError("worker")'))
    done = subprocess.run([sys.executable, tool], input='', text=True,
                          capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith('BrokenPipeError: worker\n')


@pytest.mark.parametrize(('tool', 'file', 'arguments'), [
    ('probe.py', 'a.csv', '--encoder resnet18 --arm a b.pth --data link.csv '
     '--out a.csv'),
    ('probe.py', 'a.csv', '--encoder resnet18 --arm a link.csv --data tiles '
     '--out a.csv'),
    ('test.py', 'a.pkl', 'config.py link.pkl --out a.pkl'),
    ('misc/check_config.py', 'a.py', 'link.py --json a.py'),
    ('model_converters/convert_mae_checkpoint.py', 'a.pth',
     'link.pth a.pth --force'),
    ('model_converters/export_backbone.py', 'a.pth', 'link.pth a.pth --force'),
    ('visualizations/visualize_attention.py', 'a.png',
     'config.py b.pth --images link.png --out a.png'),
    ('visualizations/visualize_tiles.py', 'out/a.png',
     'config.py none out --out out/../out/a.png'),
    ('analysis_tools/plot_probe_curves.py', 'out/probe.csv',
     'out --recipe a --probes b --out out/probe.png'),
    ('wsi/tiles_to_bags.py', 'out/cohort.csv',
     'tiles --groups link.csv --out out')])
def test_no_tool_writes_over_what_it_reads(tmp_path, tool, file, arguments):
    file = tmp_path / file
    file.parent.mkdir(exist_ok=True)
    file.write_text('here')
    (tmp_path / f'link{file.suffix}').symlink_to(file)
    printed = call(tool, *arguments.split(), cwd=tmp_path, status=1)
    assert 'which is read: name another file' in printed
    assert file.read_text() == 'here'
