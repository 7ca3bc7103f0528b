"""train.py, test.py, print_config.py and the launchers."""

import itertools
import json
import os
import pickle
import signal
import sys
from pathlib import Path

import pytest
import torch
from commands import TOOLS, call, run
from model_checks import tensors_of
from processes import run_forked
from shipped_configs import write_shrunk
from torch.optim.optimizer import register_optimizer_step_pre_hook

from mmmedmask.engine.checkpoint import read_checkpoint

SCRIPTS = ('dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh')


def read_log(work_dir):
    """Return the rows of all scalar logs below a work dir, in order."""
    files = sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
    return [json.loads(line) for file in files
            for line in file.read_text().splitlines()]


@pytest.mark.slow
def test_train_then_resume(tiny_classification, tmp_path):
    work_dir = tmp_path / 'work dir'
    command = ('train.py', tiny_classification, '--work-dir', work_dir,
               '--resume', 'auto')
    # Both spellings of the rank: PyTorch's launchers use one or the other.
    call(*command, '--local_rank=0', '--auto-scale-lr', '--cfg-options',
         'train_cfg.max_epochs=1')
    rows = read_log(work_dir)
    training = [row for row in rows if 'loss' in row]
    assert [row['step'] for row in training] == [1, 2]
    # The config's rate, 0.01, is meant for 8 samples per step; here are 4.
    assert training[0]['lr'] == pytest.approx(0.005)
    assert 'accuracy/top1' in rows[-1]
    assert (work_dir / 'epoch_1.pth').is_file()
    # The same command goes on where the first stopped.
    output = call(*command, '--local-rank=0', '--no-validate')
    assert f'Load checkpoint from {work_dir / "epoch_1.pth"}' in output
    rows = read_log(work_dir)
    assert [row['step'] for row in rows if 'loss' in row] == [1, 2, 3, 4]
    assert sum('accuracy/top1' in row for row in rows) == 1
    assert (work_dir / 'epoch_2.pth').is_file()


def test_a_killed_run_goes_on_as_if_nothing_was(tiny_classification, tmp_path):
    """Killed in the second of two epochs; the same command takes it up."""
    def command(name):
        return ('train.py', tiny_classification, '--work-dir',
                tmp_path / name, '--resume', 'auto', '--cfg-options',
                'randomness.seed=1')

    def killed():
        steps = itertools.count()
        register_optimizer_step_pre_hook(
            lambda *_: os.kill(os.getpid(), signal.SIGKILL)
            if next(steps) == 3 else None)
        call(*command('killed'))

    assert run_forked(killed) == [-signal.SIGKILL]
    assert not (tmp_path / 'killed/epoch_2.pth').exists()
    assert 'epoch_1.pth' in call(*command('killed'))
    call(*command('whole'))
    ours, theirs = (dict(tensors_of(read_checkpoint(
        tmp_path / name / 'epoch_2.pth'))) for name in ('killed', 'whole'))
    assert ours.keys() == theirs.keys()
    assert [key for key, value in theirs.items()
            if not torch.equal(ours[key], value)] == []


@pytest.mark.slow
def test_two_processes_train_on_cpu(tiny_classification, tmp_path):
    output = run(TOOLS / 'dist_train.sh', tiny_classification, 2,
                 '--work-dir', tmp_path, '--cfg-options',
                 'train_cfg.max_epochs=1', CUDA_VISIBLE_DEVICES='')
    assert '2 processes train on CPU with gloo' in output
    # 8 images, 4 per process and step: one step of both.
    rows = read_log(tmp_path)
    assert [row['step'] for row in rows if 'loss' in row] == [1]
    assert rows[-1]['accuracy/top1'] >= 0
    assert (tmp_path / 'epoch_1.pth').is_file()


#: On GPUs the other rank would wait in a collective: nothing wakes it there.
FAILING_HOOK = """
import time
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class FailingHook(Hook):
    def before_train(self, runner):
        runner.model.module.head.register_forward_pre_hook(self.fail)

    def fail(self, module, inputs):
        if get_rank() == 0:
            time.sleep(10000)
        raise ZeroDivisionError('in the forward pass of rank 1')
"""


