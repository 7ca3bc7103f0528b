"""Write the backbone of a pre-training checkpoint to a file of its own.

The result holds tensors and plain Python data alone, so that anybody can
load it with ``torch.load(weights_only=True)``:
``{'state_dict': ..., 'meta': ...}``, named as OpenMMLab, mmdet, torchvision
or timm name the architecture.
"""

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path

NAMINGS = ('openmmlab', 'mmdet', 'torchvision', 'timm')


def parse_args(argv: Sequence[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('source', help='checkpoint of a pre-training run')
    parser.add_argument('target', help='file to write')
    parser.add_argument(
        '--naming',
        choices=NAMINGS,
        default='openmmlab',
        help='whose names the tensors get (default: openmmlab; plain ResNets '
        'are named alike in all, ResNetV1c, V1d and ConvNeXt are not)')
    parser.add_argument(
        '--prefix',
        default='backbone.',
        help="the backbone's prefix in the source (default: backbone.)")
    parser.add_argument(
        '--target-prefix',
        help='prefix of the written names (default: "backbone." for '
        'openmmlab and mmdet, none for torchvision and timm)')
    parser.add_argument(
        '--force', action='store_true', help='overwrite the target')
    return parser.parse_args(argv)


def export_backbone(source: Path,
                    target: Path,
                    naming: str = 'openmmlab',
                    prefix: str = 'backbone.',
                    target_prefix: str | None = None) -> dict:
    """Extract, rename and save a backbone.

    Args:
        source: A checkpoint of a runner, or a file with a bare dictionary of
            tensors. It is read with ``weights_only=True``.
        target: The file to write.
        naming: Whose names the tensors get, one of ``NAMINGS``.
        prefix: The backbone's prefix in the source; ``''`` takes everything.
        target_prefix: The prefix in the target. ``None`` means ``backbone.``
            for OpenMMLab's namings and none for the others.

    Returns:
        What was written.

    Raises:
        ValueError: If nothing has the prefix, or the naming does not know
            the architecture.
    """
    from mmmedmask.engine.checkpoint.naming import rename_backbone
    from mmmedmask.engine.checkpoint.reading import (
        get_state_dict,
        normalize_prefix,
        read_checkpoint,
        select_prefix,
    )
    from mmmedmask.engine.checkpoint.writing import (
        describe_source,
        save_weights,
    )

    checkpoint = read_checkpoint(source)
    tensors = get_state_dict(checkpoint)
    backbone = select_prefix(tensors, prefix)
    if not backbone:
        starts = sorted({name.split('.')[0] for name in tensors})
        raise ValueError(
            f'no tensor in {str(source)!r} has the prefix {prefix!r}; their '
            f'names begin with {starts}')
    backbone = rename_backbone(backbone, naming)
    if target_prefix is None:
        target_prefix = 'backbone' if naming in NAMINGS[:2] else ''
    target_prefix = normalize_prefix(target_prefix)
    meta = checkpoint.get('meta')
    meta = meta if isinstance(meta, dict) else {}
    config = meta.get('cfg')
    return save_weights(
        target,
        {f'{target_prefix}{name}': value
         for name, value in backbone.items()},
        describe_source(
            source,
            source_prefix=prefix,
            naming=naming,
            experiment_name=meta.get('experiment_name'),
            config_sha256=hashlib.sha256(config.encode()).hexdigest()
            if isinstance(config, str) else None,
            epoch=meta.get('epoch'),
            iter=meta.get('iter'),
            seed=meta.get('seed'),
            mmengine_version=meta.get('mmengine_version')))


def main(argv: Sequence[str] | None = None):
    args = parse_args(argv)
    source, target = Path(args.source), Path(args.target)
    if target.exists() and not args.force:
        raise SystemExit(f'{target} exists, --force overwrites it')
    try:
        exported = export_backbone(source, target, args.naming, args.prefix,
                                   args.target_prefix)
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(f'export_backbone: {error}') from error
    names = list(exported['state_dict'])
    values = sum(v.numel() for v in exported['state_dict'].values())
    print(f'{target}: {len(names)} tensors, {values / 1e6:.2f} M values, '
          f'{names[0]} ... {names[-1]}')
    for key, value in exported['meta'].items():
        print(f'  {key}: {value}')


if __name__ == '__main__':
    main()
