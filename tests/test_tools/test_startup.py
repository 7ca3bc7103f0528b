"""Every tool answers --help and a mistyped option before it imports much."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
TOOLS = sorted(
    str(path.relative_to(REPOSITORY))
    for path in REPOSITORY.glob('tools/**/*.py')
    if "if __name__ == '__main__'" in path.read_text('utf-8'))
#: Everything that takes more than a few hundredths of a second.
HEAVY = {'cv2', 'h5py', 'kornia', 'matplotlib', 'mmcv', 'mmdet', 'mmengine',
         'mmpretrain', 'mmseg', 'numpy', 'openslide', 'pandas', 'PIL',
         'pyarrow', 'rich', 'scipy', 'skimage', 'sklearn', 'snakemake',
         'tifffile', 'torch', 'torchvision', 'yaml'}
# Runs a tool as Python does, twice, and says what it has imported.
RUNNER = """
import json, os, runpy, sys
tool, *options = sys.argv[1:]
sys.path.insert(0, os.path.dirname(os.path.abspath(tool)))
codes = []
for option in options:
    sys.argv = [tool, option]
    try:
        runpy.run_path(tool, run_name='__main__')
    except SystemExit as exit:
        codes.append(exit.code)
print()
print(json.dumps([codes, sorted(sys.modules)]))
"""


def test_tools_are_found():
    assert {'tools/train.py', 'tools/misc/doctor.py'} <= set(TOOLS)


@pytest.mark.parametrize('tool', TOOLS)
def test_help_and_mistyped_options_import_nothing_slow(tool):
    result = subprocess.run(
        [sys.executable, '-c', RUNNER, tool, '--help', '--no-such-option'],
        cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    text, answer = result.stdout.rsplit('\n', 2)[:2]
    codes, modules = json.loads(answer)
    assert codes == [0, 2]
    assert text.startswith('usage: ')
    assert '\nerror: ' in result.stderr or ': error: ' in result.stderr
    assert not HEAVY & {name.split('.')[0] for name in modules}
