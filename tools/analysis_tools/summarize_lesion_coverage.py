"""Tabulate lesion coverage: two rows per folder, one run per seed below it.

    python tools/analysis_tools/summarize_lesion_coverage.py \
        work_dirs/msmae_busi work_dirs/supervised_busi

Reads the lesion_coverage.csv that mmmedmask.LesionCoverageHook writes and
prints a Markdown table: of the weights that training started with, if
at_start=True, and of the final ones; mean over runs, and from three runs on
the 95 % interval of the mean (Student's t). Shares are in points of 100, the
gain is attention over a uniform map's.
"""

import argparse
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmmedmask.util.markdown_tables import markdown
from mmmedmask.util.table_files import read_table

# Column to its title and factor.
VALUES = {'attention_share': ('on the lesion', 100),
          'lesion_share': ('lesion', 100), 'attention_gain': ('gain', 1),
          'pointing': ('maximum on the lesion', 100),
          'pointing_chance': ('chance', 100), 'masked': ('lesion masked', 100),
          'masked_chance': ('chance', 100)}


def collect(folder: Path, moment: str) -> list[Mapping[str, str]]:
    """Read the last row of a moment of every run below a folder."""
    last_rows = []
    for path in sorted(folder.rglob('lesion_coverage.csv')):
        rows = [row for _, row in read_table(path, empty=True).rows()
                if row['moment'] == moment]
        last_rows += rows[-1:]
    return last_rows


def mean_and_interval(values: Sequence[float]) -> str:
    """Mean, and from three values on the 95 % interval of the mean."""
    from mmmedmask.evaluation.paired_tests import interval_of_mean
    if len(values) < 3:
        return f'{statistics.mean(values):.2f}'
    mean, low, high = interval_of_mean(values)
    return f'{mean:.2f} [{low:.2f}, {high:.2f}]'


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
                values = [factor * float(run[name]) for run in runs
                          if run[name]]
                cells.append(mean_and_interval(values) if values else '–')
            rows.append(cells)
        if len(rows) == before:
            raise SystemExit(
                f'{folder} holds no lesion_coverage.csv; does its config '
                "have default_hooks.lesion_coverage = dict(type="
                "'mmmedmask.LesionCoverageHook')?")
    return markdown(rows)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folders', nargs='+', type=Path)
    print(table(parser.parse_args(argv).folders))


if __name__ == '__main__':
    main()
