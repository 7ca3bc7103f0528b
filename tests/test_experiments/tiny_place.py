"""A folder with a tiny recipe, its data and tools that take no time."""

import json
import runpy
import sys

import pytest
from tiny_recipe import tiny_recipe, write_data, write_recipe, write_tools

from mmmedmask.experiments.execute import execute_here, find_failures
from mmmedmask.experiments.manifest import read_manifest
from mmmedmask.experiments.plan import plan_runs
from mmmedmask.experiments.results_table import table_files, write_tables
from mmmedmask.experiments.run_job import StepFailedError
from mmmedmask.experiments.schema import read_recipe


def start_here(run, step, environment, locks):
    """Do a step in this process, which is faster."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', list(step.command[1:]))
        try:
            runpy.run_path(step.command[1], run_name='__main__')
        except SystemExit as error:
            raise StepFailedError(f'{step.name}: {error}') from None


class Place:
    """The folder, with a recipe, its data and its tools."""

    def __init__(self, folder):
        self.folder = folder
        self.data = write_data(folder / 'data')
        self.tools = write_tools(folder / 'tools')
        self.calls_file = folder / 'calls.jsonl'
        self.recipe_file = write_recipe(folder)

    def change(self, ours=None, **changes):
        """Change the recipe."""
        self.recipe_file = write_recipe(self.folder,
                                        tiny_recipe(ours, **changes))

    def plan(self, seeds=(0, ), rows=('ours', ), work_dir='runs', **options):
        recipe = read_recipe(self.recipe_file)
        options = dict(scale='paper', data_root=self.data) | options
        return plan_runs([(recipe, [recipe.row(row) for row in rows])],
                         folder=self.folder / work_dir, seeds=seeds, **options)

    def run(self, plan, start=start_here):
        """Run a plan in this process; return what failed."""
        execute_here(plan, self.tools, start)
        return find_failures(plan)

    def results(self, plan):
        return [read_manifest(run.folder)['results'] for run in plan.runs]

    def table(self, plan):
        """The csv of the plan's table, and its Markdown."""
        recipe, _ = plan.tables[0]
        page = write_tables(plan, recipe, 'the command')
        return table_files(plan, recipe)[1].read_bytes(), page

    def tools_called(self):
        lines = self.calls_file.read_text().splitlines() \
            if self.calls_file.is_file() else ()
        return [json.loads(line)[0] for line in lines]
