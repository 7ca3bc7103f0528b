"""Read tables and lists that come from outside: one strict way for all.

Every csv, tsv, xlsx and parquet is read here, plain or in gz or zip; pandas
parses. A table that can be understood in two ways is an error that names the
file and the line, never a guess.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
import zipfile
from collections import Counter
from collections.abc import (
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from itertools import compress
from pathlib import Path

from mmmedmask.util.atomic_files import csv_text, is_formula
from mmmedmask.util.extras import import_extra, late_module
from mmmedmask.util.nearest import alike, did_you_mean

# Tools import this module before they know whether they read a table.
np = late_module('numpy')
pd = late_module('pandas')

MISSING = ('', 'NA', 'na', 'N/A', '#N/A', 'NaN', 'nan', 'NULL', 'null', 'None')
"""Cells that stand for what is not known; see also :func:`check_named`."""

# UTF-32 before UTF-16, whose mark its own begins with.
_MARKS = ((b'\xef\xbb\xbf', 'utf-8'), (b'\xff\xfe\0\0', 'utf-32-le'),
          (b'\0\0\xfe\xff', 'utf-32-be'), (b'\xff\xfe', 'utf-16-le'),
          (b'\xfe\xff', 'utf-16-be'))
# Blanks, byte order marks and what else shows nothing, at a cell's ends.
_UNSEEN = ' \t\xa0\xad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff'
_DELIMITERS = ('\t', ';', ',')
_NUMBER = re.compile(r'[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?', re.ASCII)
# Cells of a sheet's xml that pandas would take for empty ones: errors,
# formulas that no program has calculated, all of merged cells but the first.
_ERROR_CELL = re.compile(
    rb'<(?:\w+:)?c r="(\w+)"(?=[^>]*\bt="e")[^>]*>(?:(?!</(?:\w+:)?c>).)*?'
    rb'<(?:\w+:)?v>(?!#N/A)([^<]*)<', re.DOTALL)
_OPEN_FORMULA = re.compile(
    rb'<(?:\w+:)?c r="(\w+)"[^>]*>\s*<(?:\w+:)?f(?:[^>]*/>|[^>]*>([^<]*)'
    rb'</(?:\w+:)?f>)\s*(?:<(?:\w+:)?v(?:\s*/>|></(?:\w+:)?v>)\s*)?'
    rb'</(?:\w+:)?c>')
_MERGED = re.compile(rb'<(?:\w+:)?mergeCell\b[^>]*\bref="([^"]*)"()')
_NUMBER_FORMAT = re.compile(
    rb'<(?:\w+:)?numFmt\b(?=[^>]*\bnumFmtId="(\d+)")'
    rb'[^>]*\bformatCode="00')
_STYLE = re.compile(rb'<(?:\w+:)?xf\b[^>]*\bnumFmtId="(\d+)"')
_OLD_EXCEL = b'\xd0\xcf\x11\xe0'
_NUMERIC = 'iuf'
_SHOWN = 10


class Table:
    """A table: names of columns, and cells that are text until asked.

    The first name may be empty; ``notes`` say what was left out, or taken
    otherwise than it stands.
    """

    def __init__(self, path: Path, names: Sequence[str],
                 source: bytes | pd.DataFrame, lines: Sequence[int],
                 delimiter: str = ',') -> None:
        self.path = path
        self.names = tuple(names)
        self.notes: list[str] = []
        self._source = source
        self._lines = lines
        self._delimiter = delimiter
        self._width = len(names)
        # Where in the source the named columns are.
        self._columns = list(range(len(names)))
        # Parsing is slow, so what it gave is kept.
        self._cells: dict[int, list[str]] = {}
        self._guess: pd.DataFrame | None = None
        self._kinds: list[str] | None = None

    def __len__(self) -> int:
        return len(self._lines)

    def where(self, row: int) -> str:
        """Say where a row stands: the file and the line."""
        return f'{self.path}, line {self._lines[row]}'

    def text(self, place: int) -> list[str]:
        """Cells of the column at a place, as text without outer blanks."""
        return self.texts([place])[0]

    def rows(self, *columns: str) -> Iterator[tuple[str, dict[str, str]]]:
        """Go through the rows, with some or all of the columns.

        Yields where a row stands, for messages, and its cells by column.
        """
        names = columns or self.names
        cells = self.texts([self.names.index(name) for name in names])
        for row, values in enumerate(zip(*cells, strict=True)):
            yield self.where(row), dict(zip(names, values, strict=True))

    def is_numeric(self, place: int) -> bool:
        """Whether all cells of a column are numbers or missing."""
        if self._kinds is None:
            self._kinds = [kind.kind for kind in self._guessed().dtypes]
        return self._kinds[self._columns[place]] in _NUMERIC

    def numbers(self, places: Sequence[int]) -> np.ndarray:
        """Cells of columns as float32 (rows, columns), NaN where missing."""
        columns = [self._columns[place] for place in places]
        if isinstance(self._source, bytes) and self._guess is None:
            frame = self._parse(usecols=sorted(set(columns)),
                                na_values=list(MISSING))[columns]
        else:
            frame = self._guessed().iloc[:, columns]
        if all(kind.kind in _NUMERIC for kind in frame.dtypes):
            return frame.to_numpy(np.float32, na_value=np.nan)
        # A cell is not a number, or is one that pandas takes for an object.
        return np.array([[
            cell_number(self.where(row), self.names[place], cell)
            for row, cell in enumerate(cells)]
            for place, cells in zip(places, self.texts(places), strict=True)
        ], dtype=np.float32).T

    def texts(self, places: Sequence[int]) -> list[list[str]]:
        """Cells of several columns; see :meth:`text`."""
        columns = [self._columns[place] for place in places]
        if not isinstance(self._source, bytes):
            return [[_as_text(value) for value in self._source.iloc[:, column]]
                    for column in columns]
        new = sorted(set(columns) - set(self._cells))
        if new:
            frame = self._parse(usecols=new, dtype=str, na_filter=False)
            for column in new:
                self._cells[column] = [_plain(cell) for cell in frame[column]]
        return [self._cells[column] for column in columns]

    def _guessed(self) -> pd.DataFrame:
        """All columns, as numbers where they hold nothing else."""
        if not isinstance(self._source, bytes):
            return self._source
        if self._guess is None:
            self._guess = self._parse(na_values=list(MISSING))
        return self._guess

    def _parse(self, **options: object) -> pd.DataFrame:
        return pd.read_csv(
            io.BytesIO(self._source), sep=self._delimiter, header=None,
            names=range(self._width), index_col=False, low_memory=False,
            keep_default_na=False, skip_blank_lines=False, **options)

    def log_unused(self, used: Collection[str],
                   optional: Collection[str] = ()) -> None:
        """Log unused columns: a warning if one is like an absent name."""
        left = [name for name in self.names if name and name not in used]
        if not left:
            return
        from mmengine.logging import print_log
        absent = [name for name in optional if name not in self.names]
        questions = ''.join(did_you_mean(name, absent, cutoff=0.85)
                            for name in left)
        print_log(f'{self.path}: {len(left)} columns are not used: '
                  f'{left[:_SHOWN]}.{questions}', logger='current',
                  level=30 if questions else 20)

    def leave_out_unnamed(self) -> None:
        """Forget empty columns without a name, but for the first column."""
        unnamed = [place for place, name in enumerate(self.names)
                   if place and not name]
        for place, cells in zip(unnamed, self.texts(unnamed), strict=True):
            for row, cell in enumerate(cells):
                if cell:
                    raise ValueError(
                        f'{self.where(row)}: cell {place + 1} is {cell!r}, '
                        'below no name; is there a delimiter within a cell?')
        if unnamed:
            self.notes.append(f'left out {len(unnamed)} empty columns '
                              'without a name')
            kept = [place for place in range(len(self.names))
                    if place not in unnamed]
            self.names = tuple(self.names[place] for place in kept)
            self._columns = [self._columns[place] for place in kept]


def read_table(path: str | Path, required: Collection[str] = (), *,
               header: bool = True, comment: str = '', row_names: bool = False,
               repeated: bool = False, empty: bool = False) -> Table:
    """Read a table strictly.

    - What a file is, is seen from its content: csv with commas, semicolons
      or tabs, xlsx with one filled sheet, parquet, each plain or in gz or in
      a zip of one file. Text is in the encoding that its byte order mark
      tells, else in UTF-8.
    - A row has as many cells as the header. If *all* rows end with one
      delimiter more, it is taken off, and said.
    - Cells are text. Blanks around them go, also those of no width, and the
      apostrophe that
      :func:`~mmmedmask.util.atomic_files.write_csv` puts before a formula.
    - Rows and unnamed columns without a filled cell are left out, and said.
    - In xlsx errors (but #N/A), formulas that were never calculated and
      merged cells are refused: all would be read as empty ones. So are
      numbers that are shown with zeros in front, as 0001 for 1.

    Args:
        header: Whether the first row names the columns; without, they are
            called ``'0'``, ``'1'`` and so on.
        comment: Leading lines that begin with this are not part of the table.
        row_names: Whether a table with tabs may have one name less than
            columns, as R's ``write.table`` writes it.
        repeated: Whether names may occur twice.
        empty: Whether the table may have no rows.

    Raises:
        ValueError: If it is not as described; names the file and the line.

    Example:
        >>> _ = Path('cohort.csv').write_text('case_id,age\\n0001,61\\n')
        >>> list(read_table('cohort.csv').rows())
        [('cohort.csv, line 2', {'case_id': '0001', 'age': '61'})]
    """
    path = Path(path)
    content = read_bytes(path)
    if content.startswith(b'PAR1'):
        table = _read_parquet(path, content)
    else:
        is_sheet = content.startswith(b'PK')
        content = (_sheet_as_csv(path, content) if is_sheet
                   else _as_utf8(path, content))
        table = _read_text(path, content, header, comment, row_names)
    table.leave_out_unnamed()
    twice = [name for name, count in Counter(table.names).items() if count > 1]
    if twice and not repeated:
        raise ValueError(f'{path} has {len(twice)} columns more than once: '
                         f'{twice[:_SHOWN]}')
    missing = [name for name in required if name not in table.names]
    if missing:
        raise ValueError(
            f'{path} lacks the columns {missing}; it has '
            f'{list(table.names[:2 * _SHOWN])}.'
            f'{did_you_mean(missing[0], table.names)}')
    if not len(table) and not empty:
        raise ValueError(f'{path} has a header and no row')
    if table.notes:
        from mmengine.logging import print_log
        print_log(f'{path}: {"; ".join(table.notes)}', logger='current')
    return table


def check_files(source: str | Path, paths: Iterable[Path]) -> None:
    """Raise a FileNotFoundError if files that a source names are not there.
    """
    # Many pictures may be of one file.
    absent = [path for path in dict.fromkeys(paths) if not path.is_file()]
    if absent:
        raise FileNotFoundError(f'{source} names {len(absent)} files that are '
                                f'not there, such as {absent[0]}')


def check_cell(where: str, column: str, value: str,
               known: Collection[str], source: str = '') -> str:
    """Check that a cell is a value that its column may have, and return it.

    The message says ``where`` it is, what lists the values, and the nearest.

    Example:
        >>> check_cell('a.csv, line 2', 'split', 'train', ('train', 'test'))
        'train'
    """
    if value not in known:
        of = f' of {source}' if source else ''
        raise ValueError(f'{where}: {column} must be one of {tuple(known)}'
                         f'{of}, got {value!r}.{did_you_mean(value, known)}')
    return value


def check_named(where: str, cells: Mapping[str, str],
                columns: Iterable[str], known: Collection[str] = ()) -> None:
    """Check that cells of some columns, if these are there, name something.

    ``NA`` and the like stand for what is not known, as empty cells do: all of
    them would be one and the same. They may be names that are ``known``.

    Example:
        >>> check_named('a.csv, line 2', dict(group='P1', label='None'),
        ...             ('group', 'label'), known=('None', 'tumour'))
    """
    missing = {name: cells[name] for name in columns
               if name in cells and cells[name] in MISSING
               and cells[name] not in known}
    if missing:
        raise ValueError(f'{where}: {", ".join(missing)} must not be empty, '
                         f'got {next(iter(missing.values()))!r}')


def check_spelling(source: object, what: str, names: Iterable[str]) -> None:
    """Refuse names in ``source`` that look the same, or but for their case.

    Example:
        >>> check_spelling('a.csv', 'group', ['P1', 'P2', 'P1'])
    """
    spelled: dict[str, str] = {}
    for name in dict.fromkeys(names):
        other = spelled.setdefault(alike(name), name)
        if other != name:
            raise ValueError(
                f'{source}: {what} is {other!r} and {name!r}: they differ by '
                'upper and lower case, blanks or kinds of hyphens alone, '
                'spell one name in one way')


def cell_number(where: str, column: str, cell: str) -> float | None:
    """Read a finite number from a cell; None where it is missing.

    Example:
        >>> cell_number('a.csv, line 2', 'mpp', '0.25')
        0.25
    """
    if cell in MISSING:
        return None
    if not _is_number(cell):
        hint = ''
        if re.fullmatch(r'[+-]?\d{1,3}([,.\s]\d{3})+([,.]\d*)?', cell):
            hint = (', which may mean thousands or decimals: write it '
                    'without separators of thousands, with a decimal point')
        elif _is_number(cell.replace(',', '.', 1)):
            hint = ', with a decimal comma: write a point'
        raise ValueError(f'{where}: {column} must be a number, got '
                         f'{cell!r}{hint}')
    return float(cell)


def read_list_file(path: str | Path) -> list[str]:
    """Read the entries of a text file, one per line, without outer blanks.

    Empty lines do not count. Encodings are as for :func:`read_table`; no entry
    is an error.

    Example:
        >>> _ = Path('classes.txt').write_text('benign\\nmalignant\\n')
        >>> read_list_file('classes.txt')
        ['benign', 'malignant']
    """
    text = _as_utf8(Path(path), read_bytes(path)).decode()
    entries = [line.strip() for line in re.split(r'\r\n|\r|\n', text)
               if line.strip()]
    if not entries:
        raise ValueError(f'The list file {path} is empty')
    return entries


def read_bytes(path: str | Path) -> bytes:
    """Read a file, or what is in it if it is gz or a zip of one file.

    A ValueError if it is damaged, or a zip of several files but not an xlsx.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'The file {path} does not exist')
    try:
        content = path.read_bytes()
        if content.startswith(b'\x1f\x8b'):
            return gzip.decompress(content)
        if not content.startswith(b'PK\x03\x04'):
            return content
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if 'xl/workbook.xml' in archive.namelist():
                return content
            members = [name for name in archive.namelist() if not
                       name.endswith('/') and not name.startswith('__MACOSX/')]
            if len(members) != 1:
                raise ValueError(f'{path} must hold one file, it holds '
                                 f'{members[:_SHOWN]}')
            return archive.read(members[0])
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f'{path} is truncated or damaged: {error}') from error


