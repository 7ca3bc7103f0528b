"""Run a tool or a command as a user would, and see how it ended.

``call`` runs a tool's ``main`` in the process of the test, which has
imported PyTorch and OpenMMLab already; ``run`` starts a process. A tool
needs one test with ``run``; all others take ``call``.
"""

import contextlib
import importlib.util
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

from processes import run_forked

TOOLS = Path(__file__).resolve().parents[1] / 'tools'
# They write to whatever 1 and 2 are at the moment and stay open, because a
# library that is imported during a call may keep them.
_STDOUT, _STDERR = (
    open(number, 'w', buffering=1, encoding='utf-8', errors='replace',
         closefd=False) for number in (1, 2))


def load(tool):
    """Import a tool, a file below ``tools/`` or any, with its folder."""
    path = TOOLS / tool
    name = f'tool_{path.stem}'
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    # Dataclasses and pickle look for the module by its name.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def call(tool, *arguments, status=0, cwd=None, fork=False, **environment):
    """Run a tool's ``main`` in this process; return what it printed.

    The tool, a file below ``tools/`` or any, has to end with ``status``. The
    process is afterwards what it was before: folder, variables, streams,
    logging, random state, threads, and MMEngine's global objects; with
    ``fork`` a copy runs, which signal N may end: status -N. Variables of the
    ``environment`` that libraries read when imported come too late.
    """
    words = [str(word) for word in arguments]

    def main():
        return _status_of(lambda: load(tool).main(words))

    with _same_process(), tempfile.TemporaryFile() as output:
        os.environ.update(environment)
        sys.argv[:] = [str(TOOLS / tool), *words]
        if cwd is not None:
            os.chdir(cwd)
        with _streams_into(output.fileno()):
            ended = run_forked(main)[0] if fork else main()
        output.seek(0)
        printed = output.read().decode('utf-8', 'replace')
    assert ended == status, printed
    return printed


def _status_of(function):
    """Call a function as Python does with a script: its exit status."""
    try:
        return function() or 0
    except SystemExit as error:
        if isinstance(error.code, int | None):
            return error.code or 0
        print(error.code, file=sys.stderr)
    except Exception:
        traceback.print_exc()
    return 1


@contextlib.contextmanager
def _streams_into(target):
    """Lead both streams into a file: Python's, compiled code's, children's."""
    streams = sys.stdout, sys.stderr
    for stream in streams:
        stream.flush()
    kept = [os.dup(number) for number in (1, 2)]
    os.dup2(target, 1)
    os.dup2(target, 2)
    sys.stdout, sys.stderr = _STDOUT, _STDERR
    try:
        with warnings.catch_warnings():
            # pytest collects warnings; a process prints them, but for those
            # that Python leaves out.
            warnings.resetwarnings()
            for left_out in (DeprecationWarning, PendingDeprecationWarning,
                             ImportWarning, ResourceWarning):
                warnings.simplefilter('ignore', left_out)
            warnings.showwarning = lambda *parts: sys.stderr.write(
                warnings.formatwarning(*parts[:4]))
            yield
    finally:
        for stream in (_STDOUT, _STDERR, sys.stdout, sys.stderr):
            with contextlib.suppress(ValueError, OSError):
                stream.flush()
        sys.stdout, sys.stderr = streams
        for number, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, number)
            os.close(copy)


def _managed_classes(base=None):
    """All classes whose instances MMEngine keeps by name."""
    if base is None:
        from mmengine.utils import ManagerMixin as base  # noqa: N813
    for child in base.__subclasses__():
        yield child
        yield from _managed_classes(child)


def forget_mmengine_state(loggers):
    """Forget MMEngine's global objects: scopes, visualizers, maybe loggers."""
    if 'mmengine.utils.manager' not in sys.modules:
        return
    for managed in _managed_classes():
        if issubclass(managed, logging.Logger):
            if not loggers:
                continue
            for logger in managed._instance_dict.values():
                for handler in logger.handlers:
                    if isinstance(handler, logging.FileHandler):
                        handler.close()
        managed._instance_dict.clear()


@contextlib.contextmanager
def _same_process():
    """Undo what a tool does to the process that it runs in."""
    import numpy as np
    import torch
    from torch import multiprocessing
    folder, environment = os.getcwd(), dict(os.environ)
    words, path = list(sys.argv), list(sys.path)
    hook = sys.excepthook
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    signals = {number: signal.getsignal(number)
               for number in (signal.SIGINT, signal.SIGTERM)}
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    start_method = multiprocessing.get_start_method(allow_none=True)
    settings = [(torch.set_num_threads, torch.get_num_threads()),
                (torch.set_default_dtype, torch.get_default_dtype()),
                (torch.set_grad_enabled, torch.is_grad_enabled()),
                (torch.set_float32_matmul_precision,
                 torch.get_float32_matmul_precision())]
    exact = (torch.are_deterministic_algorithms_enabled(),
             torch.is_deterministic_algorithms_warn_only_enabled())
    cudnn = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    grouped = torch.distributed.is_initialized()
    managed = {}
    if 'mmengine.utils.manager' in sys.modules:
        managed = {one: dict(one._instance_dict) for one in _managed_classes()}
        for one in managed:
            one._instance_dict.clear()
    try:
        yield
    finally:
        if torch.distributed.is_initialized() and not grouped:
            torch.distributed.destroy_process_group()
        if 'matplotlib.pyplot' in sys.modules:
            sys.modules['matplotlib.pyplot'].close('all')
        forget_mmengine_state(loggers=True)
        for one, instances in managed.items():
            one._instance_dict.update(instances)
        for put_back, value in settings:
            put_back(value)
        torch.use_deterministic_algorithms(exact[0], warn_only=exact[1])
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = \
            cudnn
        multiprocessing.set_start_method(start_method, force=True)
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        for number, handler in signals.items():
            signal.signal(number, handler)
        root.handlers[:] = handlers
        root.setLevel(level)
        sys.excepthook = hook
        sys.argv[:], sys.path[:] = words, path
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)


def run(*command, status=0, cwd=None, **environment):
    """Run a command, which has to end with a status; return what it printed.

    The programs beside this Python come first on the ``PATH``.
    """
    path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
    process = subprocess.Popen([str(part) for part in command],
                               stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, cwd=cwd,
                               env={**os.environ, 'PATH': path, **environment},
                               start_new_session=True)
    try:
        output = process.communicate()[0]
    except BaseException:
        # A test that runs out of time must not leave its processes behind,
        # nor those that they started.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    assert process.returncode == status, output
    return output


def write_sbatch(folder):
    """Write a command that stands for a cluster's, and return its options.

    It starts the script that it is given, and says a number. What it was
    called with is in ``folder / 'submitted'``.
    """
    command = folder / 'bin' / 'sbatch'
    command.parent.mkdir()
    command.write_text(f'''#!/bin/sh
echo "$@" >> {folder}/submitted
setsid sh "$2" > {folder}/job_$$.log 2>&1 &
echo $$
''')
    command.chmod(0o755)
    return ['--cluster-generic-submit-cmd',
            f'{command} --gpus={{resources.gpus}}',
            '--seconds-between-status-checks', '0']
