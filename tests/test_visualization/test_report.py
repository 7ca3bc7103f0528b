"""The report: one file, everything in it, nothing of it executed."""

import base64
import io
import re

import numpy as np
from PIL import Image

from mmmedmask.visualization.html_report import Figure, Section, render_report


def test_report_holds_its_pictures():
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    page = render_report(
        'A title', ['Introduction.'], [
            Section('First', ['Text.'], [Figure(picture, 'What one sees.')],
                    [('box AP', '0.123')], 12.4),
            Section('Second', []),
        ],
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


def test_text_is_text():
    page = render_report('<b>', ['<script>alert(1)</script>'], [])
    assert '<script>' not in page
    assert '&lt;script&gt;' in page
