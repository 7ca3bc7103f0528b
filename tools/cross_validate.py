"""Train and test a config, or stages in a row, on every fold of a cohort.

    python tools/cross_validate.py CONFIG --folds splits/nsclc --draw 5
    python tools/cross_validate.py GROUPMSA.py PRETRAIN.py FINETUNE.py \
        --folds splits/nsclc --work-dir work_dirs/gimp_5fold --seeds 0 1 2

With several configs each starts from checkpoints that earlier ones have made
on the same fold (work_dirs/NAME/... in a config is what NAME.py makes, any
other folder what the config right before makes), so that no stage sees a
fold's test patients. A checkpoint that no stage makes is refused, also in the
first config, unless --pretrained allows it. Stages hand on what later configs
name, NAME/best.pth or the last checkpoint; the last one is tested, with its
best. Every stage of a fold has a folder,
CONFIG-DIGEST/seedS_foldK. Finished stages are skipped and interrupted ones go
on, so the command can be given again. At its end there are results.md and
results.csv: all folds, their mean and spread, and the scores of all patients,
each predicted by the model that has not seen it, with 95 % intervals.

Runs are jobs of Snakemake: as many at a time as there are GPUs (--cores), or
as a cluster takes (--executor slurm --jobs 20). --dry-run prints all commands
in their order; each can be given by hand.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmmedmask.experiments import tool_options
from mmmedmask.util.command_line import add_config_options
from mmmedmask.util.run_tool import run_tool

TOOLS = Path(__file__).resolve().parent


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        'configs', nargs='+', help='config files, one per stage')
    parser.add_argument(
        '--folds', required=True, type=Path,
        help='folder with splits_0.csv, splits_1.csv, ... (train, val, test)')
    parser.add_argument('--draw', type=int, metavar='K',
                        help='draw K folds of the cohort into --folds, by '
                        'patient and with equal shares of the classes, also '
                        'with --dry-run; the same as those that are there, or '
                        'none may be there')
    parser.add_argument(
        '--draw-seed', type=int, default=0, help='seed of --draw')
    parser.add_argument('--by-site', action='store_true',
                        help='--draw keeps all patients of a site together')
    parser.add_argument('--select', nargs='+', type=int, metavar='FOLD',
                        help='run these folds alone')
    parser.add_argument(
        '--work-dir', type=Path,
        help='folder of all runs; default: work_dirs/<last config>_folds')
    parser.add_argument(
        '--checkpoint', choices=['best', 'last'], default='best',
        help='checkpoint of the last stage that is tested: the best on the '
        'validation patients if the config has save_best (default), or the '
        'last; earlier stages hand on what later configs name')
    parser.add_argument(
        '--pretrained', nargs='+', default=[], metavar='FILE',
        help='checkpoints, as the configs name them, that stages may start '
        'from although no stage makes them; they must not have learned from '
        'this cohort, or the scores are too good')
    add_config_options(parser, 'override settings of all stages; 2:KEY=VALUE '
                       'those of the second stage alone')
    tool_options.add_plan_options(
        parser, "run all folds once per seed; default: the configs' own seed")
    args = parser.parse_args(argv)
    if args.draw is None and (args.draw_seed or args.by_site):
        parser.error('--draw-seed and --by-site say how --draw K draws folds')
    tool_options.check_plan_options(parser, args)
    return args


def main(argv: Sequence[str] | None = None) -> int:
    ours, more = tool_options.split_arguments(
        sys.argv[1:] if argv is None else argv)
    args = parse_args(ours)

    from mmmedmask.experiments import commands, cross_validation
    from mmmedmask.experiments.execute import write_report
    from mmmedmask.experiments.fold_axis import draw_cohort_folds, find_folds
    from mmmedmask.experiments.plan import plan_runs
    try:
        options = args.cfg_options or {}
        if args.draw is not None:
            draw_cohort_folds(args.configs[-1], options, args.folds,
                              args.draw, args.draw_seed, args.by_site,
                              args.data_root)
        recipe = cross_validation.ad_hoc_recipe(
            args.configs, options, args.checkpoint, args.pretrained)
        work_dir = args.work_dir or Path('work_dirs', recipe.name)
        plan = plan_runs(
            [(recipe, recipe.rows)], 'paper', work_dir, args.data_root,
            args.seeds or [None],
            {recipe.name: find_folds(args.folds, args.select)}, args.gpus)
        if args.dry_run:
            print(*commands.list_commands(plan.runs, TOOLS), sep='\n')
            return 0
        for note in commands.batch_notes(plan.runs):
            print(note, flush=True)
        status = tool_options.run_plan(plan, args, TOOLS, more)
        failures = tool_options.describe_failures(plan)
        if status or failures:
            raise RuntimeError('\n'.join([
                f'{len(failures)} of {len(plan.runs)} runs are not done; the '
                'same command goes on:',
                *(f'- {failure}' for failure in failures)]))
        table = cross_validation.write_folds_table(plan, recipe)
        if args.report is not None:
            write_report(plan, TOOLS, [work_dir / 'results.md',
                                       work_dir / 'results.csv'], args.report)
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        raise SystemExit(f'cross_validate.py: {error}') from None
    print(table)
    print(f'\nresults.md and results.csv are in {work_dir}')
    return 0


if __name__ == '__main__':
    run_tool(main)
