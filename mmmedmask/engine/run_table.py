"""Tables of what is measured while a run trains, which go on with the run."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.runner import Runner

from mmmedmask.engine.checkpoint.run_folder import supersede
from mmmedmask.functional.randomness import stream_seed
from mmmedmask.util.atomic_files import csv_text, write_text
from mmmedmask.util.table_files import read_table


class RunTable:
    """A csv in the work dir whose rows are in the states of the run, too.

    So a resumed run goes on with the rows of its own state, if they were
    measured on the same ``samples``, by name, with the same ``options``, and
    writes later ones anew. A state that has no table, of an earlier version,
    goes on with the rows there up to its epoch. Any other table is moved into
    ``superseded`` with its picture.

    Args:
        columns: Their names, ``epoch`` among them, to types of their cells.

    Attributes:
        path: The table.
        picture: Where it is drawn.
        rows: Cells by column, of which states have what is in this list.
        measured_anew: Whether the run goes on from a state whose rows are of
            other samples or options, and says nothing of those here.
    """

    def __init__(self, runner: Runner, name: str, columns: Mapping[str, type],
                 samples: Iterable[str],
                 options: Mapping[str, object]) -> None:
        self.path = Path(runner.work_dir, f'{name}.csv')
        self.picture = self.path.with_suffix('.png')
        self.columns = columns
        options = dict(options, samples=stream_seed(0, '\n'.join(samples)))
        hub = runner.message_hub
        known = hub.runtime_info.get(self.path.name) if runner.iter else None
        self.measured_anew = bool(known) and known['options'] != options
        ours = runner.iter and not self.measured_anew
        self.rows: list[dict] = [] if not ours else \
            known['rows'] if known else self._read(runner.epoch)
        hub.update_info(self.path.name, dict(options=options, rows=self.rows))
        if not is_main_process():
            return
        # Behind the rows of a state, none at first, are those of after it.
        begin = self._text(known['rows'] if ours and known else [])
        if self.path.is_file() and not (ours and self.path.read_text(
                'utf-8', errors='replace').startswith(begin)):
            place = supersede(runner, [
                file for file in (self.path, self.picture) if file.is_file()])
            runner.logger.warning(
                f'{self.path} is not of this run as it is now, and is in '
                f'{place}.')
        if self.rows:
            self.write()

    def _read(self, epoch: int) -> list[dict]:
        """Read the rows of the file up to an epoch, if it has our columns."""
        if not self.path.is_file():
            return []
        table = read_table(self.path, empty=True)
        if table.names != tuple(self.columns):
            return []
        rows = [{name: self.columns[name](cell) for name, cell in row.items()}
                for _, row in table.rows()]
        return [row for row in rows if int(row['epoch']) <= epoch]

    def _text(self, rows: Sequence[Mapping]) -> str:
        return csv_text([[*self.columns], *(
            [row[name] for name in self.columns] for row in rows)])

    def write(self) -> None:
        """Write the table, whole or not at all."""
        write_text(self.path, self._text(self.rows))
