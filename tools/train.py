"""Train from a config of any host library (mmpretrain, mmdet, mmseg).

    python tools/train.py CONFIG [--work-dir DIR] [--resume [CHECKPOINT]] ...
"""

import argparse
from collections.abc import Sequence
from contextlib import ExitStack

from mmmedmask.util import command_line
from mmmedmask.util.run_tool import run_tool


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train from a config.')
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--work-dir', type=command_line.output_folder,
        help='folder for logs and checkpoints; default: the one in the '
        'config, else work_dirs/<name of the config>')
    parser.add_argument(
        '--resume', nargs='?', const='auto', metavar='CHECKPOINT',
        help='continue from a checkpoint; without one, or with `auto`, from '
        'the latest in the work dir, and from scratch if it has none')
    parser.add_argument('--amp', action='store_true',
                        help='train with autocast, in float16 unless the '
                        'config has autocast already or --amp-dtype says else')
    parser.add_argument(
        '--amp-dtype', choices=['float16', 'bfloat16'],
        help='data type of autocast (implies --amp); bfloat16 runs on CPU too')
    parser.add_argument('--no-validate', action='store_true',
                        help='do not validate during training')
    parser.add_argument(
        '--auto-scale-lr', action='store_true',
        help='scale the learning rate from auto_scale_lr.base_batch_size to '
        'the number of samples that all processes take per update, with '
        'those whose gradients are accumulated')
    command_line.add_config_options(
        parser, 'override settings, e.g. train_dataloader.batch_size=4 or '
        'key="[a,b]"; lists and tuples in quotes and without blanks')
    return command_line.parse_launched(parser, argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)

    from mmmedmask import apis
    from mmmedmask.config_files import need_keys
    try:
        config = apis.load_config(args.config, args.cfg_options)
        need_keys(config, 'model', 'train_dataloader', 'train_cfg',
                  'optim_wrapper')
        apis.set_work_dir(config, args.work_dir)
        if args.amp or args.amp_dtype:
            apis.set_mixed_precision(config, args.amp_dtype)
        if args.no_validate:
            apis.disable_validation(config)
        if args.auto_scale_lr:
            apis.enable_lr_scaling(config)
        lock = ExitStack()
        lock.enter_context(apis.lock_work_dir(config.work_dir, args.launcher))
        if args.resume is not None:
            apis.set_resume(config, args.resume)
        apis.check_warmup(config)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f'train.py: {error}') from None

    with lock:
        runner = apis.build_runner(config, args.launcher)
        try:
            apis.check_iterations(runner)
        except ValueError as error:
            raise SystemExit(f'train.py: {error}') from error
        runner.train()


if __name__ == '__main__':
    run_tool(main)
