"""A config is formatted once, and reads as MMEngine formats it."""

import sys

from commands import run
from mmengine.config import Config

CODE = """
import sys
from yapf.yapflib import yapf_api
plain, texts = yapf_api.FormatCode, []
def count(text, **options):
    texts.append(text)
    return plain(text, **options)
yapf_api.FormatCode = count
expected = plain(sys.argv[1], style_config='pep8')[0]
import mmmedmask
from mmengine.config import Config
config = Config(dict(b=dict(type='A', c=[1, 2]), a='x'))
first = config.pretty_text
assert config.pretty_text == Config(config.to_dict()).pretty_text == first
assert len(texts) == 1, texts
assert first == plain(texts[0], style_config=dict(
    based_on_style='pep8', blank_line_before_nested_class_or_def=True,
    split_before_expression_after_opening_paren=True))[0]
config.a = 'y'
assert "'y'" in config.pretty_text and len(texts) == 2
# Other users of yapf notice nothing.
assert yapf_api.FormatCode(sys.argv[1], style_config='pep8')[0] == expected
assert len(texts) == 3
"""


def test_formatted_once():
    run(sys.executable, '-c', CODE, 'a=[1,\n2]')


def test_tests_do_not_format():
    config = Config(dict(a=dict(b=1)))
    assert Config.fromstring(config.pretty_text, '.py').a.b == 1
