"""Snakemake runs a plan, here and on a cluster, and survives kills.

Engines are processes that are forked from this one, which has imported
Snakemake; jobs and their tools are real processes.
"""

import contextlib
import importlib.metadata
import json
import multiprocessing
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest
from commands import call, run, write_sbatch
from pages import open_page

from mmmedmask.experiments import engine, execute, extraction, run_job
from mmmedmask.experiments.engine import (
    EngineBusyError,
    EngineMissingError,
    require_snakemake,
    reserve_gpus,
    run_snakemake,
    visible_gpus,
)
from mmmedmask.experiments.environment import gpu_names
from mmmedmask.experiments.execute import (
    execute_plan,
    find_failures,
    write_plan,
    write_report,
)
from mmmedmask.experiments.manifest import read_manifest, read_quietly

pytest.importorskip('snakemake.cli')
FORK = multiprocessing.get_context('fork')


def start(place, plan, **options):
    """Start an engine as a process."""
    process = FORK.Process(target=lambda: sys.exit(
        execute_plan(plan, place.tools, **options)))
    process.start()
    return process


def wait_for(condition, process, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'waited in vain'
        assert process.is_alive(), 'the engine has ended'
        time.sleep(.005)


def test_jobs_at_a_time_stay_within_the_limits(tmp_path):
    # Snakemake 9.10 to 9.16 forgot what a job had taken that was ready alone.
    rules = tmp_path / 'Snakefile'
    rules.write_text('''
rule all:
    input: "left", "right"
rule alone:
    output: "alone"
    resources: gpus=1
    shell: "touch {output}"
rule either:
    input: "alone"
    output: "{side}"
    wildcard_constraints: side="left|right"
    resources: gpus=1
    # Fails where another one runs.
    shell: "mkdir running && sleep .2 && rmdir running && touch {output}"
''')
    limits = {'cores': dict(cores=1), 'GPUs': dict(
        cores=2, resources=dict(gpus=1))}
    for name, limit in limits.items():
        assert run_snakemake(rules, tmp_path / name, **limit) == 0, name


THREE_GPUS = """GPU 0: H200 (UUID: GPU-8f1)
GPU 1: H200 (UUID: GPU-901)
  MIG 1g.18gb     Device  0: (UUID: MIG-5d2)
GPU 2: H200 (UUID: GPU-a01)"""


@pytest.fixture
def list_gpus(tmp_path, monkeypatch):
    """A driver that lists GPUs, in the place of this machine's."""

    def listing(text):
        program = tmp_path / 'nvidia-smi'
        program.write_text(f'#!/bin/sh\ncat <<END\n{text}\nEND\nexit 15\n')
        program.chmod(0o755)
        monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')

    return listing


@pytest.mark.parametrize(('listed', 'names'), [
    ('GPU 0: H200 (UUID: GPU-1)\nGPU 1: A 100 (UUID: GPU-2)\n'
     'Unable to determine the device handle', ['H200', 'A 100']),
    ('No devices were found', [])])
def test_gpus_that_work_are_counted(listed, names, list_gpus, monkeypatch):
    # It ends with an error where one GPU of several is lost.
    list_gpus(listed)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    assert gpu_names() == names
    numbers = [str(number) for number in range(len(names))]
    assert visible_gpus() == numbers
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0,1,2,7')
    assert visible_gpus() == numbers


def test_a_snakemake_that_forgets_limits_is_refused(monkeypatch):
    for version, refused in (('9.15.0', True), ('9.9.0', False),
                             ('9.27.1', False), ('10.1', False)):
        monkeypatch.setattr(importlib.metadata, 'version',
                            lambda name, version=version: version)
        with pytest.raises(EngineMissingError, match='9.15.0 starts more') \
                if refused else contextlib.nullcontext():
            require_snakemake()


def test_runs_go_side_by_side_and_once(place, undisturbed, monkeypatch):
    plan = place.plan((0, 1), ('ours', 'scratch'))
    before = len(place.tools_called())
    monkeypatch.setenv('TINY_SLEEP', '.3')
    process = start(place, plan, cores=2)

    def running():
        return [one for one in plan.runs if (read_quietly(one) or {}).get(
            'status') == 'running']

    wait_for(lambda: len(running()) == 2, process)
    # What starts from another run does not begin before that is done.
    assert plan.runs[1] not in running()
    monkeypatch.setenv('TINY_SLEEP', '0')
    process.join()
    assert process.exitcode == 0
    assert find_failures(plan) == {}
    assert sorted(place.tools_called()[before:]) == sorted([
        'train.py', 'export_backbone.py', 'train.py', 'test.py', 'train.py',
        'test.py'] * 2)
    assert place.results(plan)[:2] == undisturbed[0]
    # Nothing is done again, and more seeds are added.
    assert execute_plan(place.plan((0, ), ('ours', )), place.tools) == 0
    assert len(place.tools_called()) == before + 12


def test_a_failure_does_not_stop_the_others(place, monkeypatch, capfd):
    monkeypatch.setenv('TINY_FAIL', 'tiny_pretrain')
    plan = place.plan((0, ), ('ours', 'scratch'))
    assert execute_plan(plan, place.tools) == 1
    assert [one.name for one in find_failures(plan)] == [
        'tiny_pretrain', 'tiny_downstream']
    assert read_manifest(plan.runs[2].folder)['status'] == 'done'
    output = capfd.readouterr().err
    assert 'CUDA error: the cat is on the keyboard' in output
    monkeypatch.delenv('TINY_FAIL')
    assert execute_plan(plan, place.tools) == 0
    assert find_failures(plan) == {}


def children(pid):
    """Process ids of a process and of all that it has started."""
    parents = {}
    for folder in Path('/proc').glob('[0-9]*'):
        with contextlib.suppress(OSError):
            fields = (folder / 'stat').read_text().rpartition(')')[2].split()
            parents[int(folder.name)] = int(fields[1])
    pids = [pid]
    for one in pids:
        pids += [child for child, parent in parents.items() if parent == one]
    return pids


def job_of(plan, process):
    """The process of the job that runs, and those of its commands."""
    for pid in children(process.pid)[1:]:
        with contextlib.suppress(OSError):
            words = Path(f'/proc/{pid}/cmdline').read_bytes().split(b'\0')
            if b'mmmedmask.experiments.run_job' in words:
                return children(pid)
    return []


# The number of a run, and a file in its folder.
MOMENTS = {'first epoch': (0, 'train.log'), 'second epoch': (0, 'epoch_1.pth'),
           'export': (0, 'export.log'), 'downstream': (1, 'epoch_1.pth'),
           'test': (1, 'test.log')}
VICTIMS = ('engine', 'job', 'job and command', 'all')
# The others take a minute.
USUAL = {('engine', 'first epoch'), ('engine', 'test'),
         ('job', 'second epoch'), ('job and command', 'downstream'),
         ('all', 'second epoch'), ('all', 'export'), ('all', 'test')}


@pytest.mark.parametrize(('victim', 'moment'), [
    pytest.param(victim, moment, marks=[] if (victim, moment) in USUAL
                 else pytest.mark.slow_recipes)
    for victim in VICTIMS for moment in MOMENTS])
def test_a_kill_at_any_step_changes_nothing(place, undisturbed, victim,
                                            moment, monkeypatch):
    results, table = undisturbed
    before = len(place.tools_called())
    plan = place.plan()
    monkeypatch.setenv('TINY_SLEEP', '.2')
    process = start(place, plan)
    number, file = MOMENTS[moment]
    wait_for((plan.runs[number].folder / file).is_file, process)
    job = job_of(plan, process)
    victims = {'engine': [process.pid], 'job': job[:1],
               'job and command': job, 'all': [process.pid, *job]}[victim]
    assert victims
    for pid in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.join()
    # A command that goes on is waited for, and never started twice.
    monkeypatch.setenv('TINY_SLEEP', '0')
    assert execute_plan(plan, place.tools) == 0
    assert find_failures(plan) == {}
    assert place.results(plan) == results
    assert place.table(plan) == table
    called = place.tools_called()[before:]
    assert called.count('train.py') in (2, 3)
    assert called.count('test.py') in (1, 2)
    if victim == 'all' and moment == 'second epoch':
        step = read_manifest(plan.runs[0].folder)['steps']['train']
        assert step['tries'] == 2
        assert b'epoch_0' not in b''.join(
            path.read_bytes() for path in plan.runs[0].folder.glob('*.log'))


def test_ctrl_c_stops_engine_and_jobs(place, monkeypatch):
    monkeypatch.setenv('TINY_SLEEP', '30')
    plan = place.plan()

    def interrupted():
        os.setpgrp()
        sys.exit(execute_plan(plan, place.tools))

    process = FORK.Process(target=interrupted)
    process.start()
    wait_for(lambda: place.tools_called(), process)
    job = job_of(plan, process)
    time.sleep(.1)
    os.killpg(process.pid, signal.SIGINT)
    process.join(20)
    assert process.exitcode == 130
    assert read_manifest(plan.runs[0].folder)['status'] == 'interrupted'
    assert not any(Path(f'/proc/{pid}').exists() for pid in job)


def test_one_engine_at_a_time_works_in_a_folder(place, monkeypatch):
    plan = place.plan()
    # What a killed engine of Snakemake leaves.
    locks = plan.folder / '.snakemake' / 'locks'
    locks.mkdir(parents=True)
    for kind in ('input', 'output'):
        (locks / f'0.{kind}.lock').write_text(f'{plan.runs[0].key}/done.json')
    monkeypatch.setenv('TINY_SLEEP', '.5')
    process = start(place, plan)
    wait_for(place.tools_called, process)
    with pytest.raises(EngineBusyError, match=rf'process {process.pid} on .* '
                       'works in .*runs: wait until it ends, or choose'):
        execute_plan(plan, place.tools)
    process.join()
    assert process.exitcode == 0
    assert find_failures(plan) == {}


def test_a_cluster_runs_the_jobs(place, undisturbed, tmp_path, capfd):
    pytest.importorskip('snakemake_executor_plugin_cluster_generic')
    plan = place.plan((0, ), ('ours', 'scratch'))
    status = execute_plan(
        plan, place.tools, executor='cluster-generic', jobs=2,
        options=write_sbatch(tmp_path))
    assert status == 0, capfd.readouterr().err
    assert find_failures(plan) == {}
    assert place.results(plan)[:2] == undisturbed[0]
    submitted = (tmp_path / 'submitted').read_text().splitlines()
    assert len(submitted) == len(plan.runs)
    assert all(line.startswith('--gpus=1 ') for line in submitted)


@pytest.fixture
def resources_of(capfd, caplog):
    """A function: what the first job of a call would ask for."""

    def dry_run(function, *arguments, **options):
        commands = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine, '_call', lambda command: commands.append(
                command) or 0)
            function(*arguments, **options)
        command, = commands
        if '--executor' in command:
            # Its plugin need not be here.
            command[command.index('--executor') + 1] = 'local'
        end = len(command) - command[::-1].index('--') - 1
        command[end:end] = ['--cores', '64', '--quiet', 'host', '--dry-run']
        caplog.clear()
        assert engine._call(command) == 0
        printed = ''.join([*capfd.readouterr(), caplog.text])
        line = re.search('resources: (.*)', printed)[1]
        threads = re.search(r'threads: (\d+)', printed)
        return dict(text.split('=') for text in line.split(', ')) | dict(
            threads=int(threads[1]) if threads else 1)

    return dry_run


