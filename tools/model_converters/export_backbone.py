"""Write the backbone of a pre-training checkpoint to files of its own.

Weights as safetensors or ``.pth``, named as OpenMMLab, mmdet, torchvision or
timm name the architecture, the network as ONNX, or a folder that
``timm.create_model('local-dir:FOLDER')`` loads; a model card beside each.
"""

import argparse
from collections.abc import Sequence

from mmmedmask.util.command_line import check_overwrites
from mmmedmask.util.run_tool import run_tool

NAMINGS = ('openmmlab', 'mmdet', 'torchvision', 'timm', 'hf')


def parse_args(argv: Sequence[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('source', help='checkpoint of a pre-training run')
    parser.add_argument(
        'target', help='file to write, .safetensors (also where there is no '
        'ending), .pth or .onnx; with --naming hf a folder')
    parser.add_argument(
        '--naming', choices=NAMINGS, default='openmmlab',
        help='whose names the tensors get (default: openmmlab; plain ResNets '
        'are named alike in all, ResNetV1c, V1d and ConvNeXt are not); hf: '
        "timm's, in a folder with a config")
    parser.add_argument(
        '--prefix', default='backbone.',
        help="the backbone's prefix in the source (default: backbone.)")
    parser.add_argument(
        '--target-prefix', help='prefix of the written names (default: '
        '"backbone." for openmmlab and mmdet, none for the others)')
    parser.add_argument(
        '--config',
        help='config of the run (default: the one in the checkpoint)')
    parser.add_argument('--licence',
                        help='licence of the weights for the card, an SPDX '
                        'name such as CC-BY-4.0 (default: not stated)')
    parser.add_argument(
        '--force', action='store_true', help='overwrite the target')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None):
    args = parse_args(argv)
    from mmmedmask.apis.backbone_export import export_backbone, exported_files
    try:
        files = exported_files(args.target, args.naming)
        there = [file for file in files if file.exists()]
        if there and not args.force:
            raise SystemExit(f'{there[0]} exists, --force overwrites it')
        check_overwrites(args, ['target'], files)
        exported = export_backbone(
            args.source, args.target, args.naming, args.prefix,
            args.target_prefix, args.config, args.licence)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        raise SystemExit(f'export_backbone: {error}') from error
    names = list(exported['state_dict'])
    values = sum(v.numel() for v in exported['state_dict'].values())
    print(f'{", ".join(map(str, files))}: {len(names)} tensors, '
          f'{values / 1e6:.2f} M values, {names[0]} ... {names[-1]}')
    for key, value in exported['meta'].items():
        print(f'  {key}: {value}')


if __name__ == '__main__':
    run_tool(main)
