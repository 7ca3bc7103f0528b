# Features of slides: one job per shard of slides, see extraction.py.
import shlex

SHARDS = list(config['inputs'])
REPORT = config['folder'] + '/{shard}-of-' + str(len(SHARDS))


localrules: reports


rule reports:
    input:
        expand(REPORT + '.json', shard=SHARDS)


rule extract_shard:
    input:
        lambda wildcards: config['inputs'][wildcards.shard]
    output:
        REPORT + '.json'
    log:
        REPORT + '.log'
    params:
        command=lambda wildcards: shlex.join(
            [*config['command'], '--shard',
             f'{wildcards.shard}/{len(SHARDS)}'])
    threads: config['threads']
    resources:
        gpus=config['gpus'],
        # As the plugin for Slurm calls them. Its profile counts threads as
        # the GPUs of a run.
        gpu=config['gpus'],
        cpus_per_task=config['threads'],
        mem_mb=32000
    # A shard with a broken slide is finished, and its report tells of it.
    shell:
        '(cd {config[cwd]:q} && {params.command}) > {log:q} 2>&1 '
        '|| test -s {output:q}'
