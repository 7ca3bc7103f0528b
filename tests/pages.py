"""Check HTML pages that we make: pictures, scripts, words for nothing.

Without a browser a page is parsed and its pictures are decoded;
:func:`open_page` also opens it in Chromium, where one is installed.
"""

import base64
import html
import io
import json
import re
import shutil
import subprocess
import tempfile
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest
from PIL import Image

BROWSERS = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')
#: What text shows where a value was missing.
NOTHING = r'\b(?:None|nan|NaN|undefined)\b'
_VOID = {'br', 'hr', 'img', 'input', 'link', 'meta'}
# Resources that fail come to the window only while events go down.
_WATCH = """<script>
const problems = [];
addEventListener('error', event => problems.push(
  event.message || 'cannot load ' + (event.target.src || event.target.href)
), true);
addEventListener('unhandledrejection', event => problems.push(
  String(event.reason)));
addEventListener('load', () => setTimeout(() => {
  document.documentElement.setAttribute('data-seen', JSON.stringify({
    problems: problems,
    broken: [...document.images].filter(one => !one.naturalWidth)
      .map(one => one.alt || one.src.slice(0, 99)),
    pictures: document.images.length,
    text: document.body.innerText}));
}, 500));
</script>"""


class _Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.sources, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in _VOID:
            self.open.append(tag)
        if tag == 'img':
            self.sources.append(dict(attrs)['src'])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data):
        if not {'script', 'style'} & set(self.open):
            self.text.append(data)


def check_page(path):
    """Parse a page: tags fit, no value is missing; count whole pictures."""
    page = _Page()
    page.feed(path.read_text('utf-8'))
    page.close()
    assert page.open == []
    for source in page.sources:
        if source.startswith('data:'):
            file = io.BytesIO(base64.b64decode(source.partition(',')[2]))
        else:
            file = path.parent / unquote(source)
        with Image.open(file) as picture:
            picture.load()
    missing = [text for text in page.text if re.search(NOTHING, text)]
    assert missing == [], missing
    return len(page.sources)


def show_page(path, *options):
    """Load a page in a headless browser; give it after its scripts have run.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f'no browser is installed: {", ".join(BROWSERS)}')
    with tempfile.TemporaryDirectory() as profile:
        return subprocess.run(
            [browser, '--headless', '--no-sandbox', '--disable-gpu',
             f'--user-data-dir={profile}', '--virtual-time-budget=20000',
             *options, '--dump-dom', path.as_uri()],
            capture_output=True, text=True, timeout=280, check=True).stdout


def open_page(path):
    """See in a browser that nothing is wrong; count pictures, give text."""
    content = path.read_text('utf-8')
    watched = path.with_name(f'watched_{path.name}')
    watched.write_text(
        re.sub('<head>', lambda _: f'<head>{_WATCH}', content, count=1),
        'utf-8')
    try:
        shown = show_page(watched)
    finally:
        watched.unlink()
    found = re.search('data-seen="([^"]*)"', shown)
    assert found, f'{path} has no <head>, or its loading does not end'
    seen = json.loads(html.unescape(found[1]))
    wrong = seen['problems'] + seen['broken'] + re.findall(
        f'.*{NOTHING}.*', seen['text'])
    assert wrong == [], wrong
    return seen
