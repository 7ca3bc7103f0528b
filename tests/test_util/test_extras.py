"""Packages of extras are imported late, and missed in one line."""

import subprocess
import sys
import textwrap

import pytest

from mmmedmask.util.extras import import_extra, late_module


def test_a_late_module_is_imported_when_it_is_used(tmp_path, monkeypatch):
    name = 'module_of_test_a_late_module'
    (tmp_path / f'{name}.py').write_text('value = 3\n')
    monkeypatch.syspath_prepend(tmp_path)
    for late in late_module(name, 'slides'), late_module(name):
        assert name not in sys.modules
        assert late.value == 3
        assert sys.modules.pop(name).value == 3
    with pytest.raises(AttributeError, match='no attribute .other'):
        late.other  # noqa: B018


def test_what_is_missing_is_said_in_one_line():
    message = (r"^this needs no_such_package, which is not installed: "
               r"pip install 'mmmedmask\[genes\]'$")
    with pytest.raises(ModuleNotFoundError, match=message):
        late_module('no_such_package.part', 'genes').name  # noqa: B018
    with pytest.raises(ModuleNotFoundError, match='^a.parquet needs no_such'):
        import_extra('no_such_package', 'genes', 'a.parquet')


def test_what_a_package_itself_misses_is_not_hidden(tmp_path, monkeypatch):
    name = 'module_of_test_what_a_package_misses'
    (tmp_path / f'{name}.py').write_text('import no_such_package\n')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError,
                       match="^No module named 'no_such_package'$"):
        import_extra(name, 'slides')


@pytest.mark.slow
def test_nothing_that_registers_needs_an_extra():
    """What `pip install mmmedmask[openmmlab]` brings is enough."""
    code = textwrap.dedent("""
        import sys

        import mmmedmask

        for name in ('h5py', 'lifelines', 'mim', 'mmdet',
                     'mmseg', 'openslide', 'pandas', 'pyarrow', 'pycocotools',
                     'skimage', 'snakemake', 'tensorboard', 'timm'):
            sys.modules[name] = None
        import mmmedmask.apis
        from mmmedmask.registry import MODELS
        from mmmedmask.setup_env import register_all_modules
        register_all_modules()
        print(len(MODELS))
        """)
    result = subprocess.run([sys.executable, '-c', code],
                            capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 10