@pytest.mark.parametrize('executor', [None, 'slurm'])
def test_slurm_counts_the_gpus_itself(place, executor, resources_of):
    """Its plugin would ask for ``gpus`` in a step, and not for the job."""
    asked = resources_of(execute_plan, place.plan((0, ), ('scratch', )),
                         place.tools, executor=executor)
    assert ('gpus' in asked) == (executor is None)


@pytest.mark.parametrize(('threads', 'gpus', 'expected'), [
    (1, 1, 1), (3, 1, 3), (1, 2, 2), (3, 2, 3)])
def test_a_run_has_the_threads_it_is_given(place, threads, gpus, expected,
                                           resources_of):
    asked = resources_of(
        execute_plan, place.plan((0, ), ('scratch', ), gpus=gpus),
        place.tools, threads=threads)
    assert asked['threads'] == expected
    on_slurm = resources_of(
        execute_plan, place.plan((0, ), ('scratch', ), gpus=gpus),
        place.tools, executor='slurm', threads=9 * threads)
    assert dict(
        gpu=str(gpus), mem_mb=str(32000 * gpus),
        cpus_per_task=str(max(9 * threads, 8 * gpus))
    ).items() <= on_slurm.items()


def test_plans_of_earlier_versions_name_no_threads(place, resources_of,
                                                   monkeypatch):
    def write(*arguments):
        file = write_plan(*arguments)
        content = json.loads(file.read_text())
        del content['threads']
        file.write_text(json.dumps(content))
        files.append(file)
        return file

    files, asked = [], []
    monkeypatch.setattr(execute, 'write_plan', write)
    plan = place.plan((0, ), ('scratch', ))
    assert resources_of(execute_plan, plan, place.tools)['threads'] == 1
    monkeypatch.setattr(run_job, 'do_run',
                        lambda *_, threads: asked.append(threads))
    monkeypatch.setattr('signal.signal', lambda *_: None)
    assert run_job.main([str(files[0]), plan.runs[0].key]) == 0
    assert asked == [None]


