"""Tables of what is measured while a run trains, which go on with the run."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.runner import Runner

from mmmedmask.engine.checkpoint.run_folder import supersede
from mmmedmask.functional.randomness import stream_seed
from mmmedmask.util.atomic_files import csv_text, write_text


class RunTable:
    """A csv in the work dir whose rows are in the states of the run, too.

    So a resumed run goes on with the rows of its own state, if they were
    measured on the same ``samples``, by name, with the same ``options``, and
    writes later ones anew. Any other table there is moved into
    ``superseded`` with its picture.

    Attributes:
        path: The table.
        picture: Where it is drawn.
        rows: Cells by column, of which states have what is in this list.
    """

    def __init__(self, runner: Runner, name: str, columns: Sequence[str],
                 samples: Iterable[str],
                 options: Mapping[str, object]) -> None:
        self.path = Path(runner.work_dir, f'{name}.csv')
        self.picture = self.path.with_suffix('.png')
        self.columns = columns
        options = dict(options, samples=stream_seed(0, '\n'.join(samples)))
        hub = runner.message_hub
        known = hub.runtime_info.get(self.path.name) if runner.iter else None
        self.rows: list[dict] = known['rows'] \
            if known and known['options'] == options else []
        hub.update_info(self.path.name, dict(options=options, rows=self.rows))
        if not is_main_process():
            return
        if self.path.is_file() and not (self.rows and self.path.read_text(
                'utf-8', errors='replace').startswith(self._text())):
            place = supersede(runner, [
                file for file in (self.path, self.picture) if file.is_file()])
            runner.logger.warning(
                f'{self.path} is not of this run as it is now, and is in '
                f'{place}.')
        if self.rows:
            self.write()

    def _text(self) -> str:
        return csv_text([self.columns, *([row[name] for name in self.columns]
                                         for row in self.rows)])

    def write(self) -> None:
        """Write the table, whole or not at all."""
        write_text(self.path, self._text())
