"""Test a checkpoint with a config of any host library.

    python tools/test.py CONFIG CHECKPOINT [--out FILE.pkl] [--show-dir DIR]

A model that is never trained, such as Segment Anything, has no checkpoint.
"""

import argparse
from collections.abc import Sequence

from mmmedmask.util import command_line
from mmmedmask.util.run_tool import run_tool


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Test a checkpoint.')
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'checkpoint', nargs='?',
        help='checkpoint file; none for a config that trains nothing')
    parser.add_argument('--work-dir', type=command_line.output_folder,
                        help='folder for logs and metrics; default: the one '
                        'in the config, else work_dirs/<name of the config>')
    parser.add_argument('--out', metavar='FILE.pkl',
                        type=command_line.output_file,
                        help='write all predictions into this pickle file')
    parser.add_argument('--show-dir', metavar='DIR',
                        type=command_line.output_folder,
                        help='draw every prediction into this folder')
    parser.add_argument(
        '--tta', action='store_true',
        help="test-time augmentation, as the config's tta_model and "
        'tta_pipeline say')
    command_line.add_config_options(
        parser, 'override settings, e.g. test_dataloader.batch_size=4 or '
        'key="[a,b]"; lists and tuples in quotes and without blanks')
    return command_line.parse_launched(parser, argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)

    from mmmedmask import apis
    try:
        command_line.check_overwrites(args, ['out'])
        config = apis.load_config(args.config, args.cfg_options)
        apis.set_work_dir(config, args.work_dir)
        apis.prepare_test(config, args.checkpoint)
        if args.out:
            apis.save_predictions(config, str(args.out))
        if args.show_dir:
            apis.draw_predictions(config, args.show_dir)
        if args.tta:
            apis.enable_test_time_augmentation(config)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f'test.py: {error}') from None

    apis.build_runner(config, args.launcher).test()


if __name__ == '__main__':
    run_tool(main)
