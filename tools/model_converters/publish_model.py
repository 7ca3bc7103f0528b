"""Make a checkpoint fit to be passed on: weights alone, named by their hash.

Optimiser, schedulers, log history and the states of hooks are left out; what
stays are the model's tensors and plain metadata. The file name gets the
first eight digits of the file's SHA-256.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from mmmedmask.util.run_tool import run_tool


def parse_args(argv: Sequence[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('source', type=Path, help='checkpoint of a run')
    parser.add_argument(
        'target', type=Path, help='name of the published file, e.g. '
        'cmim_resnet18.pth, which becomes cmim_resnet18-1a2b3c4d.pth; .pth '
        '(also where there is no ending), .pt, .ckpt, .bin or .safetensors')
    parser.add_argument(
        '--keep-config', action='store_true',
        help="keep the config's text, which may name folders of yours")
    return parser.parse_args(argv)


def publish_model(source: Path, target: Path,
                  keep_config: bool = False) -> Path:
    """Strip a checkpoint, name it by its content, and return the new file.

    ``.pth`` is added to a target without an ending. An ending of another kind
    of file, or a source without tensors, is a ValueError.
    """
    from mmmedmask.engine.checkpoint.reading import (
        get_state_dict,
        read_checkpoint,
    )
    from mmmedmask.engine.checkpoint.writing import (
        save_weights,
        sha256_of,
        with_ending,
    )
    target = with_ending(target)
    checkpoint = read_checkpoint(source)
    meta = checkpoint.get('meta')
    kept = plain_data(meta) if isinstance(meta, dict) else {}
    if not keep_config:
        kept.pop('cfg', None)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Another process may publish another checkpoint by the same name.
    with TemporaryDirectory(prefix='.', dir=target.parent) as folder:
        unnamed = Path(folder, target.name)
        save_weights(unnamed, get_state_dict(checkpoint), kept)
        return unnamed.replace(target.with_stem(
            f'{target.stem}-{sha256_of(unnamed)[:8]}'))


def plain_data(value: object) -> object:
    """Copy nested data; what is not a plain Python type becomes a string."""
    if isinstance(value, dict):
        return {str(key): plain_data(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_data(item) for item in value]
    if value is None or type(value) in (bool, int, float, str):
        return value
    return str(value)


def main(argv: Sequence[str] | None = None):
    args = parse_args(argv)
    try:
        path = publish_model(args.source, args.target, args.keep_config)
    except (ValueError, OSError) as error:
        raise SystemExit(f'publish_model: {error}') from error
    print(path)


if __name__ == '__main__':
    run_tool(main)
