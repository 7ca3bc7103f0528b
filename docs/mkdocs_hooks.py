"""Hooks of MkDocs: the READMEs of configs as pages, links out of ``docs/``.

In the repository a page links to ``../configs/gimp/README.md`` and to config
files. On the site the READMEs are pages, and what is no page is named without
a link.
"""

import os
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / 'docs'
# A link or a picture, outside of code.
_LINK = re.compile(r'(?P<code>```.*?```|`[^`\n]*`)|'
                   r'(?P<picture>!?)\[(?P<text>[^]]*)\]\((?P<link>[^)\s]+)\)',
                   re.DOTALL)


def readmes():
    """Names of the READMEs of the configs, from the root."""
    return [path.relative_to(ROOT).as_posix()
            for path in sorted((ROOT / 'configs').rglob('README.md'))]


def on_config(config):
    """Put the READMEs of the configs into the navigation."""
    config.nav.insert(-1, {'Configs': readmes()})
    return config


def on_files(files, config):
    """Add the READMEs of the configs."""
    for name in readmes():
        files.append(File.generated(
            config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Point links at pages of the site."""
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
