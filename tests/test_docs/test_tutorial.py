"""The notebook runs from the first cell to the last, and keeps no outputs.

Its cells run in a copy of this process, one after the other as in a kernel, so
they are plain Python. Outputs are not committed: they would be an older
version's, and a reader has them within a minute.
"""

import ast
import os
import re
import subprocess
from pathlib import Path

import nbformat
import numpy as np
import pytest
from commands import forget_mmengine_state
from documents import ROOT
from PIL import Image
from processes import run_forked

from mmmedmask.apis import load_config

NOTEBOOK = nbformat.read(ROOT / 'demo' / 'mmmedmask_tutorial.ipynb', 4)


def code():
    return [cell for cell in NOTEBOOK.cells if cell.cell_type == 'code']


def run_cell(source, names):
    """Run a cell: the value of its last line, if that is an expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, 'cell', 'exec'), names)
    return last and eval(compile(ast.Expression(last.value), 'cell', 'eval'),
                         names)


def check_notebook(folder):
    """Run all cells in an empty folder, and look at what they show."""
    forget_mmengine_state(loggers=True)
    os.chdir(folder)
    names = {'__name__': '__main__'}
    shown = [run_cell(cell.source, names) for cell in code()]
    pictures = [np.asarray(value) for value in shown
                if isinstance(value, Image.Image)]
    assert len(pictures) == 5
    assert all(picture.std() > 10 for picture in pictures)
    scores = next(value for value in shown if isinstance(value, dict))
    assert list(scores) == ['colour', 'random', 'cmim']
    assert all(set(row) == {'rgb/knn', 'rgb/logistic'}
               and all(0 <= score <= 1 for score in row.values())
               for row in scores.values())
    work = names['work']
    assert (work / 'map.html').is_file()
    log = next((work / 'detector').rglob('*.log')).read_text('utf-8')
    assert 'Load check of' in log
    assert list((work / 'detector').glob('iter_*.pth'))
    # What it points to works from the repository's folder, too.
    os.chdir('/')
    for name in ('my_tiles.py', 'my_glands.py'):
        config = load_config(work / name)
        assert Path(config.train_dataloader.dataset.data_root).is_absolute()


def test_it_runs(tmp_path):
    assert run_forked(lambda: check_notebook(tmp_path)) == [0]


def test_what_it_leaves_is_ignored():
    """Jupyter's kernel works in the notebook's folder."""
    config, = re.findall(r'tools/train\.py (\S+)`', NOTEBOOK.cells[-1].source)
    assert config == 'demo/tutorial_output/my_tiles.py'
    result = subprocess.run(
        ['git', '-C', ROOT, 'check-ignore', '--no-index', config, '.venv'],
        capture_output=True, text=True, check=False)
    if result.returncode > 1:
        pytest.skip('not a git checkout')
    assert result.stdout.split() == [config, '.venv']


def test_it_keeps_no_outputs():
    nbformat.validate(NOTEBOOK)
    assert [cell.source for cell in code()
            if cell.outputs or cell.execution_count] == []
