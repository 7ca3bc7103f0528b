"""Where metrics put their files, and tables that are written whole."""

import csv
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from mmengine.logging import MMLogger


def output_folder(out_dir: str | None) -> Path | None:
    """Find the folder for the files of a metric.

    Args:
        out_dir: The folder; None takes that of the run's log,
            ``WORK_DIR/TIMESTAMP``.

    Returns:
        The folder, which need not exist; None if there is no log file.
    """
    if out_dir is not None:
        return Path(out_dir)
    for handler in MMLogger.get_current_instance().handlers:
        if isinstance(handler, logging.FileHandler):
            return Path(handler.baseFilename).parent
    return None


def write_table(file: str | Path, columns: Sequence[str],
                rows: Iterable[Sequence]) -> None:
    """Write a csv, whole or not at all.

    Args:
        file: The csv to (over)write.
        columns: Its first line.
        rows: The others.
    """
    file = Path(file)
    partial = file.with_name(file.name + '.part')
    with partial.open('w', newline='', encoding='utf-8') as stream:
        writer = csv.writer(stream, lineterminator='\n')
        writer.writerow(columns)
        writer.writerows(rows)
    os.replace(partial, file)


def read_table(file: str | Path,
               columns: Sequence[str],
               what: str) -> tuple[list[str], list[dict[str, str]]]:
    """Read a csv that has at least some columns.

    Args:
        file: The csv.
        columns: Columns that it needs.
        what: What such a file is, for the message.

    Returns:
        Its columns, and one dict per row.

    Raises:
        ValueError: If a column is missing, there is no row, or a row is
            longer or shorter than the first line.
    """
    with Path(file).open(newline='', encoding='utf-8-sig') as stream:
        reader = csv.DictReader(stream)
        found = list(reader.fieldnames or [])
        rows = list(reader)
    if not set(columns) <= set(found) or not rows:
        raise ValueError(
            f'{file} is no {what}: it needs the columns '
            f'{", ".join(columns)} and rows, got {len(rows)} rows of {found}')
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise ValueError(f'{file} is no {what}: line {number} has '
                             f'another number of cells than {found}')
    return found, rows
