"""Check a config before a run takes the GPUs.

    python tools/misc/check_config.py CONFIG [--gpus 8] [--tflops 60]

Everything is built and named if it is wrong: unknown types and keys, paths,
weights, learning rate and batch, schedules. A step is trained and validated
on the CPU with a reduced copy of the model, and a step of the true model is
measured: memory, operations, time. The exit status is 1 if a line is red.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict

from status_lines import print_line, print_summary

from mmmedmask.util.command_line import (
    add_config_options,
    check_overwrites,
    output_file,
)
from mmmedmask.util.run_tool import run_tool


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    add_config_options(parser)
    parser.add_argument('--checkpoint', metavar='FILE',
                        help='a checkpoint that has to fit the whole model')
    parser.add_argument(
        '--gpus', type=int, metavar='N',
        help='number of GPUs (default: that in the name of the config)')
    parser.add_argument(
        '--steps', type=int, default=2,
        help='training steps of the trial (default: %(default)s)')
    parser.add_argument(
        '--full-size', action='store_true',
        help='take the true model for the trial, at one or two samples')
    parser.add_argument('--no-step', action='store_true',
                        help='neither train nor measure a step')
    parser.add_argument('--tflops', type=float, metavar='T',
                        help='what a GPU does, in 10^12 operations per '
                        'second, to estimate the time of a run on it')
    parser.add_argument(
        '--time-limit', type=float, default=120, metavar='SECONDS',
        help='for steps of the true model (default: %(default)s; 0: none)')
    parser.add_argument(
        '--json', metavar='FILE', type=output_file,
        help='write the report into a file too')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)

    from mmmedmask.apis import load_config
    from mmmedmask.inspection import CheckOptions, check_config, worst_status
    from mmmedmask.inspection.findings import describe_error, red
    from mmmedmask.util.atomic_files import write_text
    try:
        check_overwrites(args, ['json'])
        options = CheckOptions(
            checkpoint=args.checkpoint, gpus=args.gpus, steps=args.steps,
            run_steps=not args.no_step, full_size=args.full_size,
            tflops=args.tflops, time_limit=args.time_limit)
    except ValueError as error:
        raise SystemExit(f'check_config.py: {error}') from None
    try:
        config = load_config(args.config, args.cfg_options)
    except Exception as error:  # a config is Python, anything can happen
        findings, numbers = [red('config', describe_error(error), args.config,
                                 'mend the file')], {}
    else:
        report = check_config(config, options)
        findings, numbers = report.findings, report.numbers
    lines, status = [*map(asdict, findings)], worst_status(findings)
    for line in lines:
        print_line(**line)
    print_summary([line['status'] for line in lines])
    if args.json:
        write_text(args.json, json.dumps(
            dict(config=args.config, status=status, findings=lines,
                 numbers=numbers), indent=2))
    if status == 'red':
        raise SystemExit(1)


if __name__ == '__main__':
    run_tool(main)
