"""The documentation can be followed: links, commands, configs, the site.

Pages are README.md, those below docs/ and the READMEs of the configs. Commands
are read, not run; what they name has to exist. What a newcomer does with
README.md is in ``test_readme.py``.
"""

import importlib.util
import os
import re
import sys

import pytest
import yaml
from commands import run
from documents import (
    CONFIGS,
    ROOT,
    Commands,
    anchors_of,
    check_code,
    check_links,
    check_new_keys,
    is_config,
    load_written,
    prose,
    read_blocks,
    read_commands,
    read_links,
)
from recipe_check import check_recipe

from mmmedmask.experiments.schema import read_recipe

DOCS = ROOT / 'docs'
# The pages of the site; then all.
SITE = [*sorted(DOCS.rglob('*.md')), *sorted(CONFIGS.rglob('README.md'))]
PAGES = [ROOT / 'README.md', *SITE]
LANGUAGES = {'', 'bash', 'bibtex', 'csv', 'python', 'text', 'yaml'}


def _read(path):
    return path.read_text('utf-8')


def _name(path):
    return path.relative_to(ROOT).as_posix()


BLOCKS = {
    f'{_name(page)}-{number}': (page, block)
    for page in PAGES for number, block in enumerate(read_blocks(_read(page)))
}


def _blocks(language):
    return [name for name, (_, block) in BLOCKS.items()
            if block.language == language]


def _written(text):
    """Files that a page tells the reader to write."""
    return set(re.findall(r'`((?:\w+/)*\w+\.py)`', text))


def test_found_pages_and_blocks():
    """A wrong pattern must not make empty tests that pass."""
    assert len(PAGES) >= 20
    assert len(_blocks('bash')) >= 40
    assert len(_blocks('python')) >= 15
    for page in PAGES:
        fences = re.findall(r'^ *```', _read(page), re.MULTILINE)
        assert len(fences) == 2 * len(read_blocks(_read(page))), page
    assert {block.language for _, block in BLOCKS.values()} <= LANGUAGES


@pytest.mark.parametrize('page', PAGES, ids=_name)
def test_links_titles_tables_and_lists(page):
    check_links(page)
    text = _read(page)
    assert len(re.findall(r'^# .+$', prose(text), re.MULTILINE)) == 1
    assert text.startswith('# ')
    assert text.endswith('\n')
    assert not text.endswith('\n\n')
    width = None
    for line in prose(text).splitlines():
        if not line.startswith('|'):
            width = None
            continue
        cells = len(re.findall(r'(?<!\\)\|', line))
        assert width in (None, cells), line
        width = cells
    # MkDocs, other than GitHub, takes a list for the paragraph's text unless
    # an empty line is before it.
    assert re.findall(r'^(?![-#\s]).+\n- .*$', prose(text), re.MULTILINE) == []


@pytest.mark.parametrize('page', PAGES, ids=_name)
def test_commands_name_what_exists(page):
    check = Commands(_written(_read(page))).check
    for command in read_commands(_read(page)):
        try:
            check(command)
        except AssertionError as error:
            raise AssertionError(f'{" ".join(command)}: {error}') from error


@pytest.mark.parametrize('name', _blocks('python'))
def test_python_is_real(name, tmp_path):
    """Configs load with what they inherit; other code imports what exists."""
    page, block = BLOCKS[name]
    if not is_config(block.code):
        check_code(block.code)
        return
    config, base = load_written(block.code, page, tmp_path)
    check_new_keys(config, base)
    assert config.get('model') is not None


@pytest.mark.parametrize('name', _blocks('yaml'))
def test_yaml_is_real(name, tmp_path):
    """It parses; a whole recipe is one that the runner takes."""
    _, block = BLOCKS[name]
    content = yaml.safe_load(block.code)
    assert isinstance(content, dict | list)
    if isinstance(content, dict) and {'columns', 'rows'} <= set(content):
        path = tmp_path / f'{content["name"]}.yml'
        path.write_text(block.code)
        check_recipe(read_recipe(path))