def _as_utf8(path: Path, content: bytes) -> bytes:
    """Bring text to UTF-8 without a mark, or name the line that is not."""
    if content.startswith(_OLD_EXCEL):
        raise ValueError(f'{path} is of an old Excel: save it as xlsx or csv')
    mark, codec = next((pair for pair in _MARKS
                        if content.startswith(pair[0])), (b'', 'utf-8'))
    content = content[len(mark):]
    if not mark and b'\0' in content:
        raise ValueError(
            f'{path}, line {content[:content.index(0)].count(10) + 1} has a '
            'zero byte: this is not text, or it is UTF-16 without a byte '
            'order mark')
    try:
        text = content.decode(codec)
    except UnicodeDecodeError as error:
        begin = content[:error.start].decode(codec, 'ignore')
        rest = content[error.start:][:80].decode('cp1252', 'replace')
        line = re.split('\r\n|\r|\n', begin + rest)[_line_of(begin) - 1]
        encoding = f'{codec}, as its mark says' if mark else (
            'UTF-8, and the file has no byte order mark; as Windows-1252 '
            f'(cp1252) the line reads {line[:80]!r}: save it as "CSV UTF-8"')
        raise ValueError(
            f'{path}, line {_line_of(begin)}: byte '
            f'{content[error.start]:#04x} is not {encoding}') from error
    return content if codec == 'utf-8' else text.encode()


