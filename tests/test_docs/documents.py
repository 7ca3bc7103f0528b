"""Read the Markdown of the repository: code blocks, commands, links.

Commands are not run. What they name has to exist: tools and their options,
configs, keys of configs, make's targets, Python's names.
"""

import ast
import functools
import importlib
import inspect
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from mmmedmask.apis import load_config
from mmmedmask.experiments.chain import resolve_options

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / 'configs'
_FENCE = re.compile(
    r'^(?P<indent> *)```(?P<language>[\w-]*)\n(?P<code>.*?)^(?P=indent)```$',
    re.MULTILINE | re.DOTALL)
# Words of the shell that begin a line around commands.
_SHELL = {'do', 'done', 'then', 'fi', 'else', 'time', 'nohup'}
# Commands of others, whose arguments are not looked at.
_OTHERS = {'cat', 'cd', 'docker', 'echo', 'export', 'git', 'hf', 'jupyter',
           'ls', 'mkdir', 'mlflow', 'pip', 'rsync', 'tail', 'tar',
           'tensorboard', 'uv', 'wait', 'wandb'}


@dataclass(frozen=True)
class Block:
    """A code block: its language, its code, the text before it."""

    language: str
    code: str
    before: str


def read_blocks(text):
    blocks = []
    for found in _FENCE.finditer(text):
        indent = len(found['indent'])
        code = ''.join(line[indent:] if line.strip() else line
                       for line in found['code'].splitlines(keepends=True))
        blocks.append(Block(found['language'], code, text[:found.start()]))
    return blocks


def prose(text):
    """A page without its code, in blocks and in lines."""
    return re.sub(r'`[^`\n]*`', '', _FENCE.sub('', text))


def read_links(text):
    return re.findall(r'\]\(([^)\s]+)\)', _FENCE.sub('', text))


def anchors_of(path):
    """Anchors that a viewer of Markdown gives to headings."""
    text = _FENCE.sub('', path.read_text('utf-8'))
    headings = re.findall(r'^#+ (.+)$', text, re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading).strip().lower().replace(' ', '-')
            for heading in headings}


def check_links(path):
    """Check that relative links of a page lead to files and headings."""
    for link in read_links(path.read_text('utf-8')):
        if re.match(r'[a-z]+:', link):
            continue
        name, _, anchor = link.partition('#')
        target = (path.parent / name) if name else path
        assert target.exists(), f'{path}: {link}'
        if anchor:
            assert anchor in anchors_of(target), f'{path}: {link}'


def read_commands(text):
    """All commands of a page, as lists of words.

    Variables in front of a command, the shell's own words and comments are
    left out; ``$name`` becomes ``*``, which stands for any text.
    """
    commands = []
    for block in read_blocks(text):
        if block.language == 'bash':
            commands += _split(block.code)
    return commands


def _split(code):
    code = re.sub(r'\$\{?\w+\}?', '*', code.replace('\\\n', ' '))
    # A command that is kept in a variable.
    code = re.sub(r"^\w+='([^']*)'", lambda found: found[1].replace('\n', ' '),
                  code, flags=re.MULTILINE)
    code = re.sub(r'(^|\s)#[^\n]*', r'\1', code)
    words = shlex.shlex(code, posix=True, punctuation_chars='|&;()<>')
    words.commenters = ''
    words.whitespace_split = True
    words.whitespace = ' \t\r'
    # A line's end is the end of a command.
    command, commands = [], []
    for word in [*words, '\n']:
        parts = word.split('\n') if '\n' in word and ' ' not in word \
            else [word]
        for place, part in enumerate(parts):
            if place or part in ('|', '||', '&', '&&', ';', '<', '>', '>>'):
                commands.append(command)
                command = []
            if part.strip() and part not in ('|', '||', '&', '&&', ';'):
                command.append(part)
    commands.append(command)
    return [one for one in map(_bare, commands) if one]


def _bare(words):
    words = list(words)
    while words and (words[0] in _SHELL
                     or re.fullmatch(r'[A-Za-z_]+=.*', words[0], re.DOTALL)):
        words.pop(0)
    return [] if words[:1] == ['for'] else words