def _nav(node):
    if isinstance(node, str):
        yield node
    elif isinstance(node, list):
        for one in node:
            yield from _nav(one)
    else:
        yield from _nav(list(node.values()))


def test_every_page_is_in_the_navigation_once():
    """The hooks add the READMEs of configs."""
    site = yaml.safe_load(_read(ROOT / 'mkdocs.yml'))
    listed = list(_nav(site['nav']))
    assert len(listed) == len(set(listed))
    assert set(listed) == {
        page.relative_to(DOCS).as_posix() for page in DOCS.rglob('*.md')}
    for hook in site['hooks']:
        assert (ROOT / hook).is_file()


def test_every_page_can_be_reached_from_the_first():
    seen, open_pages = set(), [DOCS / 'index.md']
    while open_pages:
        page = open_pages.pop()
        if page in seen or page.suffix != '.md' or not page.is_file():
            continue
        seen.add(page)
        open_pages += [
            (page.parent / link.partition('#')[0]).resolve()
            for link in read_links(_read(page)) if '://' not in link]
    assert {_name(page) for page in DOCS.rglob('*.md')} <= set(
        map(_name, seen))


def test_anchors_are_alike_in_the_repository_and_on_the_site():
    """MkDocs leaves letters out that are not ASCII; GitHub keeps them."""
    for page in SITE:
        used = {link.partition('#')[2] for link in read_links(_read(page))}
        for anchor in used - {''}:
            assert anchor.isascii(), f'{page}: {anchor}'
    assert 'glas' in anchors_of(DOCS / 'datasets.md')


def test_the_site_builds(tmp_path):
    for name in ('mkdocs', 'material', 'mkdocstrings'):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f'{name} is not installed; `make docs` installs '
                        'requirements/docs.txt')
    output = run(
        sys.executable, '-m', 'mkdocs', 'build', '--strict', '--site-dir',
        tmp_path / 'site', cwd=ROOT, NO_MKDOCS_2_WARNING='1',
        PYTHONPATH=os.environ.get('PYTHONPATH', ''))
    assert 'WARNING' not in output
    for page in SITE:
        start = DOCS if page.is_relative_to(DOCS) else ROOT
        name = page.relative_to(start).with_suffix('')
        if name.name in ('index', 'README'):
            name = name.parent
        assert (tmp_path / 'site' / name / 'index.html').is_file(), name
    first = (tmp_path / 'site' / 'index.html').read_text('utf-8')
    # Links out of docs/ go to pages, or are not links.
    for html in (tmp_path / 'site').rglob('*.html'):
        links = re.findall(r'href="([^"]+)"', html.read_text('utf-8'))
        assert not [link for link in links
                    if re.search(r'\.(md|ya?ml|py)(#|$)', link)], html
    # The navigation has all pages.
    for page in CONFIGS.rglob('README.md'):
        assert f'href="{_name(page.parent)}/"' in first, page
    # Every public module is on the page of its folder.
    for module in (ROOT / 'mmmedmask').rglob('[!_]*.py'):
        name = '.'.join(module.relative_to(ROOT).with_suffix('').parts)
        folder = f'api/{name.rpartition(".")[0]}/'
        assert f'href="{folder}"' in first, name
        text = (tmp_path / 'site' / folder / 'index.html').read_text('utf-8')
        assert f'id="{name}"' in text, name
        # Names and examples of docstrings are links and code.
        assert not re.search(':(func|class|meth|mod):', text), name


def test_pins_of_the_site_are_exact_and_in_no_other_file():
    lines = [line for line in _read(
        ROOT / 'requirements' / 'docs.txt').splitlines()
        if line and not line.startswith('#')]
    assert {line.partition('==')[0] for line in lines} == {
        'mkdocs', 'mkdocs-material', 'mkdocstrings', 'mkdocstrings-python'}
    assert all(re.fullmatch(r'[\w-]+==[\d.]+', line) for line in lines)
    lock = _read(ROOT / 'requirements' / 'lock.txt')
    assert 'mkdocs' not in lock
