"""Tabulate lesion coverage: two rows per folder, one run per seed below it.

    python tools/analysis_tools/summarize_lesion_coverage.py \
        work_dirs/msmae_busi work_dirs/supervised_busi

Reads the lesion_coverage.csv that mmmedmask.LesionCoverageHook writes and
prints a Markdown table: of the weights that training started with, if
at_start=True, and of the final ones, if training is over; mean over runs, and
from three runs on the 95 % interval of the mean (Student's t). Shares are in
points of 100, the gain is attention over a uniform map's. A value that some
runs lack has its own number of runs behind.
"""

import argparse
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmmedmask.util.file_walk import find_files
from mmmedmask.util.markdown_tables import markdown
from mmmedmask.util.run_tool import run_tool
from mmmedmask.util.table_files import read_table

# Column to its title and factor.
VALUES = {'attention_share': ('on the lesion', 100),
          'lesion_share': ('lesion', 100), 'attention_gain': ('gain', 1),
          'pointing': ('maximum on the lesion', 100),
          'pointing_chance': ('chance', 100), 'masked': ('lesion masked', 100),
          'masked_chance': ('chance', 100)}


def collect(folder: Path, moment: str) -> list[Mapping[str, str]]:
    """Read the last row of a moment of every run below a folder.

    A run that went on has no end before its last row. Runs that were measured
    on different numbers of images are a ValueError.
    """
    last_rows = {}
    for path in find_files(folder, 'lesion_coverage.csv'):
        if 'superseded' in path.relative_to(folder).parts:
            # Of runs that others have taken the place of.
            continue
        rows = [row for _, row in read_table(
            path, ('moment', 'num_images', *VALUES), empty=True).rows()]
        for row in rows[-1:] if moment == 'end' else rows:
            if row['moment'] == moment:
                last_rows[path] = row
    numbers = {row['num_images']: path for path, row in last_rows.items()}
    if len(numbers) > 1:
        raise ValueError(
            f'runs of one row ({moment}) must be measured on one number of '
            'images, got ' + ', '.join(f'{number} in {path}'
                                       for number, path in numbers.items()))
    return list(last_rows.values())


def mean_and_interval(values: Sequence[float | None]) -> str:
    """Mean, and from three values on its 95 % interval; a dash without any.

    Where some are None, the number of the others stands behind.
    """
    from mmmedmask.evaluation.paired_tests import interval_of_mean
    known = [value for value in values if value is not None]
    if not known:
        return '–'
    cell = f'{statistics.mean(known):.2f}'
    if len(known) > 2:
        _, low, high = interval_of_mean(known)
        cell += f' [{low:.2f}, {high:.2f}]'
    return cell if len(known) == len(values) else f'{cell} ({len(known)})'


def table(folders: Sequence[Path]) -> str:
    rows = [['runs', 'weights', 'n', 'images',
             *(title for title, _ in VALUES.values())]]
    for folder in folders:
        before = len(rows)
        for moment in ('start', 'end'):
            runs = collect(folder, moment)
            if not runs:
                continue
            cells = [folder.name, moment, str(len(runs)),
                     runs[0]['num_images']]
            for name, (_, factor) in VALUES.items():
                cells.append(mean_and_interval([
                    factor * float(run[name]) if run[name] else None
                    for run in runs]))
            rows.append(cells)
        if len(rows) == before:
            raise SystemExit(
                f'{folder} holds no lesion_coverage.csv with a start, or with '
                'an end as its last row; has training ended, and does its '
                'config have default_hooks.lesion_coverage = dict(type='
                "'mmmedmask.LesionCoverageHook')?")
    return markdown(rows)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folders', nargs='+', type=Path)
    args = parser.parse_args(argv)
    try:
        print(table(args.folders))
    except ValueError as error:
        raise SystemExit(f'summarize_lesion_coverage.py: {error}') from None


if __name__ == '__main__':
    run_tool(main)