def _line_of(begin: str) -> int:
    """Number of the line in which a text ends, from 1."""
    return len(re.findall('\r\n|\r|\n', begin)) + 1


class _Records:
    """The rows of a text, split at a delimiter; see ``read_table``.

    Attributes:
        rows: Line and number of cells of each row that is not blank.
        open_end: Whether the last cell of all but the first row is empty.
        blank: How many rows before the last are blank.
        cut: Whether the last row alone ends with a delimiter, and the file
            with it.
    """

    def __init__(self, path: Path, content: bytes, delimiter: str,
                 line: int) -> None:
        self.delimiter = delimiter
        separator, quoted = delimiter.encode(), b'"' in content
        if quoted:
            records = list(_quoted(path, content.decode(), delimiter, line))
            filled = [any(map(str.strip, cells)) for _, cells in records]
        else:
            records = list(enumerate(content.replace(
                b'\r\n', b'\n').replace(b'\r', b'\n').split(b'\n'), line))
            filled = [bool(text.strip(b' \t' + separator))
                      for _, text in records]
        _check_filled(path, filled)
        lines, self._cells = zip(*compress(records, filled), strict=True)
        if quoted:
            counts = map(len, self._cells)
            ends = [cells[-1].strip() for cells in self._cells]
            self.header = self._cells[0]
        else:
            counts = [text.count(separator) + 1 for text in self._cells]
            blanks = b' \t'.replace(separator, b'')
            ends = [not text.rstrip(blanks).endswith(separator)
                    for text in self._cells]
            self.header = self._cells[0].decode().split(delimiter)
        self.rows = list(zip(lines, counts, strict=True))
        self.open_end = len(ends) > 1 and not any(ends[1:])
        last = max(row for row, kept in enumerate(filled) if kept)
        self.blank = filled[:last].count(False)
        self.cut = (len(ends) > 1 and not ends[-1] and all(ends[:-1])
                    and not content.endswith((b'\n', b'\r')))

    def body(self, start: int) -> bytes:
        """The rows from a number on, as csv."""
        rows = self._cells[start:]
        if not rows or isinstance(rows[0], bytes):
            return b'\n'.join(rows)
        return csv_text(rows, self.delimiter, plain=True).encode()

    def uneven(self) -> tuple[int, int] | None:
        """Line and cells of the first row that the header does not fit."""
        width = len(self.header)
        return next((row for row in self.rows if row[1] != width), None)


