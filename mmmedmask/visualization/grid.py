"""Lay pictures out in a labelled grid: columns with titles, one row each."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

INK = (31, 36, 48)
FAINT_INK = (110, 118, 132)

MARGIN = 14
GAP = 8
HEADING_SIZE = 17
TITLE_SIZE = 15
SUBTITLE_SIZE = 12
SHORTEST_NAME = 12
LINE_SPACING = 1.35


@dataclass(frozen=True)
class Column:
    """One column of a grid: RGB pictures, uint8 (H, W, 3), one per row."""

    title: str
    subtitle: str
    pictures: Sequence[np.ndarray]


def enlarge(picture: np.ndarray, min_side: int) -> np.ndarray:
    """Enlarge a picture (H, W, 3) by a whole factor to about ``min_side``."""
    factor = max(1, round(min_side / min(picture.shape[:2])))
    if factor == 1:
        return picture
    return cv2.resize(
        picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)


def draw_grid(columns: Sequence[Column], heading: str = '',
              min_side: int = 150,
              row_titles: Sequence[str] = ()) -> np.ndarray:
    """Draw a grid of pictures with titles, RGB (H, W, 3).

    Args:
        columns: All have the same number of pictures, all of one size.
        min_side: Small pictures are enlarged to about so many pixels.
        row_titles: Texts above the rows, one per row; none if empty. Of
            ``'FILE: CLASS'`` the middle of the file's name is left out
            where there is no room for it.
    """
    num_rows = _check(columns, row_titles)
    cells = [[enlarge(picture, min_side) for picture in column.pictures]
             for column in columns]
    cell_height, cell_width = cells[0][0].shape[:2]
    titles = [_wrap(column.title, TITLE_SIZE, cell_width)
              for column in columns]
    subtitles = [_wrap(column.subtitle, SUBTITLE_SIZE, cell_width)
                 for column in columns]
    title_height = max(map(len, titles)) * _line_height(TITLE_SIZE)
    subtitle_height = max(map(len, subtitles)) * _line_height(SUBTITLE_SIZE)
    top = MARGIN + (_line_height(HEADING_SIZE) + GAP if heading else 0)
    body = top + title_height + subtitle_height + GAP // 2
    width = 2 * MARGIN + len(columns) * (cell_width + GAP) - GAP
    if heading:
        width = max(width, 2 * MARGIN + _text_width(heading, HEADING_SIZE))
    row_lines = [_wrap(_shorten(title, SUBTITLE_SIZE, width - 2 * MARGIN),
                       SUBTITLE_SIZE, width - 2 * MARGIN)
                 for title in row_titles]
    row_title_height = max(map(len, row_lines), default=0) * _line_height(
        SUBTITLE_SIZE)
    row_height = cell_height + row_title_height + GAP
    height = body + num_rows * row_height - GAP + MARGIN

    sheet = Image.new('RGB', (width, height), 'white')
    pen = ImageDraw.Draw(sheet)
    if heading:
        _write(pen, (MARGIN, MARGIN), [heading], HEADING_SIZE, INK)
    for index, cells_of_column in enumerate(cells):
        left = MARGIN + index * (cell_width + GAP)
        _write(pen, (left, top), titles[index], TITLE_SIZE, INK)
        _write(pen, (left, top + title_height), subtitles[index],
               SUBTITLE_SIZE, FAINT_INK)
        for row, cell in enumerate(cells_of_column):
            place = body + row * row_height + row_title_height
            sheet.paste(Image.fromarray(cell), (left, place))
    for row, lines in enumerate(row_lines):
        place = body + row * row_height + row_title_height - len(
            lines) * _line_height(SUBTITLE_SIZE)
        _write(pen, (MARGIN, place), lines, SUBTITLE_SIZE, INK)
    return np.asarray(sheet)


def _check(columns: Sequence[Column], row_titles: Sequence[str]) -> int:
    """Number of rows."""
    numbers = [len(column.pictures) for column in columns]
    if len(set(numbers)) != 1 or not numbers[0]:
        raise ValueError('a grid needs columns with the same number of '
                         f'pictures, at least one, got {numbers}')
    shapes = {tuple(picture.shape)
              for column in columns for picture in column.pictures}
    if len(shapes) != 1 or len(next(iter(shapes))) != 3:
        raise ValueError('all pictures must have one shape (H, W, 3), got '
                         f'{sorted(shapes)}')
    if row_titles and len(row_titles) != numbers[0]:
        raise ValueError(f'{len(row_titles)} row titles for {numbers[0]} rows')
    return numbers[0]


def _line_height(size: int) -> int:
    return round(size * LINE_SPACING)


def _text_width(text: str, size: int) -> int:
    return round(ImageFont.load_default(size).getlength(text))


def _wrap(text: str, size: int, width: int) -> list[str]:
    """Break a text into lines that fit, inside of a word only if need be."""
    lines = []
    for word in text.split():
        longer = f'{lines[-1]} {word}' if lines else word
        if lines and _text_width(longer, size) <= width:
            lines[-1] = longer
            continue
        # A word alone may reach into the gap.
        while _text_width(word, size) > width + GAP // 2 and len(word) > 1:
            end = len(word) - 1
            while end > 1 and _text_width(word[:end], size) > width:
                end -= 1
            # Behind a sign, if there is one.
            end = max(word.rfind(sign, 0, end) for sign in '_-./') + 1 or end
            lines.append(word[:end])
            word = word[end:]
        lines.append(word)
    return lines


def _shorten(text: str, size: int, width: int) -> str:
    """Leave out the middle of a name before a colon, down to some letters."""
    name, colon, rest = text.partition(': ')
    kept = len(name)
    while kept > SHORTEST_NAME and _text_width(text, size) > width:
        kept -= 1
        text = f'{name[:kept // 2]}…{name[-(kept + 1) // 2:]}{colon}{rest}'
    return text


def _write(pen: ImageDraw.ImageDraw, place: tuple[int, int],
           lines: Sequence[str], size: int, ink: tuple[int, int, int]) -> None:
    left, top = place
    for number, line in enumerate(lines):
        pen.text((left, top + number * _line_height(size)), line, fill=ink,
                 font=ImageFont.load_default(size))


def stack(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Put uint8 RGB pictures below each other, at the left, on white."""
    width = max(picture.shape[1] for picture in pictures)
    return np.concatenate([
        np.pad(picture, ((0, 0), (0, width - picture.shape[1]), (0, 0)),
               constant_values=255) for picture in pictures])
