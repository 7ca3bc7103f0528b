"""Convert checkpoints of masked autoencoders to MSMAE, and back.

A checkpoint of mmpretrain's MAE or in the names of MAE's own code becomes one
that an MSMAE config continues from (``load_from``) or fine-tunes (its
backbone). What became of every tensor is printed; if one is missing, unknown
or does not fit, nothing is written. With ``--config`` the names and shapes
are compared with that config's model, and position embeddings are
interpolated to its grid of patches.

Files are read with ``weights_only=True``. The number of attention heads
cannot be read from a checkpoint: it has to be the config's.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmmedmask.util.command_line import check_overwrites
from mmmedmask.util.run_tool import run_tool

#: Whose names tensors may have, and where they then lie in a file.
STATE_DICT_KEYS = {'msmae': 'state_dict', 'mae': 'model'}


def parse_args(argv: Sequence[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('source', type=Path, help='checkpoint to convert')
    parser.add_argument(
        'target', type=Path, help='file to write, .pth (also where there is '
        'no ending), .pt, .ckpt, .bin or .safetensors')
    parser.add_argument('--to', choices=STATE_DICT_KEYS, default='msmae',
                        help="whose names to write: MSMAE's, which are "
                        "mmpretrain's, or MAE's own (default: msmae)")
    parser.add_argument(
        '--config',
        help='config of the model that is to load the result, for '
        'pre-training or fine-tuning; without it the architecture is the '
        "source's")
    parser.add_argument(
        '--encoder-only', action='store_true',
        help='leave the decoder out, e.g. because the source has none')
    parser.add_argument(
        '--keep-head', action='store_true',
        help='carry the class head, if the classes are the same')
    parser.add_argument(
        '--source-grid', nargs=2, type=int, metavar=('ROWS', 'COLUMNS'),
        help="patches of the source's images, if they are not square")
    parser.add_argument(
        '--leave-out', nargs='+', default=[], metavar='PATTERN',
        help='shell patterns of tensors in the source that are not needed')
    parser.add_argument(
        '--force', action='store_true', help='overwrite the target')
    return parser.parse_args(argv)


def convert(args: argparse.Namespace):
    """Convert and save a checkpoint; return what became of every tensor.

    A ValueError says what is wrong if not everything arrives that should.
    """
    from mmmedmask.engine.checkpoint import writing
    from mmmedmask.engine.checkpoint.mae_conversion import convert_mae
    from mmmedmask.engine.checkpoint.reading import (
        get_state_dict,
        read_checkpoint,
    )
    model, grid_size = read_model(args.config) if args.config else (None, None)
    tensors, report = convert_mae(
        get_state_dict(read_checkpoint(args.source)), args.to, model=model,
        grid_size=grid_size, source_grid=args.source_grid,
        encoder_only=args.encoder_only, keep_head=args.keep_head,
        leave_out=args.leave_out)
    writing.save_weights(args.target, tensors,
                         writing.describe_source(args.source, naming=args.to),
                         STATE_DICT_KEYS[args.to])
    return report


def read_model(config: str) -> tuple[dict, tuple[int, int]]:
    """Build the model of a config; give its state dict and its patches."""
    from mmengine.registry import MODELS, init_default_scope

    from mmmedmask import apis
    from mmmedmask.config_files import need_keys
    cfg = apis.load_config(config)
    need_keys(cfg, 'model')
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    model = MODELS.build(cfg.model)
    grid_size = getattr(model.backbone, 'patch_resolution', None)
    if grid_size is None:
        raise ValueError(f'the backbone of {config!r} is a '
                         f'{type(model.backbone).__name__}, which has no '
                         'patches: a vision transformer is needed')
    return model.state_dict(), tuple(grid_size)


def main(argv: Sequence[str] | None = None):
    args = parse_args(argv)
    from mmmedmask.engine.checkpoint.writing import with_ending
    try:
        args.target = with_ending(args.target)
        if args.target.exists() and not args.force:
            raise SystemExit(f'{args.target} exists, --force overwrites it')
        check_overwrites(args, ['target'])
        report = convert(args)
    except (ValueError, OSError) as error:
        raise SystemExit(f'convert_mae_checkpoint: {error}') from error
    print(report.describe())
    print(f'{args.target}: {len(report.carried)} tensors')


if __name__ == '__main__':
    run_tool(main)
