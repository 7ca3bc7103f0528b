"""Format the text of a config once, however often it is written.

MMEngine formats it with yapf for the log, for each of its files and for every
checkpoint: seven times in a run of one epoch, up to two seconds each (no
upstream issue).

Delete when ``Config.pretty_text`` of ``mmengine/config/config.py`` keeps its
text.
"""

import functools

from mmmedmask.compat.replacing import replaces

# Texts kept: a run writes its config before and after it is built.
_KEPT = 8


def format_configs_once() -> None:
    """Let yapf return what it returned for the same text; imports yapf."""
    from yapf.yapflib import yapf_api
    format_code = yapf_api.FormatCode

    @functools.lru_cache(_KEPT)
    def format_text(text: str, style: tuple) -> tuple[str, bool]:
        return format_code(text, style_config=dict(style))

    @replaces(yapf_api, 'FormatCode')
    def format_once(format_code, text: str, *arguments, **options):
        style = options.get('style_config')
        if arguments or set(options) != {'style_config'} \
                or not isinstance(style, dict):
            return format_code(text, *arguments, **options)
        return format_text(text, tuple(sorted(style.items())))
