"""Print a config with all its bases and overrides resolved.

    python tools/misc/print_config.py CONFIG [--cfg-options KEY=VALUE ...]
"""

import argparse
from collections.abc import Sequence


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    # Not at the top: the help text needs nothing else.
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(
        description='Print a config as it is after inheritance.')
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override settings, e.g. train_dataloader.batch_size=4')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)

    import mmmedmask  # noqa: F401  (makes mmmedmask:: and mmseg:: resolve)
    from mmmedmask.apis import load_config

    try:
        config = load_config(args.config, args.cfg_options)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f'print_config.py: {error}') from None
    print(config.pretty_text)


if __name__ == '__main__':
    main()