@pytest.mark.parametrize(('threads', 'gpus', 'cores'), [
    (1, 1, 8), (8, 1, 64), (1, 3, 6), (4, 2, 16), (1, 9, 9)])
def test_all_gpus_have_runs(place, list_gpus, threads, gpus, cores,
                            monkeypatch):
    list_gpus('\n'.join(f'GPU {number}: H200' for number in range(8)))
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0,1,2,3,4,5,6,7')
    asked = []
    monkeypatch.setattr(engine, 'run_snakemake',
                        lambda *_, **options: asked.append(options) or 0)
    plan = place.plan((0, ), ('scratch', ), gpus=gpus)
    execute_plan(plan, place.tools, threads=threads)
    assert asked[0]['cores'] == cores
    need = max(threads, gpus)
    execute_plan(plan, place.tools, need, threads=threads)
    with pytest.raises(ValueError, match=f'cores must be at least {need}, '
                       rf'.*threads={threads}, got {need - 1}'):
        execute_plan(plan, place.tools, need - 1, threads=threads)


def test_processes_share_the_threads_of_their_run(place):
    (place.tools / 'dist_train.sh').write_text(f"""
echo $OMP_NUM_THREADS $MKL_NUM_THREADS $OPENBLAS_NUM_THREADS \
  > {place.folder}/threads
exec python {place.tools}/train.py "$1" "${{@:3}}"
""")
    for threads, each in ((5, 2), (1, 1)):
        plan = place.plan((0, ), ('scratch', ), f'runs_{threads}', gpus=2)
        assert execute_plan(plan, place.tools, threads=threads) == 0
        written = (place.folder / 'threads').read_text().split()
        assert written == [str(each)] * 3
        start, = read_manifest(plan.runs[0].folder)['starts']
        assert start['threads'] == threads


