"""The report: one file, everything in it, nothing of it executed."""

import base64
import io
import re

import numpy as np
import pytest
from pages import check_page, open_page
from PIL import Image

from mmmedmask.visualization.html_report import Figure, Section, render_report


def test_report_holds_its_pictures():
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    page = render_report(
        'A title', ['Introduction.'],
        [Section('First', ['Text.'], [Figure(picture, 'What one sees.')],
                 [('box AP', '0.123')], 12.4), Section('Second', [])],
        commands='make demo')
    for text in ('A title', 'Introduction.', 'First', 'Text.', '0.123',
                 '12 s', 'Second', 'make demo', 'What one sees.'):
        assert text in page
    sources = re.findall(r'src="([^"]*)"', page)
    assert len(sources) == 1
    head, data = sources[0].split(',')
    assert head == 'data:image/png;base64'
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert (shown == picture).all()
    # Nothing is fetched from elsewhere.
    assert 'http' not in page


def _write(folder, text='', picture=''):
    page = render_report('Title', ['Introduction.'], [Section(text, [])])
    path = folder / 'a report.html'
    path.write_text(page.replace('</body>', f'{picture}</body>'))
    return path


def test_pages_are_checked(tmp_path):
    assert check_page(_write(tmp_path)) == 0
    for text in ('1 of None', 'loss nan'):
        with pytest.raises(AssertionError, match=text):
            check_page(_write(tmp_path, text))
    with pytest.raises(AssertionError):
        check_page(_write(tmp_path, picture='<p><b></p>'))
    for picture in ('<img src="no.png">',
                    '<img src="data:image/png;base64,AAAA">'):
        with pytest.raises(OSError, match='.'):
            check_page(_write(tmp_path, picture=picture))


def test_pages_are_opened_in_a_browser(tmp_path):
    assert 'Introduction.' in open_page(_write(tmp_path, 'Some text'))['text']
    wrong = _write(tmp_path, 'loss nan', '<img alt="gone" src="no.png">'
                   '<script>f()</script>')
    with pytest.raises(AssertionError) as caught:
        open_page(wrong)
    for part in ('f is not defined', 'cannot load'):
        assert part in str(caught.value)
    with pytest.raises(AssertionError, match='nan'):
        open_page(_write(tmp_path, 'loss nan'))


def test_text_is_text():
    page = render_report('<b>', ['<script>alert(1)</script>'], [])
    assert '<script>' not in page
    assert '&lt;script&gt;' in page
