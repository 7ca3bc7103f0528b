"""A report as one HTML file: pictures and styles are inside of it."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import jinja2
import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Figure:
    """An RGB picture, uint8 (H, W, 3), with what there is to see in it."""

    picture: np.ndarray
    caption: str


@dataclass(frozen=True)
class Section:
    """Paragraphs, pictures, rows of a name and values; the time it took."""

    title: str
    text: Sequence[str]
    figures: Sequence[Figure] = ()
    facts: Sequence[Sequence[str]] = ()
    seconds: float | None = None


_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
  body { margin: 0 auto; padding: 2rem 1.2rem 4rem; max-width: 62rem;
         font: 16px/1.55 system-ui, sans-serif; color: #1f2430;
         background: #fff; }
  h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; }
  h2 { font-size: 1.3rem; margin: 3rem 0 .4rem; padding-top: 1rem;
       border-top: 1px solid #e4e0ea; }
  h2 small { font-weight: normal; color: #6e7684; font-size: .85rem; }
  p { max-width: 46rem; }
  figure { margin: 1.4rem 0; }
  img { max-width: 100%; height: auto; border: 1px solid #e4e0ea;
        border-radius: 4px; }
  figcaption { color: #6e7684; font-size: .92rem; max-width: 46rem; }
  table { border-collapse: collapse; margin: 1rem 0; }
  td { padding: .25rem 1.2rem .25rem 0; vertical-align: top;
       border-bottom: 1px solid #eeebf2; }
  td:first-child { color: #6e7684; }
  pre { background: #f6f4f9; padding: .8rem 1rem; border-radius: 4px;
        overflow-x: auto; font-size: .88rem; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% for paragraph in introduction %}<p>{{ paragraph }}</p>
{% endfor %}
{% for section in sections %}
<h2>{{ section.title }}
{%- if section.seconds is not none %}
 <small>{{ '%.0f'|format(section.seconds) }} s</small>
{%- endif %}</h2>
{% for paragraph in section.text %}<p>{{ paragraph }}</p>
{% endfor %}
{% if section.facts %}<table>
{% for row in section.facts %}<tr>
{% for cell in row %}<td>{{ cell }}</td>
{% endfor %}</tr>
{% endfor %}</table>{% endif %}
{% for figure in section.figures %}<figure>
<img alt="{{ figure.caption }}" src="{{ figure.picture|as_source }}">
<figcaption>{{ figure.caption }}</figcaption>
</figure>
{% endfor %}
{% endfor %}
{% if commands %}<h2>The same, step by step</h2>
<pre>{{ commands }}</pre>{% endif %}
</body>
</html>
"""


def encode_picture(picture: np.ndarray) -> str:
    """Turn a uint8 RGB picture (H, W, 3) into a ``data:`` address of a PNG."""
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, format='PNG', optimize=True)
    encoded = base64.b64encode(buffer.getvalue()).decode('ascii')
    return f'data:image/png;base64,{encoded}'


def render_report(title: str, introduction: Sequence[str],
                  sections: Sequence[Section], commands: str = '') -> str:
    """Write a report as HTML; ``commands`` repeat what was done."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters['as_source'] = encode_picture
    return environment.from_string(_TEMPLATE).render(
        title=title, introduction=introduction, sections=sections,
        commands=commands)