@pytest.mark.slow
def test_an_error_of_one_process_ends_all(tiny_classification, tmp_path):
    (tmp_path / 'failing.py').write_text(FAILING_HOOK)
    config = tmp_path / 'config.py'
    config.write_text(f'_base_ = {str(tiny_classification)!r}\n'
                      "custom_imports = dict(imports='failing')\n"
                      "custom_hooks = [dict(type='FailingHook')]\n")
    path = f'{tmp_path}{os.pathsep}{os.environ.get("PYTHONPATH", "")}'
    output = run(TOOLS / 'dist_train.sh', config, 2, '--work-dir',
                 tmp_path / 'run', PYTHONPATH=path, CUDA_VISIBLE_DEVICES='',
                 status=1)
    assert 'ZeroDivisionError: in the forward pass of rank 1' in output


@pytest.mark.slow
def test_mmdet_config_trains_and_tests(tmp_path):
    config, _ = write_shrunk(
        'mask-rcnn_cmim-resnet18-fpn_8xb2-1x_glas', tmp_path)
    work_dir = tmp_path / 'run'
    call('train.py', config, '--work-dir', work_dir, '--no-validate')
    assert [row for row in read_log(work_dir) if 'loss_mask' in row]
    out, pictures = work_dir / 'out.pkl', work_dir / 'pictures'
    output = run(sys.executable, TOOLS / 'test.py', config,
                 work_dir / 'iter_2.pth', '--work-dir', work_dir / 'test',
                 '--out', out, '--show-dir', pictures, '--cfg-options',
                 'model.test_cfg.rcnn.score_thr=0.', 'log_level=INFO',
                 'model.test_cfg.rcnn.max_per_img=9')
    assert 'coco/segm_mAP' in output
    assert 'OneDL' not in output
    predictions = pickle.loads(out.read_bytes())
    assert [p['img_id'] for p in predictions] == [1, 2, 3, 4]
    # Run-length encoded, not a stack of full masks.
    mask = predictions[0]['pred_instances']['masks'][0]
    assert mask['size'] == list(predictions[0]['ori_shape'])
    assert len(list(pictures.iterdir())) == 4


@pytest.mark.parametrize('tool', ['train.py', 'test.py'])
def test_help_never_mentions_gpus(tool):
    # mim would take it for an option and append one of its own.
    output = call(tool, '--help')
    assert '--gpus' not in output
    assert '--local-rank' in output
    assert '--local_rank' in output


@pytest.mark.parametrize(('tool', 'rest'), [('train.py', ()),
                                            ('test.py', ('weights.pth', )),
                                            ('misc/print_config.py', ())])
def test_unknown_config_is_a_clear_error(tool, rest):
    output = call(tool, 'absent/config.py', *rest, status=1)
    assert "config 'absent/config.py' does not exist" in output
    assert 'Traceback' not in output


UNREADABLE = "config 'c.py', or a base of it, cannot be read: "


@pytest.mark.parametrize(('tool', 'rest', 'text', 'message'), [
    ('train.py', '', "_base_ = './no.py'", f'{UNREADABLE}[Errno 2] No such'),
    ('test.py', 'w.pth', 'a = (', f"{UNREADABLE}'(' was never closed"),
    ('misc/print_config.py', '', 'a = "\xe9"', f"{UNREADABLE}'utf-8' codec"),
    ('train.py', '', 'a = b', f"{UNREADABLE}NameError: name 'b'"),
    ('test.py', 'w.pth', 'import os\na = os.environ["NONE"]',
     f"{UNREADABLE}KeyError: 'NONE'"),
    ('train.py', '', "custom_imports = dict(imports=['no_module'])",
     "config 'c.py': custom_imports ['no_module'] cannot be imported: No "
     "module named 'no_module'. Set PYTHONPATH"),
    ('cross_validate.py', '--folds a', 'a = (', f"{UNREADABLE}'(' was never"),
    ('train.py', '', 'model = dict()',
     'c.py lacks train_dataloader, train_cfg, optim_wrapper'),
    ('visualizations/visualize_attention.py', 'w.pth --out a.png', '',
     'c.py lacks model'),
    ('visualizations/visualize_reconstruction.py', 'w.pth --out a.png', '',
     'c.py lacks model'),
    ('visualizations/browse_dataset.py', '--out a', '', 'c.py lacks model'),
    ('analysis_tools/cluster_genes.py', '--out a.gmt', '',
     'c.py lacks train_dataloader')])
