"""Print a config with all its bases and overrides resolved.

    python tools/misc/print_config.py CONFIG [--cfg-options KEY=VALUE ...]
"""

import argparse
from collections.abc import Sequence

from mmmedmask.util.command_line import add_config_options
from mmmedmask.util.run_tool import run_tool


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Print a config as it is after inheritance.')
    parser.add_argument('config', help='config file')
    add_config_options(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)

    from mmmedmask.apis import load_config
    try:
        config = load_config(args.config, args.cfg_options)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f'print_config.py: {error}') from None
    print(config.pretty_text)


if __name__ == '__main__':
    run_tool(main)
