"""Draw a map (t-SNE) of the patients as a model sees them; save their vectors.

    cd tools/visualizations
    python visualize_embeddings.py CONFIG CHECKPOINT --out map.png
    python visualize_embeddings.py CONFIG none PRETRAINED --out map.png \
        --vectors patient image --export vectors.npz

CONFIG is that of a run with mmmedmask.SlideOmicClassifier or mmmedmask.GiMP.
Several checkpoints are drawn side by side; `none` is the model before any
training. Bags are whole, whatever the pipeline cuts out in training.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

SPLITS = ('train', 'val', 'test')
UNTRAINED = 'none'
TITLES = {'patient': 'CLS_pat', 'image': 'CLS_img', 'genes': 'CLS_ge'}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config of a run')
    parser.add_argument(
        'checkpoints',
        nargs='+',
        help=f'checkpoints of that config; {UNTRAINED!r}: before training')
    parser.add_argument('--out', required=True, help='PNG file to write')
    parser.add_argument(
        '--vectors',
        nargs='+',
        choices=list(TITLES),
        default=['patient'],
        help='one row of the picture each (default: patient)')
    parser.add_argument(
        '--titles', nargs='+', help='one per checkpoint (default: names)')
    parser.add_argument(
        '--split',
        choices=SPLITS,
        default='test',
        help='whose patients, those of the config\'s <split>_dataloader '
        '(default: test)')
    parser.add_argument(
        '--export',
        help='.npz or .csv file for the vectors; with several checkpoints '
        'each has its number in the name')
    parser.add_argument('--perplexity', type=float, default=30.0)
    parser.add_argument(
        '--seed', type=int, default=0, help='seed of the layout')
    parser.add_argument('--device', default='cpu', help='e.g. cuda:0')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override settings')
    return parser.parse_args(argv)


def panel(found, name: str, title: str, args: argparse.Namespace):
    """Lay out the patients of one panel.

    Args:
        found: Vectors of all patients.
        name: Which of them.
        title: Heading.
        args: The command line.

    Returns:
        The panel.

    Raises:
        ValueError: If the model has no such vectors.
    """
    import numpy as np

    from mmmedmask.visualization.embeddings import (
        EmbeddingPanel,
        project_tsne,
    )

    if name not in found.vectors:
        raise ValueError(f'the model has no {name!r} vectors, only '
                         f'{list(found.vectors)}')
    vectors = found.vectors[name]
    there = np.isfinite(vectors).all(axis=1)
    if not there.all():
        print(f'{title}: {(~there).sum()} patients have no {name}')
    return EmbeddingPanel(
        f'{title}: {TITLES[name]}',
        project_tsne(vectors[there], args.perplexity, args.seed),
        found.labels[there])


def run(args: argparse.Namespace) -> None:
    """Embed, draw and save.

    Args:
        args: The command line.

    Raises:
        ValueError: If something does not fit.
        FileNotFoundError: If a file is missing.
    """
    from PIL import Image

    import mmmedmask  # noqa: F401  (mends gaps in what is imported next)
    from mmmedmask import apis
    from mmmedmask.apis.patient_vectors import (
        build_models,
        extract_embeddings,
        save_embeddings,
        whole_bag_loader,
    )
    from mmmedmask.visualization.embeddings import draw_embeddings

    titles = args.titles or [
        'untrained' if one == UNTRAINED else Path(one).stem
        for one in args.checkpoints]
    if len(titles) != len(args.checkpoints):
        raise ValueError(f'{len(args.checkpoints)} checkpoints need as many '
                         f'--titles, got {len(titles)}')
    if args.export and Path(args.export).suffix not in ('.npz', '.csv'):
        raise ValueError(f'--export must end with .npz or .csv, got '
                         f'{args.export!r}')
    config = apis.load_config(args.config, args.cfg_options)
    models = build_models(config, args.checkpoints, UNTRAINED, args.device)
    loader = whole_bag_loader(config, args.split)
    embedded = [extract_embeddings(model, loader) for model in models]
    picture = draw_embeddings(
        [[panel(found, name, title, args)
          for found, title in zip(embedded, titles, strict=True)]
         for name in args.vectors], embedded[0].classes)
    out = Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(out)
    print(f'{len(embedded[0].labels)} patients: {out}')
    if args.export:
        export = Path(args.export)
        for number, found in enumerate(embedded):
            file = export if len(embedded) == 1 else export.with_stem(
                f'{export.stem}_{number}')
            save_embeddings(file, found)
            print(f'vectors: {file}')


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    try:
        run(args)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f'visualize_embeddings.py: {error}') from None


if __name__ == '__main__':
    main()
