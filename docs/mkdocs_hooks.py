"""Hooks of MkDocs: the READMEs of configs and the API as pages, and links.

In the repository a page links to ``../configs/gimp/README.md`` and to config
files. On the site the READMEs are pages, and what is not a page is named
without a link. Each folder of the package has a page with its public modules,
which mkdocstrings reads without importing them.
"""

import ast
import os
import re
from pathlib import Path

import griffe
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / 'docs'
PACKAGE = ROOT / 'mmmedmask'
# A link or a picture, outside of code.
_LINK = re.compile(r'(?P<code>```.*?```|`[^`\n]*`)|'
                   r'(?P<picture>!?)\[(?P<text>[^]]*)\]\((?P<link>[^)\s]+)\)',
                   re.DOTALL)
# A name in a docstring, as Sphinx marks it up.
_ROLE = re.compile(r':(?:func|class|meth|mod|data|attr):`~?([^`]+)`')


def readmes():
    """Names of the READMEs of the configs, from the root."""
    return [path.relative_to(ROOT).as_posix()
            for path in sorted((ROOT / 'configs').rglob('README.md'))]


def api_pages():
    """Pages of the API by their names: a folder's modules on each."""
    pages = {}
    for folder in sorted({file.parent for file in PACKAGE.rglob('*.py')}):
        modules = ['.'.join(file.relative_to(ROOT).with_suffix('').parts)
                   for file in sorted(folder.glob('*.py'))
                   if not file.stem.startswith('_')]
        if not modules:
            continue
        package = '.'.join(folder.relative_to(ROOT).parts)
        about = _ROLE.sub(r'`\1`', ast.get_docstring(ast.parse(
            (folder / '__init__.py').read_text('utf-8'))))
        pages[f'api/{package}.md'] = '\n\n'.join(
            [f'# {package}', about, *(f'::: {name}' for name in modules), ''])
    return pages


def on_config(config):
    """Put the READMEs of the configs, and the API, into the navigation."""
    config.nav.insert(-1, {'Configs': readmes()})
    config.nav.append({'API': [
        {name[4:-3].removeprefix('mmmedmask.'): name}
        for name in api_pages()]})
    return config


def on_files(files, config):
    """Add the READMEs of the configs, and the API."""
    for name in readmes():
        files.append(File.generated(
            config, name, abs_src_path=str(ROOT / name)))
    for name, text in api_pages().items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Point links at pages of the site."""
    if page.file.generated_by and page.file.abs_src_path is None:
        return markdown
    source = Path(page.file.abs_src_path).resolve()

    def mend(found):
        link, text = found['link'], found['text']
        if found['code'] or re.match(r'[a-z]+:|#', link):
            return found[0]
        path, hash_sign, anchor = link.partition('#')
        target = (source.parent / path).resolve()
        inside = DOCS if target.is_relative_to(DOCS) else ROOT
        name = target.relative_to(inside).as_posix()
        if files.get_file_from_path(name) is None:
            # A text in code marks is an own name, others tell too little.
            return text if '`' in text or name in text else \
                f'{text} (`{name}`)'
        start = Path(page.file.src_uri).parent
        return (f'{found["picture"]}[{text}]'
                f'({os.path.relpath(name, start)}{hash_sign}{anchor})')

    return _LINK.sub(mend, markdown)


class Docstrings(griffe.Extension):
    """Make links of the names that docstrings mark up, and show examples."""

    def on_package(self, *, pkg, **kwargs):
        """Go through the package, once it has been read."""
        self.modules = pkg.modules_collection
        self.rewrite(pkg)

    def rewrite(self, part):
        """Rewrite the docstrings of a part and of what is in it."""
        if part.docstring:
            text = _ROLE.sub(lambda found: self.link(found[1], part),
                             part.docstring.value)
            part.docstring.value = re.sub(
                r'^Example:$', 'Examples:', text, flags=re.MULTILINE)
        for member in part.members.values():
            if not member.is_alias:
                self.rewrite(member)

    def link(self, name, part):
        """Find what a name means where it is used; others' stay names."""
        short = name.rpartition('.')[2]
        while part is not None:
            for path in (f'{part.path}.{name}', name):
                try:
                    target = self.modules[path].canonical_path
                    found = self.modules[target]
                except (KeyError, griffe.AliasResolutionError):
                    continue
                if found.docstring and not found.is_init_module \
                        and '._' not in target:
                    return f'[`{short}`][{target}]'
            part = part.parent
        return f'`{name}`'