class Commands:
    """Check commands; a reader was told to write some configs."""

    def __init__(self, written=()):
        self.written = set(written)

    def check(self, words):
        """Check that all that a command names exists."""
        program, *arguments = words
        if program == '...' or program == '*' or program in _OTHERS:
            return
        if program in ('bash', 'sh'):
            program, *arguments = arguments
        if program.endswith('.sh'):
            self._script(program, arguments)
        else:
            checks = dict(
                python=self._python, make=_make, mim=self._mim,
                torchrun=self._torchrun, source=_source, sbatch=_source)
            assert program in checks, f'{program} is a command of what?'
            checks[program](arguments)

    def _python(self, words):
        if words[:1] == ['-c']:
            check_code(words[1])
            return
        if words[:2] == ['-m', 'mkdocs']:
            return
        script, *arguments = words
        if '--' in arguments:
            # Behind it are options of Snakemake.
            arguments = arguments[:arguments.index('--')]
        source = ROOT / script
        assert source.is_file(), script
        text = _sources(source)
        for word in arguments:
            if word.startswith('--'):
                # argparse declares every option by its literal name.
                option = word.partition('=')[0]
                assert f"'{option}'" in text, f'{script} {option}'
        self._check_configs(arguments)

    def _script(self, script, arguments):
        assert (ROOT / script).is_file(), script
        if 'test' not in script and 'train' not in script:
            text = (ROOT / script).read_text('utf-8')
            for word in arguments:
                assert not word.startswith('--') or f'{word})' in text, word
            return
        tool = 'tools/test.py' if 'test' in script else 'tools/train.py'
        self._python([tool, *arguments])

    def _torchrun(self, words):
        places = [number for number, word in enumerate(words)
                  if word.endswith('.py')]
        self._python(words[places[0]:])

    def _mim(self, words):
        if words[:2] == ['run', 'mmmedmask']:
            tool, = (ROOT / 'tools').rglob(f'{words[2]}.py')
            self._python([tool.relative_to(ROOT), *words[3:]])
            return
        assert words[:2] == ['train', 'mmmedmask']
        name = words[2]
        assert name in self.written or len(list(CONFIGS.rglob(name))) == 1, \
            name

    def _check_configs(self, arguments):
        """Configs are there, and have the keys that options set."""
        configs = [word for word in arguments if word.endswith('.py')]
        found = []
        for word in configs:
            if '...' in word or word in self.written:
                continue
            matches = sorted(ROOT.glob(word))
            assert matches, word
            found += matches
        if '--cfg-options' not in arguments or not found:
            return
        start = arguments.index('--cfg-options') + 1
        options = {}
        for word in arguments[start:]:
            if word.startswith('--') or '=' not in word:
                break
            key, _, value = word.partition('=')
            options[key] = value
        assert options, arguments
        for path in found[:2]:
            config = load_config(path)
            resolve_options(config, options)
            for key in options:
                assert _has(config, key.rpartition('.')[0].split('.')), \
                    f'{path.name} has no place for {key}'


def _has(node, keys):
    for key in filter(None, keys):
        if isinstance(node, list | tuple):
            if not key.isdigit() or int(key) >= len(node):
                return False
            node = node[int(key)]
        elif hasattr(node, 'get') and node.get(key) is not None:
            node = node[key]
        else:
            return False
    return True


@functools.cache
def _sources(script):
    """Text of a tool, and of our modules that it takes options from."""
    text = script.read_text('utf-8')
    parts = [text]
    modules = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            modules += names if isinstance(node, ast.Import) else [
                node.module, *(f'{node.module}.{name}' for name in names)]
    for module in modules:
        for folder in (script.parent, ROOT / 'tools', ROOT):
            file = folder / (module.replace('.', '/') + '.py')
            if file.is_file() and file != script:
                parts.append(file.read_text('utf-8'))
    return ''.join(parts)


def _make(words):
    makefile = (ROOT / 'Makefile').read_text('utf-8')
    for word in words:
        name, sign, _ = word.partition('=')
        pattern = rf'^{name} \??=' if sign else rf'^{name}:'
        assert re.search(pattern, makefile, re.MULTILINE), word


def _source(words):
    # Made by commands that come before.
    assert set(words) <= {'.venv/bin/activate'}, words


def check_code(code):
    """Check that code parses, and that what it imports is there.

    Of functions of ours that are called, the names of arguments too. Modules
    of the reader (``my_...``) are not looked for.
    """
    tree = ast.parse(code)
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if not alias.name.startswith('my_'):
                    importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom) \
                and not node.module.startswith('my_'):
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name), \
                    f'{node.module} has no {alias.name}'
                names[alias.asname or alias.name] = getattr(module, alias.name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            called = names.get(node.func.id)
            if called is not None \
                    and called.__module__.startswith('mmmedmask'):
                signature = inspect.signature(called)
                signature.bind_partial(
                    *node.args,
                    **{word.arg: None for word in node.keywords if word.arg})


def is_config(code):
    return re.search(r'^_base_ = ', code, re.MULTILINE) is not None


def load_written(code, page, folder):
    """Load a config that a page shows, and its base.

    Relative bases are looked for from the page's folder and from the root.
    """

    def find(found):
        base = found[0].strip('\'"')
        if '::' in base:
            return found[0]
        for start in (page.parent, ROOT):
            if (start / base).is_file():
                return repr(str((start / base).resolve()))
        raise AssertionError(f'{page}: no base {base}')

    # Modules of the reader are not there.
    code = re.sub(r"^custom_imports = .*'my_.*$", '', code, flags=re.MULTILINE)
    head = re.search(r'^_base_ = (\[.*?\]|\S+)$', code,
                     re.MULTILINE | re.DOTALL)
    bases = re.sub(r"'[^']*'|\"[^\"]*\"", find, head[1])
    path = folder / 'written.py'
    path.write_text(code.replace(head[1], bases))
    base = folder / 'base.py'
    base.write_text(f'_base_ = {bases}\n')
    return load_config(path), load_config(base)


def check_new_keys(config, base):
    """Check that keys which a config adds to its base are not misspelled."""
    resolve_options(base, dict.fromkeys(_new_keys(config, base)))


def _new_keys(config, base, where=()):
    for key, value in config.items():
        place = (*where, str(key))
        if key not in base:
            # Plain variables on top have any name.
            if where:
                yield '.'.join(place)
        elif isinstance(value, dict) and isinstance(base[key], dict) \
                and value.get('type') == base[key].get('type'):
            yield from _new_keys(value, base[key], place)