@pytest.mark.parametrize('gpus', [1, 2])
def test_the_command_of_the_page_asks_slurm_for_all(place, gpus, resources_of):
    page = Path(__file__).parents[2] / 'docs/how_to/reproduce_a_table.md'
    line, = re.findall('--executor slurm --jobs 20 .*\n +-- (.*)',
                       page.read_text())
    asked = resources_of(
        execute_plan, place.plan((0, ), ('scratch', ), gpus=gpus),
        place.tools, executor='slurm', options=line.split())
    assert dict(
        slurm_partition='gpu', runtime='2880', mem_mb=str(32000 * gpus),
        cpus_per_task=str(8 * gpus), gpu=str(gpus)).items() <= asked.items()


def test_a_job_that_extracts_has_threads_on_one_gpu(tmp_path, resources_of):
    slide = tmp_path / 'a.svs'
    slide.touch()
    page = Path(__file__).parents[2] / 'docs/how_to/from_slides_to_features.md'
    line, = re.findall('--executor slurm --jobs 20 .*\n +-- (.*)',
                       page.read_text())
    for options, memory, minutes in (
            ([], '32000', '1440'), (line.split(), '16000', '240')):
        asked = resources_of(
            run_snakemake, extraction.SNAKEFILE, tmp_path, dict(
                folder='shards', cwd='.', command=['extract'], threads=5,
                gpus=1, inputs={'1': [str(slide)]}),
            executor='slurm', options=options)
        assert dict(cpus_per_task='5', mem_mb=memory, gpu='1',
                    runtime=minutes).items() <= asked.items()


def test_the_profile_for_slurm_is_taken(tmp_path, resources_of):
    rules = tmp_path / 'Snakefile'
    rules.write_text('rule all:\n    output: "a"\n    shell: "touch a"')
    mine = tmp_path / 'mine'
    mine.mkdir()
    (mine / 'config.yaml').write_text('default-resources:\n  gpu: 7\n')
    for options, gpu, runtime in (
            ((), '1', '1440'), (('--default-res', 'gpu=0'), '0', '1440'),
            (('--default-resources=gpu=0', '--default-res', 'runtime=9'),
             '0', '9'),
            ((f'--profile={mine}', ), '7', None)):
        asked = resources_of(run_snakemake, rules, tmp_path,
                             executor='slurm', jobs=20, options=options)
        assert (asked['gpu'], asked.get('runtime')) == (gpu, runtime), options


