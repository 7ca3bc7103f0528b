"""The arguments that tools share."""

import argparse
import os

import pytest
from commands import call

from mmmedmask.util import command_line


@pytest.fixture
def parser():
    parser = argparse.ArgumentParser(prog='tool')
    command_line.add_config_options(parser)
    return parser


def test_config_options_are_read_as_mmengine_reads_them(parser):
    assert parser.parse_args([]).cfg_options is None
    args = parser.parse_args([
        '--cfg-options', 'a.b=2', 'c=[1,2.5]', 'd=(x,y)', 'e=True', 'f=None',
        'g=a=b', 'h=', '--cfg-options', 'a.b=3', 'i=text',
        'j=/my data/set 1', 'k=[ 1, my data ]', 'l=(a b, c)',
        'm=/a  b = c (1 of /d e', 'n=[a  b ,c ]'])
    assert args.cfg_options == {
        'a.b': 3, 'c': [1, 2.5], 'd': ('x', 'y'), 'e': True, 'f': None,
        'g': 'a=b', 'h': '', 'i': 'text', 'j': '/my data/set 1',
        'k': [1, 'my data'], 'l': ('a b', 'c'),
        'm': '/a  b = c (1 of /d e', 'n': ['a  b', 'c']}


@pytest.mark.parametrize(('wrong', 'reason'), [
    ('epochs', "'epochs' is not KEY=VALUE"), ('=3', "'=3' is not KEY=VALUE"),
    ('a=(b c,d', 'Imbalanced brackets exist in (b c,d')])
def test_config_options_that_cannot_be_read_are_an_error(
        parser, capsys, wrong, reason):
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(['--cfg-options', 'a=1', wrong])
    assert caught.value.code == 2
    assert (f'tool: error: argument --cfg-options: {reason}'
            in capsys.readouterr().err)


@pytest.mark.parametrize('tool', [
    'visualizations/visualize_attention.py',
    'visualizations/visualize_tiles.py', 'analysis_tools/exchange_patches.py',
    'analysis_tools/benchmark_msmae.py', 'probe.py'])
def test_a_device_that_is_not_there_is_named(tool, monkeypatch):
    def refuse(*size, device):
        raise AssertionError('Torch not compiled with CUDA enabled')

    monkeypatch.setattr('torch.empty', refuse)
    printed = call(tool, '--device', 'cuda:0', status=2)
    assert ("error: argument --device: there is no device 'cuda:0': Torch not "
            'compiled with CUDA' in printed)
    assert 'Traceback' not in printed
    with pytest.raises(ValueError, match='cuda:0'):
        command_line.check_device('cuda:0')
    assert command_line.check_device('cpu') == 'cpu'


@pytest.mark.parametrize(('tool', 'option'), [
    ('probe.py', '--out'), ('test.py', '--out'),
    ('misc/check_config.py', '--json'),
    ('analysis_tools/benchmark_cmim.py', '--json'),
    ('analysis_tools/exchange_patches.py', '--out'),
    ('analysis_tools/gene_baselines.py', '--out'),
    ('analysis_tools/estimate_runs.py', '--out'), ('train.py', '--work-dir'),
    ('test.py', '--work-dir'), ('test.py', '--show-dir'),
    ('visualizations/browse_dataset.py', '--out')])
def test_outputs_that_cannot_be_written_are_refused_at_once(
        tool, option, tmp_path, monkeypatch):
    file, folder = tmp_path / 'file', tmp_path / 'a.png'
    file.touch()
    folder.mkdir()
    wrong = {file / 'b.png': f'{file} is no folder'}
    if option == '--json' or tool in (
            'probe.py', 'analysis_tools/exchange_patches.py'):
        wrong[folder] = f'{str(folder)!r} is a folder: name a file'
    if option == '--json':
        wrong[''] = 'must be the name of a file, got an empty text'
    for path, message in wrong.items():
        assert f'argument {option}: {message}' in call(
            tool, option, path, status=2)
    monkeypatch.setattr(os, 'access', lambda path, mode: False)
    assert f'{tmp_path} cannot be written to' in call(
        tool, option, tmp_path / 'new/b.png', status=2)


@pytest.mark.parametrize(('known', 'rank'), [({'LOCAL_RANK': '1'}, '1'),
                                             ({}, '3')])
def test_the_local_rank_of_the_environment_wins(
        parser, monkeypatch, known, rank):
    monkeypatch.setattr(os, 'environ', known)
    args = command_line.parse_launched(
        parser, ['--local-rank=3', '--launcher', 'slurm'])
    assert known['LOCAL_RANK'] == rank
    assert args.launcher == 'slurm'


def test_two_steps_of_slurm_meet_at_different_ports(monkeypatch):
    def port_of(launcher='slurm', **environment):
        monkeypatch.setattr(os, 'environ', environment)
        command_line.parse_launched(argparse.ArgumentParser(),
                                    ['--launcher', launcher])
        return environment.get('MASTER_PORT')

    steps = [dict(SLURM_JOB_ID=str(job), SLURM_STEP_ID=str(step))
             for job in range(99_900, 100_300) for step in range(3)]
    ports = [port_of(**step) for step in steps]
    assert len(set(ports)) == len(steps)
    assert all(10_000 <= int(port) < 30_000 for port in ports)
    # All processes of a step have one, and a user's own counts.
    assert port_of(**steps[0], SLURM_PROCID='7') == ports[0]
    assert port_of(**steps[0], MASTER_PORT='123') == '123'
    # A script of sbatch is no step; of other launchers a job has none.
    assert port_of(SLURM_JOB_ID='99900') == ports[0]
    assert port_of('pytorch', **steps[0]) is None
    assert port_of() is None
