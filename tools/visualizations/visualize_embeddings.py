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

from picture_tool import draw_or_exit, make_parser, save_picture

from mmmedmask.util.command_line import file_ending
from mmmedmask.util.run_tool import run_tool

UNTRAINED = 'none'
TITLES = {'patient': 'CLS_pat', 'image': 'CLS_img', 'genes': 'CLS_ge'}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__, '--split', '--seed', '--device',
                         checkpoint=False, config='config of a run')
    parser.add_argument(
        'checkpoints', nargs='+',
        help=f'checkpoints of that config; {UNTRAINED!r}: before training')
    parser.add_argument('--vectors', nargs='+', choices=list(TITLES),
                        default=['patient'],
                        help='one row of the picture each (default: patient)')
    parser.add_argument(
        '--titles', nargs='+', help='one per checkpoint (default: names)')
    parser.add_argument('--export', type=file_ending('.npz', '.csv'),
                        help='.npz or .csv file for the vectors; with several '
                        'checkpoints each has its number in the name')
    parser.add_argument('--perplexity', type=float, default=30.0)
    return parser.parse_args(argv)


def panel(embedded, name: str, title: str, args: argparse.Namespace):
    """Lay out the patients of one panel by one kind of the model's vectors."""
    import numpy as np

    from mmmedmask.visualization.embeddings import EmbeddingPanel, project_tsne
    if name not in embedded.vectors:
        raise ValueError(f'the model has no {name!r} vectors, only '
                         f'{list(embedded.vectors)}')
    vectors = embedded.vectors[name]
    there = np.isfinite(vectors).all(axis=1)
    if not there.all():
        print(f'{title}: {(~there).sum()} patients have no {name}')
    return EmbeddingPanel(f'{title}: {TITLES[name]}',
                          project_tsne(vectors[there], args.perplexity,
                                       args.seed), embedded.labels[there])


def draw(args: argparse.Namespace) -> list[str]:
    """Embed, draw and save; return what was written."""
    from mmmedmask import apis
    from mmmedmask.apis import patient_vectors
    from mmmedmask.config_files import named_files
    from mmmedmask.util.checks import check_not_read
    from mmmedmask.visualization.embeddings import draw_embeddings
    titles = args.titles or [
        'untrained' if checkpoint == UNTRAINED else Path(checkpoint).stem
        for checkpoint in args.checkpoints]
    if len(titles) != len(args.checkpoints):
        raise ValueError(f'{len(args.checkpoints)} checkpoints need as many '
                         f'--titles, got {len(titles)}')
    config = apis.load_config(args.config, args.cfg_options)
    exports = [] if args.export is None else [args.export] if len(
        args.checkpoints) == 1 else [
            args.export.with_stem(f'{args.export.stem}_{number}')
            for number in range(len(args.checkpoints))]
    check_not_read(exports, named_files(config.to_dict()))
    models = patient_vectors.build_models(config, args.checkpoints, UNTRAINED,
                                          args.device, args.seed)
    loader = patient_vectors.whole_bag_loader(config, args.split)
    embedded = [patient_vectors.extract_embeddings(model, loader)
                for model in models]
    for file, patients in zip(exports, embedded, strict=False):
        patient_vectors.save_embeddings(file, patients)
    picture = draw_embeddings(
        [[panel(patients, name, title, args)
          for patients, title in zip(embedded, titles, strict=True)]
         for name in args.vectors], embedded[0].classes)
    return [*(f'vectors: {file}' for file in exports),
            f'{len(embedded[0].labels)} patients: '
            f'{save_picture(picture, args.out)}']


def main(argv: Sequence[str] | None = None) -> None:
    draw_or_exit('visualize_embeddings.py', draw, parse_args(argv))


if __name__ == '__main__':
    run_tool(main)
