"""Pair slides of one source with genes of another, of the same class.

No patient has both halves, so what a model learns of how they go together is
nothing, by construction. It lets all stages run at real sizes where no paired
cohort is at hand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torchvision.models import resnet18

from mmmedmask.apis import tile_bags
from mmmedmask.datasets.conversion import Conversion
from mmmedmask.datasets.expression.table import load_expression
from mmmedmask.datasets.slides.feature_writer import FeatureWriter
from mmmedmask.util.atomic_files import write_csv, write_text
from mmmedmask.util.checks import check_multiple, check_not_read
from mmmedmask.util.nested import as_list

PAIRING_NOTE = (
    'SYNTHETIC PAIRING. Slides and gene expression in this folder come from '
    'different patients, paired at random within a class. Scores on it show '
    'that a model runs, not how well it classifies patients.')
SPLITS = ('train', 'val', 'test')
STRIDE = 8  # Pixels between two patches of a tile.


def pair_within_classes(cases: Mapping[str, str],
                        samples: Mapping[str, Sequence[str]],
                        seed: int = 0) -> dict[str, str]:
    """Give each case one of its class's ``samples``, each at most once.

    Example:
        >>> pair_within_classes({'case-1': 'acc'}, {'acc': ['TCGA-1']})
        {'case-1': 'TCGA-1'}
    """
    paired = {}
    for number, label in enumerate(sorted(set(cases.values()))):
        members = sorted(case for case, other in cases.items()
                         if other == label)
        if label not in samples:
            raise ValueError(f'there are no samples of the class {label!r}, '
                             f'only of {sorted(samples)}')
        names = sorted(samples[label])
        if len(set(names)) < len(members):
            raise ValueError(
                f'the class {label!r} has {len(members)} cases, but '
                f'{len(set(names))} samples: each is given to one case')
        order = np.random.default_rng([seed, number]).permutation(len(names))
        paired.update({case: names[place]
                       for case, place in zip(members, order, strict=False)})
    return paired


@dataclass
class PairedCohort(Conversion):
    """Tiles as bags, paired with expression.

    Attributes:
        tiles: Folders of tiles; their names are the classes.
        genes: A file of expression for each folder, in the same order.
        unit: Unit of the expression, as of ``load_expression``.
        groups: csv files that tell which tiles come from one source; None
            takes each tile for a source of its own.
        bag_size: Tiles in a bag, about.
        tile_size: Side in pixels that tiles are resized to.
        shares: Shares of the bags that go to train, val and test.
        seed: Of the bags, splits, pairs and the random network.

    Example:
        >>> PairedCohort([Path('acc'), Path('scc')], [Path('acc.csv')])
        Traceback (most recent call last):
        ValueError: 2 folders of tiles need as many files of genes, got 1
    """

    tiles: str | Path | Sequence[str | Path]
    genes: str | Path | Sequence[str | Path]
    unit: str | None = None
    groups: str | Path | Sequence[str | Path] | None = None
    bag_size: int = 8
    tile_size: int = 224
    shares: Sequence[float] = (.6, .2, .2)
    seed: int = 0
    notices = ('This is a synthetic pairing: see README.txt there.', )

    def __post_init__(self) -> None:
        self.tiles, self.genes = (list(map(Path, as_list(places)))
                                  for places in (self.tiles, self.genes))
        if len(self.tiles) != len(self.genes):
            raise ValueError(f'{len(self.tiles)} folders of tiles need as '
                             f'many files of genes, got {len(self.genes)}')
        check_multiple('tile_size', self.tile_size, STRIDE)

    def write(self, out: Path) -> list[str]:
        """Write features, expression, ``cohort.csv`` and ``README.txt``."""
        check_not_read(
            [out / 'cohort.csv', *(out / 'expression' / f'{folder.name}.npz'
                                   for folder in self.tiles)],
            [*self.genes, *as_list(self.groups or ())])
        groups = None if self.groups is None else tile_bags.read_groups(
            self.groups)
        bags = tile_bags.split_bags(
            tile_bags.make_bags(tile_bags.find_tiles(self.tiles, groups),
                                self.bag_size, self.seed),
            dict(zip(SPLITS, self.shares, strict=True)), self.seed)
        tables = {folder.name: load_expression(path, self.unit)
                  for folder, path in zip(self.tiles, self.genes, strict=True)}
        pairs = pair_within_classes(
            {bag.name: bag.label for bag in bags},
            {label: table.case_ids for label, table in tables.items()},
            self.seed)
        for label, table in tables.items():
            taken = [row for row, name in enumerate(table.case_ids)
                     if name in pairs.values()]
            path = out / 'expression' / f'{label}.npz'
            table.select(taken).save(path)
        network = _random_network(self.seed)
        counts = []
        for bag in bags:
            features, coords = _encode_bag(bag.tiles, network, self.tile_size)
            writer = FeatureWriter(
                out / 'features' / f'{bag.name}.h5', coords, features.shape[1],
                f'resnet18-block2-random-{self.seed}', dict(seed=self.seed),
                dict(patch_size=STRIDE, patch_size_level0=STRIDE, overlap=0))
            writer.write(0, features)
            writer.finish()
            counts.append(len(features))
        write_csv(out / 'cohort.csv',
                  ('case_id', 'slide_id', 'label', 'split', 'rna_id'),
                  [(bag.name, bag.name, bag.label, bag.split,
                    pairs[bag.name]) for bag in bags])
        write_text(out / 'README.txt', f'{PAIRING_NOTE}\n\nTiles: '
                   f'{", ".join(folder.name for folder in self.tiles)}. '
                   f'Genes: {", ".join(path.name for path in self.genes)}.\n')
        return [f'{len(counts)} bags of {min(counts)} to {max(counts)} '
                f'patches: {out / "cohort.csv"}']


def _random_network(seed: int) -> torch.nn.Module:
    """The first half of a ResNet-18: (B, 3, H, W) to (B, 128, H/8, W/8)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = resnet18()
    return torch.nn.Sequential(*list(network.children())[:6]).eval()


def _encode_bag(tiles: Sequence[tile_bags.Tile], network: torch.nn.Module,
                tile_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, 128) and corners (x, y) in a mosaic (N, 2) of patches."""
    side = tile_size // STRIDE
    cells = np.stack(np.mgrid[:side, :side][::-1], axis=-1).reshape(-1, 2)
    features, coords = [], []
    for tile, corner in zip(tiles,
                            tile_bags.mosaic_coords(len(tiles), tile_size),
                            strict=True):
        picture = torch.from_numpy(
            tile_bags.read_tile_file(tile, tile_size)).permute(
                2, 0, 1)[None].float() / 127.5 - 1
        with torch.no_grad():
            maps = network(picture)[0]
        features.append(maps.flatten(1).t().numpy())
        coords.append(corner + STRIDE * cells)
    return np.concatenate(features), np.concatenate(coords)
