"""Arguments that choose an encoder, shared by the tools of this folder."""

import argparse

from mmmedmask.util.command_line import check_device


def add_encoder_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that :func:`build_encoder` reads."""
    group = parser.add_argument_group('encoder')
    group.add_argument(
        '--encoder', default='resnet50-block3',
        help="a classifier of torchvision (resnet18, ...), a ResNet cut "
        "after its third block (default: %(default)s, 1024 features, as CLAM "
        "and GiMP), 'timm:NAME', 'timm:local-dir:FOLDER' (an export with "
        "--naming hf), or 'cmim' for the backbone of our own checkpoints")
    group.add_argument(
        '--weights', metavar='FILE',
        help='file with its weights, or the name of weights of torchvision '
        '(default for its networks: IMAGENET1K_V1, which is downloaded; for '
        'a folder its own)')
    group.add_argument(
        '--config', help="the config of the run, for the encoder 'cmim'")
    group.add_argument(
        '--random-weights', type=int, metavar='SEED',
        help='draw the weights instead, for tests and as a baseline')
    group.add_argument('--input-size', type=int, help='side in pixels that '
                       'tiles are resized to for the encoder (default: as '
                       'they are cut, or the one size that it takes)')
    group.add_argument('--batch-size', type=int, default=64)
    group.add_argument(
        '--device', default='cpu', help='e.g. cuda:0 (default: cpu)')
    group.add_argument('--precision', choices=('float32', 'bfloat16',
                                               'float16'), default='float32',
                       help='of the encoder; features are stored in float32')


def build_encoder(args: argparse.Namespace):
    """Build the encoder that the arguments ask for, on its device."""
    from mmmedmask.apis.encoder_weights import build_tile_encoder
    # Only now: who submits jobs need not have their GPUs.
    check_device(args.device)
    encoder = build_tile_encoder(args.encoder, args.weights, args.config,
                                 args.random_weights, args.input_size)
    return encoder.to(args.device)
