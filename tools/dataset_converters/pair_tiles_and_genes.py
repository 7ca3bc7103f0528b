"""Make a SYNTHETIC image-omic cohort at real sizes, to try GiMP's stages.

    python tools/dataset_converters/pair_tiles_and_genes.py \
        --tiles lung_aca lung_scc \
        --groups lung_aca_clusters.csv lung_scc_clusters.csv \
        --genes TCGA_ACC_Counts.exp.gz TCGA_UVM_Counts.exp.gz \
        --unit counts --out data/synthetic_pairs

Tiles of one source are in one bag, and so in one split. Each tile becomes a
grid of patches: the features of a convolutional network at every 8th pixel,
28 x 28 patches of a tile of 224 pixels, so that a few tiles are a bag as long
as a slide, whose neighbours resemble each other. The network is a ResNet-18
up to its second block with random weights.

The first file of genes is paired with the first folder of tiles, and so on:
the pairing is at random within these made-up classes. No patient has both
halves, and the genes need not even be of the same organ. README.txt says so.
"""

import argparse
import csv
from pathlib import Path

SPLITS = ('train', 'val', 'test')
STRIDE = 8


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--tiles', nargs='+', type=Path, required=True,
        help='folders of tiles; their names are the classes')
    parser.add_argument(
        '--genes', nargs='+', type=Path, required=True,
        help='a file of expression for each folder, in the same order')
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument(
        '--unit', help='unit of the expression, as of load_expression')
    parser.add_argument(
        '--groups', nargs='+', type=Path, metavar='CSV',
        help='csv files that tell which tiles come from one source (default: '
        'each tile from its own)')
    parser.add_argument(
        '--bag-size', type=int, default=8,
        help='tiles in a bag, about (default: %(default)s)')
    parser.add_argument(
        '--tile-size', type=int, default=224,
        help='side in pixels that tiles are resized to, a multiple of '
        f'{STRIDE} (default: %(default)s)')
    parser.add_argument(
        '--split', nargs=3, type=float, default=(.6, .2, .2),
        metavar=('TRAIN', 'VAL', 'TEST'),
        help='shares of the bags of each class (default: .6 .2 .2)')
    parser.add_argument(
        '--seed', type=int, default=0,
        help='of the bags, splits, pairs and the random network')
    args = parser.parse_args()
    if len(args.tiles) != len(args.genes):
        parser.error(f'{len(args.tiles)} folders of tiles need as many files '
                     f'of genes, got {len(args.genes)}')
    if args.tile_size < STRIDE or args.tile_size % STRIDE:
        parser.error(f'--tile-size must be a multiple of {STRIDE}, got '
                     f'{args.tile_size}')
    return args


def build_network(seed: int):
    """The first half of a ResNet-18, with random weights.

    Args:
        seed: Seed of the weights.

    Returns:
        From (B, 3, H, W) to (B, 128, H / 8, W / 8).
    """
    import torch
    from torchvision.models import resnet18
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = resnet18()
    return torch.nn.Sequential(*list(network.children())[:6]).eval()


def encode_bag(tiles, network, tile_size: int):
    """Features and places of all patches of a bag.

    Args:
        tiles: The tiles, from ``mmmedmask.apis.tile_bags``.
        network: See :func:`build_network`.
        tile_size: Side of a tile in pixels.

    Returns:
        float32 (N, 128), tile after tile, row by row; int64 (N, 2), (x, y)
        of the upper left corners in a mosaic of the tiles.
    """
    import numpy as np
    import torch

    from mmmedmask.apis.tile_bags import mosaic_coords, read_tile
    side = tile_size // STRIDE
    cells = np.stack(np.mgrid[:side, :side][::-1], axis=-1).reshape(-1, 2)
    features, coords = [], []
    for tile, corner in zip(tiles, mosaic_coords(len(tiles), tile_size),
                            strict=True):
        picture = torch.from_numpy(read_tile(tile, tile_size)).permute(
            2, 0, 1)[None].float() / 127.5 - 1
        with torch.no_grad():
            maps = network(picture)[0]
        features.append(maps.flatten(1).t().numpy())
        coords.append(corner + STRIDE * cells)
    return np.concatenate(features), np.concatenate(coords)


def write_cohort(args: argparse.Namespace) -> list[int]:
    """Write features, expression, ``cohort.csv`` and ``README.txt``.

    Args:
        args: The command line.

    Returns:
        Patches of each bag.
    """
    from mmmedmask.apis.tile_bags import (
        find_tiles,
        make_bags,
        read_groups,
        split_bags,
    )
    from mmmedmask.datasets.conversion.pairing import (
        PAIRING_NOTE,
        pair_within_classes,
    )
    from mmmedmask.datasets.expression.table import load_expression
    from mmmedmask.datasets.slides.feature_writer import FeatureWriter
    groups = None if args.groups is None else read_groups(args.groups)
    shares = {name: share for name, share in zip(
        SPLITS, args.split, strict=True) if share}
    bags = split_bags(
        make_bags(find_tiles(args.tiles, groups), args.bag_size, args.seed),
        shares, args.seed)
    tables = {
        folder.name: load_expression(path, args.unit)
        for folder, path in zip(args.tiles, args.genes, strict=True)}
    pairs = pair_within_classes(
        {bag.name: bag.label for bag in bags},
        {label: table.case_ids for label, table in tables.items()},
        args.seed)
    for label, table in tables.items():
        taken = [row for row, name in enumerate(table.case_ids)
                 if name in pairs.values()]
        path = args.out / 'expression' / f'{label}.npz'
        path.parent.mkdir(parents=True, exist_ok=True)
        table.select(taken, [table.case_ids[row] for row in taken]).save(path)
    network = build_network(args.seed)
    encoder = f'resnet18-block2-random-{args.seed}'
    counts = []
    for bag in bags:
        features, coords = encode_bag(bag.tiles, network, args.tile_size)
        writer = FeatureWriter(
            args.out / 'features' / f'{bag.name}.h5', coords,
            features.shape[1], encoder, dict(seed=args.seed),
            dict(patch_size=STRIDE, patch_size_level0=STRIDE, overlap=0))
        writer.write(0, features)
        writer.finish()
        counts.append(len(features))
    with (args.out / 'cohort.csv').open(
            'w', newline='', encoding='utf-8') as file:
        rows = csv.writer(file, lineterminator='\n')
        rows.writerow(['case_id', 'slide_id', 'label', 'split', 'rna_id'])
        rows.writerows([bag.name, bag.name, bag.label, bag.split,
                        pairs[bag.name]] for bag in bags)
    (args.out / 'README.txt').write_text(
        f'{PAIRING_NOTE}\n\nTiles: '
        f'{", ".join(folder.name for folder in args.tiles)}. Genes: '
        f'{", ".join(path.name for path in args.genes)}.\n', 'utf-8')
    return counts


def main() -> None:
    """Write what the command line names."""
    args = parse_args()

    import mmmedmask  # noqa: F401  (mends gaps in what is imported next)
    from mmmedmask.datasets.image_io import ImageFileError
    try:
        counts = write_cohort(args)
    except (ValueError, FileNotFoundError, ImageFileError) as error:
        raise SystemExit(f'pair_tiles_and_genes.py: {error}') from None
    print(f'{len(counts)} bags of {min(counts)} to {max(counts)} patches: '
          f'{args.out / "cohort.csv"}')
    print('This is a synthetic pairing: see README.txt there.')


if __name__ == '__main__':
    main()
