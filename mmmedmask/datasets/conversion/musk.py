"""Musk: molecules as bags of their shapes, the oldest test of bag learning.

Dietterich et al., Artificial Intelligence 1997: a molecule is musk if one of
its shapes is, of 166 features each, distances in hundredths of an angstrom.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmmedmask.datasets.conversion import Conversion, LayoutError
from mmmedmask.datasets.slides.cohort import Case
from mmmedmask.datasets.slides.folds import draw_folds, write_folds
from mmmedmask.util.atomic_files import atomic_path, write_csv
from mmmedmask.util.table_files import check_cell, read_table

NUM_FEATURES = 166
CLASSES = {'0': 'non-musk', '1': 'musk'}
# Features are stored in angstrom.
UNITS_PER_ANGSTROM = 100


@dataclass(frozen=True)
class Molecule:
    """A bag: features of a molecule's shapes in angstrom, float32 (N, 166)."""

    name: str
    label: str
    shapes: np.ndarray


def read_molecules(path: Path) -> list[Molecule]:
    """Read the molecules, by number, of a table with a shape in each line.

    Columns are the molecule's label (0 or 1) and number, and 166 features.
    """
    table = read_table(path, header=False)
    if len(table.names) != NUM_FEATURES + 2:
        raise LayoutError(f'{path} has {len(table.names)} columns, expected '
                          f'label, molecule and {NUM_FEATURES} features')
    values = table.numbers(range(2, len(table.names)))
    labels, shapes = {}, defaultdict(list)
    for number, (where, row) in enumerate(table.rows('0', '1')):
        check_cell(where, 'the label', row['0'], CLASSES)
        if not row['1'].isdigit():
            raise LayoutError(f'{where}: the molecule must be a number, got '
                              f'{row["1"]!r}')
        molecule = int(row['1'])
        if not np.isfinite(values[number]).all():
            raise LayoutError(f'{where} has a feature that is not finite')
        if labels.setdefault(molecule, row['0']) != row['0']:
            raise LayoutError(f'{where} gives molecule {molecule} '
                              'another label than a line before')
        shapes[molecule].append(values[number])
    width = len(str(max(shapes)))
    return [
        Molecule(f'molecule-{molecule:0{width}d}', CLASSES[labels[molecule]],
                 np.array(shapes[molecule], np.float32) / UNITS_PER_ANGSTROM)
        for molecule in sorted(shapes)]


@dataclass
class MuskConversion(Conversion):
    """Molecules, to be written as bags.

    Fold k tests on part k and trains on all others, as published results do:
    there is no validation split, and nothing to choose an epoch by.
    """

    molecules: list[Molecule]
    num_folds: int = 10
    seed: int = 0
    notices = ()

    def write(self, out: Path) -> list[str]:
        """Write ``features/NAME.npy``, ``cohort.csv`` and ``folds/``."""
        cases = [Case(molecule.name, molecule.label)
                 for molecule in self.molecules]
        folds = draw_folds(cases, self.num_folds, self.seed, validate=False)
        write_folds(out / 'folds', folds, dict(seed=self.seed, source='musk'))
        for molecule in self.molecules:
            with atomic_path(out / 'features' / f'{molecule.name}.npy',
                             durable=False) as temporary:
                np.save(temporary, molecule.shapes)
        write_csv(out / 'cohort.csv', ('case_id', 'slide_id', 'label'),
                  [(case.case_id, case.case_id, case.label) for case in cases])
        sizes = [len(molecule.shapes) for molecule in self.molecules]
        counts = dict(Counter(case.label for case in cases))
        return [f'{out / "cohort.csv"}: {len(cases)} molecules {counts} of '
                f'{min(sizes)} to {max(sizes)} shapes, {self.num_folds} folds']