def test_a_command_says_what_to_install(place, monkeypatch):
    found = engine.importlib.util.find_spec
    monkeypatch.setattr(engine.importlib.util, 'find_spec',
                        lambda name: None if name == 'snakemake'
                        else found(name))
    with pytest.raises(EngineMissingError, match=r'pip install mmmedmask\[ex'):
        require_snakemake()
    output = call('reproduce.py', place.recipe_file, '--data-root',
                  place.data, '--work-dir', place.folder, status=1)
    assert output == ('reproduce.py: Snakemake is not installed, which runs '
                      'the jobs: pip install mmmedmask[experiments]\n')


def test_gpus_are_shared_out(list_gpus, tmp_path, monkeypatch):
    list_gpus('It cannot tell.')
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '3,5,7')
    with reserve_gpus(2, tmp_path) as (first, locks):
        assert first == dict(CUDA_VISIBLE_DEVICES='3,5')
        assert len(locks) == 2
        with reserve_gpus(1, tmp_path) as (second, _):
            assert second == dict(CUDA_VISIBLE_DEVICES='7')
        with pytest.raises(RuntimeError, match='2 GPUs are needed, 1 of 3'):
            with reserve_gpus(2, tmp_path):
                pass
    # A cluster shows a job what is its own.
    with reserve_gpus(3, tmp_path) as (all_of_them, locks):
        assert (all_of_them, locks) == ({}, ())
    for nothing in ('', '-1', 'NoDevFiles'):
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', nothing)
        with reserve_gpus(1, tmp_path) as (none, _):
            assert none == {}
        assert visible_gpus() == []


@pytest.mark.parametrize(('listed', 'chosen', 'taken'), [
    (THREE_GPUS, '2,0', ['2', '0']), (THREE_GPUS, '1,3,0', ['1']),
    (THREE_GPUS, '3', []), (THREE_GPUS, '0,1,0', []),
    (THREE_GPUS, 'GPU-8f, 1,-1,2', ['GPU-8f', '1']),
    (THREE_GPUS, 'GPU-8,GPU-77,1', ['GPU-8']),
    (THREE_GPUS, 'MIG-5d,MIG-5e', ['MIG-5d']),
    (THREE_GPUS, 'MIG-GPU-8f1/1/0', ['MIG-GPU-8f1/1/0']),
    # It says nothing of the GPUs.
    ('Failed to initialize NVML', '3,GPU-77,-1', ['3', 'GPU-77'])])
def test_cuda_takes_gpus_up_to_one_that_is_not_there(
        listed, chosen, taken, list_gpus, monkeypatch):
    list_gpus(listed)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', chosen)
    assert visible_gpus() == taken


@pytest.mark.slow
def test_a_report_shows_tables(place, tmp_path):
    report = tmp_path / 'report.html'
    plan = place.plan((0, 1), ('ours', 'scratch'))
    assert execute_plan(plan, place.tools, cores=2) == 0
    place.table(plan)
    assert write_report(plan, place.tools, [plan.folder / 'tiny.csv'],
                        report) == 0
    assert 'tiny.csv' in report.read_text()
    open_page(report)


def test_a_list_and_a_plan_import_no_training_library(place):
    """Which modules are imported, not how long it takes."""
    for unwanted, tool, *words in (
            (('torch', 'mmengine'), 'reproduce', '--help'),
            (('torch', 'mmengine'), 'cross_validate', '--help'),
            (('torch', 'mmengine'), 'reproduce', '--list'),
            (('torch', 'mmpretrain', 'mmdet', 'mmseg', 'mmcv'), 'reproduce',
             'cmim_table1', 'gimp_table2', 'msmae_table2', '--dry-run')):
        code = (f'import sys, runpy; sys.path.insert(0, "tools"); '
                f'sys.argv = ["{tool}.py", *{words}]\n'
                'try:\n'
                f'    runpy.run_path("tools/{tool}.py", run_name="__main__")\n'
                'except SystemExit as end:\n'
                '    assert not end.code, end.code\n'
                f'print("IMPORTED", [name for name in {unwanted} '
                'if name in sys.modules])')
        output = run(sys.executable, '-c', code, cwd=Path(__file__).parents[2])
        assert output.splitlines()[-1] == 'IMPORTED []', words