def _check_filled(path: Path, filled: Sequence[bool]) -> None:
    if not any(filled):
        raise ValueError(f'{path} is empty: it has no row')


def _quoted(path: Path, text: str, delimiter: str,
            line: int) -> Iterator[tuple[int, list[str]]]:
    """Split a text with quotes: line and cells of every row."""
    reader = csv.reader(io.StringIO(text, newline=''), delimiter=delimiter,
                        strict=True)
    while True:
        start = line + reader.line_num
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(f'{path}, line {start}: the quotes of the row '
                             f'are wrong ({error})') from error
        yield start, cells or ['']


def _read_text(path: Path, content: bytes, header: bool, comment: str,
               row_names: bool) -> Table:
    line = 1
    while content and (not (first := re.match(rb'[^\r\n]*', content)[0])
                       .strip() or comment
                       and first.startswith(comment.encode())):
        content = re.sub(rb'\r\n|\r|\n|\Z', b'', content[len(first):], count=1)
        line += 1
    _check_filled(path, [bool(content)])
    records = _split(path, content, line)
    names = [_plain(name) for name in records.header]
    width, notes = len(names), []
    counts = {count for _, count in records.rows[1:]}
    if header and counts == {width + 1} and records.open_end:
        names.append('')
        notes.append('every row ends with a delimiter that the header lacks')
    elif (header and counts == {width + 1} and row_names
          and records.delimiter == '\t'):
        names.insert(0, '')
    elif counts - {width}:
        number, count = records.uneven()
        ends = (': was the file cut off?' if number == records.rows[-1][0]
                and count < width else
                ': is there a delimiter or a decimal comma within a cell?'
                if count > width else '')
        raise ValueError(f'{path}, line {number} has {count} cells, line '
                         f'{records.rows[0][0]} has {width}{ends}')
    if records.cut:
        raise ValueError(
            f'{path}, line {records.rows[-1][0]} ends with a delimiter and '
            'without a line end, the others do not: was the file cut off?')
    if not content.endswith((b'\n', b'\r')):
        notes.append(f'the last line, line {records.rows[-1][0]}, has no '
                     'line end, as if the file were cut off')
    if not header:
        names = [str(place) for place in range(width)]
    if records.blank:
        notes.append(f'left out {records.blank} blank rows')
    table = Table(path, names, records.body(int(header)),
                  [number for number, _ in records.rows[header:]],
                  records.delimiter)
    table.notes += notes
    return table


