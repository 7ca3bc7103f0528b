"""The file in which a run's lesion coverage is kept, row by row."""

import csv
import os
from collections.abc import Mapping
from pathlib import Path

from mmmedmask.functional.lesion_coverage import SUMMARY_NAMES

REFRESH, END = 'refresh', 'end'
COLUMNS = ('epoch', 'iteration', 'moment', *SUMMARY_NAMES, 'masked_gain',
           'num_images', 'num_without_lesion')


class CoverageTable:
    """A csv with one row per measurement.

    Columns are ``epoch`` and ``iteration``, how much of the training was
    over; ``moment``, ``refresh`` of the maps or ``end`` of training; and the
    values of :func:`~mmmedmask.functional.lesion_coverage.summarize_coverage`
    (empty where a value is not defined).

    Args:
        path: The csv.

    Raises:
        ValueError: If there is a file of this name with other columns.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.rows: list[dict[str, str]] = []
        if self.path.is_file():
            with self.path.open(newline='', encoding='utf-8') as stream:
                reader = csv.DictReader(stream)
                if tuple(reader.fieldnames or ()) != COLUMNS:
                    raise ValueError(
                        f'{self.path} has other columns than a table of '
                        f'lesion coverage: {reader.fieldnames}; move it '
                        'away')
                self.rows = list(reader)

    def cut(self, iteration: int) -> int:
        """Forget what came later than where a run starts.

        A run that was interrupted goes on from its last checkpoint; what it
        had measured after that, it measures once more.

        Args:
            iteration: Iterations that the run starts with; 0 forgets all.

        Returns:
            How many rows are gone.
        """
        kept = [row for row in self.rows
                if iteration > 0 and int(row['iteration']) <= iteration]
        gone = len(self.rows) - len(kept)
        self.rows = kept
        return gone

    def add(self, epoch: int, iteration: int, moment: str,
            values: Mapping[str, float]) -> None:
        """Add or replace a row and write the file, whole or not at all.

        Args:
            epoch: Epochs that are over.
            iteration: Iterations that are over.
            moment: ``'refresh'`` or ``'end'``.
            values: What was measured.
        """
        row = dict.fromkeys(COLUMNS, '') | dict(
            epoch=str(epoch), iteration=str(iteration), moment=moment)
        for name, value in values.items():
            row[name] = str(value) if isinstance(value, int) else (
                f'{value:.6g}')
        self.rows = [
            other for other in self.rows
            if (other['iteration'], other['moment']) != (str(iteration),
                                                         moment)
        ]
        self.rows.append(row)
        partial = self.path.with_name(self.path.name + '.part')
        with partial.open('w', newline='', encoding='utf-8') as stream:
            writer = csv.DictWriter(stream, COLUMNS, lineterminator='\n')
            writer.writeheader()
            writer.writerows(self.rows)
        os.replace(partial, self.path)

    def curve(self, name: str) -> list[tuple[int, float]]:
        """Read a column.

        Args:
            name: The column.

        Returns:
            Pairs of epoch and value, of rows that have one.
        """
        return [(int(row['epoch']), float(row[name])) for row in self.rows
                if row[name]]
