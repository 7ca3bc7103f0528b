"""Print a config with all its bases and overrides resolved.

    python tools/misc/print_config.py CONFIG [--cfg-options KEY=VALUE ...]
"""

import argparse


def main() -> None:
    from mmengine.config import DictAction

    import mmmedmask  # noqa: F401  (makes mmmedmask:: and mmseg:: resolve)
    from mmmedmask.apis import load_config

    parser = argparse.ArgumentParser(
        description='Print a config as it is after inheritance.')
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override settings, e.g. train_dataloader.batch_size=4')
    args = parser.parse_args()
    try:
        config = load_config(args.config, args.cfg_options)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f'print_config.py: {error}') from None
    print(config.pretty_text)


if __name__ == '__main__':
    main()