def test_a_config_that_cannot_be_used_is_a_clear_error(
        tmp_path, tool, rest, text, message):
    (tmp_path / 'c.py').write_text(text, 'latin-1')
    output = call(tool, 'c.py', *rest.split(), status=1, cwd=tmp_path)
    assert message in output
    assert 'Traceback' not in output


def test_print_config_shows_inherited_and_overridden(tmp_path):
    config = tmp_path / 'child.py'
    config.write_text("_base_ = 'mmpretrain::_base_/models/resnet18.py'\n")
    output = call('misc/print_config.py', config, '--cfg-options',
                  'model.head.num_classes=7')
    assert "type='GlobalAveragePooling'" in output
    assert 'num_classes=7' in output


@pytest.mark.parametrize('script', SCRIPTS)
def test_shell_scripts_are_strict_and_say_how_to_use_them(script):
    run('bash', '-n', TOOLS / script)
    assert '\nset -euo pipefail\n' in (TOOLS / script).read_text()
    assert os.access(TOOLS / script, os.X_OK)
    for arguments in ((), ('one', )):
        output = run(TOOLS / script, *arguments, status=2)
        assert f'usage: {script}' in output


@pytest.fixture
def recorder(tmp_path):
    """An environment in which a command prints its arguments, a line each."""

    def record(name):
        file = tmp_path / name
        file.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
        file.chmod(0o755)
        return dict(PATH=f'{tmp_path}:{os.environ["PATH"]}')

    return record


@pytest.mark.parametrize(('script', 'arguments'), [
    ('dist_train.sh', ('a config.py', '3')),
    ('dist_test.sh', ('a config.py', 'a checkpoint.pth', '3'))])
def test_dist_scripts_pass_everything_on(recorder, script, arguments):
    environment = recorder('torchrun')
    tool = str(TOOLS / script.removeprefix('dist_').replace('.sh', '.py'))
    rest = ['--cfg-options', 'a="[1, 2]"', 'b=c d']
    lines = run(TOOLS / script, *arguments, *rest, **environment).splitlines()
    assert lines == ['--standalone', '--nproc-per-node=3', tool,
                     *arguments[:-1], '--launcher', 'pytorch', *rest]
    lines = run(TOOLS / script, *arguments, **environment, NNODES='2',
                NODE_RANK='1', MASTER_ADDR='machine0', PORT='123').splitlines()
    assert lines[:5] == [
        '--nnodes=2', '--node-rank=1', '--master-addr=machine0',
        '--master-port=123', '--nproc-per-node=3']
    output = run(
        TOOLS / script, *arguments, **environment, NNODES='2', status=2)
    assert 'NNODES=2 needs MASTER_ADDR' in output


@pytest.mark.parametrize('gpus', ['0', '-1', 'two', '1.5'])
def test_dist_train_wants_a_number_of_processes(recorder, gpus):
    output = run(TOOLS / 'dist_train.sh', 'config.py', gpus,
                 **recorder('torchrun'), status=2)
    assert 'usage: dist_train.sh CONFIG GPUS' in output


@pytest.mark.parametrize(('script', 'given', 'passed'), [
    ('slurm_train.sh', 'a work dir', ['--work-dir', 'a work dir']),
    ('slurm_test.sh', 'a checkpoint.pth', ['a checkpoint.pth'])])
def test_slurm_scripts_pass_everything_on(recorder, script, given, passed):
    tool = str(TOOLS / script.removeprefix('slurm_').replace('.sh', '.py'))
    lines = run(TOOLS / script, 'gpu', 'my job', 'a config.py', given,
                '--cfg-options', 'a=b c', **recorder('srun'), GPUS='4',
                SRUN_ARGS='--time=1:00 --qos=low').splitlines()
    assert lines == [
        '--partition=gpu', '--job-name=my job', '--gres=gpu:4', '--ntasks=4',
        '--ntasks-per-node=4', '--cpus-per-task=5', '--kill-on-bad-exit=1',
        '--time=1:00', '--qos=low', 'python', '-u', tool, 'a config.py',
        *passed, '--launcher', 'slurm', '--cfg-options', 'a=b c']
