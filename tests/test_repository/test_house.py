"""The rules of the house: what may import what, and where things lie.

They are read from the source, so nothing is imported here. That models need
neither mmdet nor mmseg is tested in ``test_registry.py``, in processes.
"""

import ast
import re
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / 'mmmedmask'
MODULES = {path.relative_to(PACKAGE).as_posix():
           ast.parse(path.read_text('utf-8'))
           for path in sorted(PACKAGE.rglob('*.py'))}


def imports_of(tree, anywhere=True):
    """Modules that a module imports: ``from a import b`` gives ``a.b``."""
    for node in ast.walk(tree) if anywhere else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = '.' * node.level + (node.module or '')
            yield from (f'{start}.{alias.name}' for alias in node.names)


def imports_below(folder, anywhere=True):
    """Pairs of a file below a folder of the package, and what it imports."""
    return [(name, module) for name, tree in MODULES.items()
            if name.startswith(folder)
            for module in imports_of(tree, anywhere)]


def starts_with(module, *packages):
    return any(f'{module}.'.startswith(f'{package}.') for package in packages)


def test_every_module_is_found_and_says_what_it_is_for():
    assert len(MODULES) > 150
    assert ('functional/warp.py', 'torch') in imports_below('functional/')
    assert [name for name, tree in MODULES.items()
            if not ast.get_docstring(tree)] == []


def test_functional_needs_torch_alone():
    may = 'torch', 'mmmedmask.functional', 'mmmedmask.util'
    assert [(name, module) for name, module in imports_below('functional/')
            if not starts_with(module, *may)
            and module.partition('.')[0] not in sys.stdlib_module_names] == []


TOOLS = {path.stem for path in (ROOT / 'tools').rglob('*')
         if path.suffix == '.py' or path.is_dir()} - {'test'}


@pytest.mark.parametrize(('folder', 'never', 'but'), [
    ('datasets/', ['mmmedmask.models'], ()),
    ('models/', ['mmmedmask.datasets'], ()),
    ('models/', ['mmmedmask.engine'], ()),
    ('datasets/', ['mmmedmask.engine'], ()),
    ('util/', ['mmmedmask'], 'mmmedmask.util'),
    ('', ['mmmedmask.testing'], 'testing/'), ('', {*TOOLS, 'tools'}, ())])
def test_what_a_folder_does_not_import(folder, never, but):
    """``but`` is a folder that may, or a module that it may."""
    assert [(name, module) for name, module in imports_below(folder)
            if starts_with(module, *never) and not starts_with(module, but)
            and not name.startswith(but)] == []
    assert not [pair for pair in imports_below(folder)
                if pair[1].startswith('.')], 'imports are absolute'


def test_host_libraries_of_tasks_are_imported_where_a_task_needs_them():
    """When a module is imported; inside functions, all may."""
    assert {name for name, module in imports_below('', anywhere=False)
            if starts_with(module, 'mmdet', 'mmseg')} <= {
                'models/msmae/setr_head.py'}


def test_each_gap_names_its_issue_and_its_end():
    documents = {name: ' '.join(ast.get_docstring(tree).split())
                 for name, tree in MODULES.items()
                 if name.startswith('compat/')
                 and not name.endswith('__init__.py')}
    issue = re.compile(r'\(no upstream issue\)|\bmm\w+#\d+')
    assert [name for name, text in documents.items()
            if not issue.search(text) or 'Delete ' not in text] == []


def test_file_names_occur_once():
    """But for the parts of a method, in its own folder."""
    places = defaultdict(list)
    for name in MODULES:
        path = Path(name)
        if path.name != '__init__.py' and (
                path.parts[0] != 'models' or path.parts[1] == 'layers'):
            places[path.name].append(name)
    assert [names for names in places.values() if len(names) > 1] == []


def test_tests_mirror_the_package():
    """The folders of configs, tools and docs too, and what is of all."""
    tests, missing = ROOT / 'tests', []
    for path in tests.rglob('test_*.py'):
        parts = [part.removeprefix('test_')
                 for part in path.relative_to(tests).parent.parts]
        if parts != ['repository'] and not any(
                base.joinpath(*parts).is_dir() for base in (PACKAGE, ROOT)):
            missing.append(path)
    assert missing == []
    modules = {f'test_{path.name}' for path in PACKAGE.glob('*.py')}
    assert {path.name for path in tests.glob('test_*.py')} <= {
        'test_configs.py', 'test_tools.py', *modules}


def test_contributing_names_all_folders():
    """And the configs' readers; other files at the top name themselves."""
    table = (ROOT / 'CONTRIBUTING.md').read_text('utf-8')
    places = [path.name for path in PACKAGE.iterdir()
              if path.joinpath('__init__.py').is_file()
              or path.match('config_*.py')]
    assert [name for name in places if name not in table] == []


def test_public_classes_occur_once():
    places = defaultdict(list)
    for name, tree in MODULES.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) \
                    and not node.name.startswith('_'):
                places[node.name].append(name)
    assert {name: files for name, files in places.items()
            if len(files) > 1} == {}


def _tools():
    return {path.relative_to(ROOT).as_posix(): ast.parse(
        path.read_text('utf-8')) for path in (ROOT / 'tools').rglob('*.py')}


def test_names_say_what_a_thing_is():
    """Not how it came about, as ``found`` and ``told`` do."""
    vague = 'found', 'one', 'told', 'said'
    assert [(name, node.lineno) for name, tree in (MODULES | _tools()).items()
            for node in ast.walk(tree)
            if isinstance(node, ast.arg) and node.arg in vague
            or isinstance(node, ast.Name) and node.id in vague] == []


def test_the_package_prints_nothing():
    assert [(name, node.lineno) for name, tree in MODULES.items()
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            and node.func.id == 'print'] == []


def test_tables_are_read_and_written_at_one_place():
    """Else the same file is understood in different ways."""
    trees = MODULES | _tools()
    readers = {name for name, tree in trees.items() for node in ast.walk(tree)
               if isinstance(node, ast.Attribute)
               and node.attr in ('read_csv', 'read_table', 'read_excel',
                                 'read_parquet', 'genfromtxt', 'loadtxt',
                                 'to_csv', 'to_excel')
               or isinstance(node, ast.Import)
               and 'csv' in [alias.name for alias in node.names]
               or isinstance(node, ast.ImportFrom) and node.module == 'csv'}
    assert readers == {'util/table_files.py', 'util/atomic_files.py'}


def _defaults(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            yield from node.args.defaults
            yield from filter(None, node.args.kw_defaults)


def test_no_default_is_shared_between_calls():
    assert [(name, default.lineno) for name, tree in MODULES.items()
            for default in _defaults(tree)
            if isinstance(default, ast.List | ast.Dict | ast.Set)
            or isinstance(default, ast.Call)
            and ast.unparse(default.func) in ('list', 'dict', 'set')] == []