def _split(path: Path, content: bytes, line: int) -> _Records:
    """Find the delimiter, and split."""
    first = re.match(rb'[^\r\n]*', content)[0].decode()
    candidates = [mark for mark in _DELIMITERS if mark in first]
    if len(candidates) == 1:
        return _Records(path, content, candidates[0], line)
    if not candidates:
        # One column, if no row can be split either.
        tried = [_Records(path, content, mark, line) for mark in _DELIMITERS]
        split = [records for records in tried if records.uneven()]
        numbers = [{number for number, _ in records.rows} for records in tried]
        odd = set.union(*numbers) - set.intersection(*numbers)
        if odd and not split:
            raise ValueError(f'{path}, line {min(odd)}: cannot tell whether '
                             'the row is blank or a cell with a delimiter')
        if len(split) < 2:
            return [*split, *tried[::-1]][0]
        number, count = split[0].uneven()
        raise ValueError(f'{path}, line {number} has {count} cells or more, '
                         f'line {line} has 1')
    tried, wrong = [], None
    for mark in candidates:
        try:
            records = _Records(path, content, mark, line)
        except ValueError as error:
            wrong = error
            continue
        if len(records.header) > 1:
            tried.append(records)
    even = [records for records in tried if records.uneven() is None]
    if len(even) > 1:
        raise ValueError(f'{path}, line {line}: cannot tell whether cells '
                         'end with ' + ' or '.join(
                             repr(records.delimiter) for records in even))
    if not tried:
        raise wrong or ValueError(f'{path}, line {line} is not a header')
    return even[0] if even else tried[0]


def _sheet_as_csv(path: Path, content: bytes) -> bytes:
    """Read the one filled sheet of an xlsx, rows at their numbers."""
    import_extra('openpyxl', 'genes', str(path))
    # openpyxl and zipfile fail in many ways on damaged files.
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = [archive.read(name) for name in archive.namelist()
                     if name.startswith('xl/worksheets/')]
            styles = archive.read('xl/styles.xml') \
                if 'xl/styles.xml' in archive.namelist() else b''
        sheets = pd.read_excel(
            io.BytesIO(content), sheet_name=None, header=None, dtype=object,
            keep_default_na=False, na_filter=False)
    except Exception as error:
        raise ValueError(f'{path} cannot be read as xlsx: {error}') from error
    for pattern, what in (
            *_zeros_in_front(styles),
            (_ERROR_CELL, 'is the error'),
            (_OPEN_FORMULA, 'is a formula without its value, open and save '
             'the file in a spreadsheet:'),
            (_MERGED, 'are merged: split them and fill each')):
        match = next(filter(None, map(pattern.search, parts)), None)
        if match:
            raise ValueError(
                f'{path}, cell {match[1].decode()} {what} '
                f'{(match[2] or b"").decode("utf-8", "replace")}'.strip())
    filled = [name for name, sheet in sheets.items() if sheet.size]
    if len(filled) != 1:
        raise ValueError(f'{path} must have one sheet with cells, it has '
                         f'{len(filled)}: {filled[:_SHOWN]}')
    rows = sheets[filled[0]].to_numpy().tolist()
    return csv_text([[_as_text(cell) for cell in row] for row in rows],
                    plain=True).encode()


def _zeros_in_front(styles: bytes) -> Iterator[tuple[re.Pattern, str]]:
    """Find cells that show 0001 and hold the number 1."""
    formats = set(_NUMBER_FORMAT.findall(styles))
    cells = re.search(rb'<(?:\w+:)?cellXfs\b.*?</(?:\w+:)?cellXfs>', styles,
                      re.DOTALL)
    numbers = [b'%d' % place for place, kind in enumerate(
        _STYLE.findall(cells[0]) if cells else ()) if kind in formats]
    if numbers:
        yield re.compile(
            rb'<(?:\w+:)?c r="(\w+)"(?=[^>]*\bs="(?:%s)")(?![^>]*\bt="[^n])'
            rb'[^>]*[^/]>()' % b'|'.join(numbers)), (
            'is a number that is shown with zeros in front: make it a text')


def _read_parquet(path: Path, content: bytes) -> Table:
    import_extra('pyarrow', 'genes', str(path))
    try:
        frame = pd.read_parquet(io.BytesIO(content))
    except (ValueError, OSError) as error:
        raise ValueError(f'Cannot read {path} as parquet: {error}') from error
    # pandas makes one without a name where a table has none.
    if (not isinstance(frame.index, pd.RangeIndex)
            or frame.index.name is not None):
        frame = frame.reset_index()
    names = [_plain(str(name)) for name in frame]
    for name, (_, cells) in zip(names, frame.items(), strict=True):
        odd = cells.dtype == object and next((
            cell for cell in cells if isinstance(
                cell, bytes | list | dict | tuple | np.ndarray)), None)
        if odd is not None and odd is not False:
            raise ValueError(f'{path}: {name} holds {type(odd).__name__}, '
                             'expected text or numbers')
    return Table(path, names, frame, range(1, len(frame) + 1))


def _as_text(value: object) -> str:
    """A typed cell as text: whole numbers without a point, None as ''."""
    if value is None or value is pd.NaT or value is pd.NA or (
            isinstance(value, float) and value != value):
        return ''
    # Beyond, a float does not hold every whole number.
    if isinstance(value, float) and value.is_integer() \
            and abs(value) < 2**53:
        return str(int(value))
    return _plain(str(value))


def _plain(cell: str) -> str:
    """Take off blanks, seen or not, and the apostrophe of a formula."""
    cell = cell.strip()
    if not cell.isascii():
        cell = cell.strip(_UNSEEN)
    if cell.startswith("'") and is_formula(cell.lstrip("'")):
        return cell[1:]
    return cell


def _is_number(text: str) -> bool:
    return bool(_NUMBER.fullmatch(text)) and math.isfinite(float(text))
