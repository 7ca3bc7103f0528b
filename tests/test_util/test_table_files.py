"""One strict reader: cells as a naive parser reads them, or an error."""

import csv
import datetime
import decimal
import gzip
import io
import itertools
import re
import zipfile
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmmedmask.util.atomic_files import csv_text, write_csv
from mmmedmask.util.table_files import (
    cell_number,
    check_cell,
    read_list_file,
    read_table,
)


def naive_rows(text, delimiter):
    """Split a text, one character at a time: line and cells of each row.

    The line alone where the quotes of a row that begins there are wrong.
    """
    rows, cells, cell = [], [], ''
    state, line, start, last = 'begin', 1, 1, ''
    for character in [*text, 'end']:
        line += character == '\r' or character == '\n' and last != '\r'
        if state == 'inside':
            if character == 'end':
                return start
            if character == '"':
                state = 'closed'
            else:
                cell += character
        elif character == '"' and state == 'begin':
            state = 'inside'
        elif character == '"' and state == 'closed':
            cell, state = cell + '"', 'inside'
        elif character in (delimiter, '\n', '\r', 'end'):
            cells, cell, state = [*cells, cell], '', 'begin'
            if character != delimiter:
                rows, cells, start = [*rows, (start, cells)], [], line
        elif state == 'closed':
            return start
        else:
            cell, state = cell + character, 'open'
        last = character
    rows = [(line, [naive_plain(cell) for cell in row]) for line, row in rows]
    return [(line, row) for line, row in rows if any(row)]


def naive_plain(cell):
    cell = cell.strip()
    rest = cell.lstrip("'")
    if cell != rest and len(rest) > 1 and rest[0] in '=+-@\t\r':
        try:
            float(rest)
        except ValueError:
            return cell[1:]
    return cell


def naive_table(text, delimiter):
    """Names and cells, or the line of an error, or None for no row."""
    numbered = naive_rows(text, delimiter)
    if not isinstance(numbered, list):
        return numbered
    lines, rows = [line for line, _ in numbered], [row for _, row in numbered]
    if not rows:
        return None
    cut = (len(rows) > 1 and text[-1] not in '\r\n' and not rows[-1][-1]
           and all(row[-1] for row in rows[:-1]))
    if {len(row) for row in rows[1:]} == {len(rows[0]) + 1} and not any(
            row[-1] for row in rows[1:]):
        rows[0].append('')
    for line, row in zip(lines, rows, strict=True):
        if len(row) != len(rows[0]):
            return line
    if cut:
        return lines[-1]
    kept = [place for place, name in enumerate(rows[0]) if name or not place]
    for place in range(len(rows[0])):
        for line, row in zip(lines, rows, strict=True):
            if place not in kept and row[place]:
                return line
    return [[row[place] for place in kept] for row in rows]


def naive_doubt(text):
    """Lines that show that a text can be understood in two ways.

    The header, the first row that is blank for one delimiter alone, and the
    first of each delimiter that splits a row and not the header.
    """
    found = [rows for rows in (naive_rows(text, mark) for mark in '\t;,')
             if isinstance(rows, list)]
    lines = [{line for line, _ in rows} for rows in found]
    blank = set.union(*lines) - set.intersection(*lines)
    return {min(set.union(*lines)), min(blank, default=0), *(
        next((line for line, row in rows if len(row) != len(rows[0][1])), 0)
        for rows in found)}


def as_read(path, **options):
    """Names and cells as our reader gives them, or the line of its error.

    None for an error without a line.
    """
    message = ''
    try:
        table = read_table(path, repeated=True, empty=True, **options)
    except ValueError as error:
        message = str(error)
    if message:
        assert message.startswith(str(path))
        line = re.search(r'line (\d+)', message.removeprefix(str(path)))
        return int(line[1]) if line else None
    return [list(table.names), *map(list, zip(
        *table.texts(range(len(table.names))), strict=True))]


FAST = settings(max_examples=60, deadline=None, derandomize=True,
                suppress_health_check=list(HealthCheck))
CELLS = st.one_of(
    st.text('ab0é ,;\t"\n\'=+-@.', max_size=5),
    st.from_regex(r'0{0,3}[0-9]{1,4}', fullmatch=True),
    st.floats(-1e6, 1e6).map(str), st.sampled_from(['NA', 'True', '1e5']))


@FAST
@given(data=st.data())
def test_fuzz_of_written_tables(tmp_path, data):
    """Any cells come back, or an error names the file and the line."""
    width = data.draw(st.integers(2, 4))
    names = [f'n{place}' for place in range(width)]
    rows = data.draw(st.lists(st.lists(CELLS, min_size=width, max_size=width),
                              min_size=1, max_size=5))
    delimiter = data.draw(st.sampled_from(',;\t'))
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator=data.draw(
        st.sampled_from(['\n', '\r\n', '\r'])), quoting=data.draw(
            st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))).writerows(
                [names, *rows])
    encoding = data.draw(st.sampled_from(
        ['utf-8', 'utf-8-sig', 'utf-16', 'utf-32', 'cp1252']))
    content = text.getvalue().encode(encoding)
    path = tmp_path / 'fuzz.csv'
    path.write_bytes(content)
    expected = [names] + [
        row for row in ([naive_plain(cell) for cell in row] for row in rows)
        if any(row)]
    read = as_read(path)
    if encoding == 'cp1252' and 'é' in text.getvalue():
        before = text.getvalue().partition('é')[0].replace('\r\n', '\n')
        assert read == 1 + before.count('\n') + before.count('\r')
        return
    # Without carriage returns, what was written. The writer quotes no line
    # feed then, and so ends a row there.
    assert read == naive_table(text.getvalue(), delimiter)
    if '\r' not in text.getvalue().replace('\r\n', ''):
        assert read == expected


@pytest.mark.parametrize('delimiter', ',;\t')
def test_cells_more_or_less_in_any_row(tmp_path, delimiter):
    """All ways to change a header and two rows; never a shifted cell."""
    path = tmp_path / 'ragged.csv'
    for changes in itertools.product(('same', 'less', '', '1'), repeat=3):
        rows = [['id', 'x', 'y'], ['01', '2', '3'], ['02', '', '5']]
        for row, change in zip(rows, changes, strict=True):
            if change == 'less':
                row.pop()
            elif change != 'same':
                row.append(change)
        text = ''.join(delimiter.join(row) + '\n' for row in rows)
        path.write_text(text)
        assert as_read(path) == naive_table(text, delimiter), text


@FAST
@given(text=st.text('ab0é ,;\t"\n\r=', max_size=40))
def test_fuzz_of_any_text(tmp_path, text):
    """The table or the line of an error that the naive parser sees."""
    path = tmp_path / 'fuzz.csv'
    path.write_text(text, 'utf-8', newline='')
    read = as_read(path)
    naive = [naive_table(text, delimiter) for delimiter in '\t;,']
    if isinstance(read, int) and read not in naive:
        assert read in naive_doubt(text)
    else:
        assert read in naive


@FAST
@given(data=st.data())
def test_fuzz_of_cut_files(tmp_path, data):
    """A file that ends anywhere is an error, or its last row is whole."""
    rows = [['id', 'x', 'y']] + [
        [f'{number:04d}', str(number / 7), str(-number / 3)]
        for number in range(1, 5)]
    content = ''.join('\t'.join(row) + '\n' for row in rows)
    path = tmp_path / 'cut.tsv'
    content_left = content[:data.draw(st.integers(1, len(content)))]
    path.write_text(content_left)
    read = as_read(path)
    assert read == naive_table(content_left, '\t')
    if isinstance(read, list):
        assert read[:-1] == rows[:len(read) - 1]
        assert all(read[-1])
        assert content.startswith('\n'.join(map('\t'.join, read)))


def test_our_own_formulas_come_back_and_are_none_in_a_spreadsheet(tmp_path):
    cells = ['=1+1', '+1-2', '-2+3', '@SUM(A1)', "'=x", '-1.5', '+3', '-',
             'a=b', "'a"]
    path = tmp_path / 'a.csv'
    write_csv(path, ['=name', 'number'], [[cell, -1.5] for cell in cells])
    with path.open(newline='') as stream:
        for row in csv.reader(stream):
            for cell in row:
                assert cell[:1] not in ('=', '@')
                if cell[:1] in ('+', '-') and len(cell) > 1:
                    float(cell)
    table = read_table(path)
    assert table.names == ('=name', 'number')
    assert csv_text([[Path('=a'), -2, np.int64(-1), None]]) == "'=a,-2,-1,\n"
    assert table.text(0) == cells
    assert (table.numbers([1]) == -1.5).all()


@pytest.mark.parametrize(('content', 'message'), [
    ('', 'is empty'), ('\n ,\n', 'is empty'),
    ('a,b\n1,2\n3\n', 'line 3 has 1 cells, line 1 has 2: was the file cut'),
    ('a,b\n1,2,5\n3,4\n', 'line 2 has 3 cells, line 1 has 2: is there a '
     'delimiter or a decimal comma'),
    ('a;b\n1;2\n3;4;5\n', 'line 3 has 3 cells'),
    ('a\n1\n3;4\n', 'line 3 has 2 cells, line 1 has 1'),
    ('a,b\n1,"x\ny"\n3\n', 'line 4 has 1 cells'),
    ('a,b\n1,"x\n', 'line 2: the quotes of the row'),
    ('a,b\n1,"x"y\n', 'line 2: the quotes of the row'),
    ('a,b,a\n1,2,3\n', r"1 columns more than once: \['a'\]"),
    ('a,b,\n1,2,\n3,4,x\n', "line 3: cell 3 is 'x', below no name"),
    ('a,b\n1,2,\n3,4,x\n', 'line 2 has 3 cells, line 1 has 2'),
    ('a;b,c\n1;2,3\n', "line 1: cannot tell whether cells end with ';' or"),
    ('b\n1\n;\n2\n', 'line 3: cannot tell whether the row is blank'),
    ('a\tb\n1\t\n2\t3\n4\t', 'line 4 has|line 2 has|no number'),
    ('a\tb\n1\t2\n2\t3\n4\t', 'line 4 ends with a delimiter.*cut off'),
    ('x,y\n1,2\n', r"lacks the columns \['b'\]; it has"),
])
def test_what_is_refused(tmp_path, content, message):
    path = tmp_path / 'a.csv'
    path.write_text(content)
    if 'no number' in message:
        assert read_table(path).numbers([1])[1] == 3
        return
    with pytest.raises(ValueError, match=f'{path}.*{message}'):
        read_table(path, ['b'] if 'lacks' in message else [])


def test_encodings(tmp_path):
    path = tmp_path / 'a.csv'
    text = 'name,x\nMüller,1\nĐorđe,2\n'
    for encoding in ('utf-8', 'utf-8-sig', 'utf-16', 'utf-32'):
        path.write_bytes(text.encode(encoding))
        assert read_table(path).text(0) == ['Müller', 'Đorđe']
    for encoding in ('utf-16-le', 'utf-16-be'):
        path.write_bytes(text.encode(encoding))
        with pytest.raises(ValueError, match='line 1 has a zero byte.*UTF-16'):
            read_table(path)
    path.write_bytes('name\nx\nMüller\n'.encode('cp1252'))
    with pytest.raises(ValueError, match='line 3: byte 0xfc is not UTF-8.*'
                       "cp1252.* the line reads 'Müller'"):
        read_table(path)
    path.write_bytes(text.encode('utf-16')[:-5])
    with pytest.raises(ValueError, match='is not utf-16-le, as its mark'):
        read_table(path)
    path.write_bytes(b'\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1')
    with pytest.raises(ValueError, match='old Excel'):
        read_table(path)
    path.write_bytes('Läsion\n\nNävus \n'.encode('utf-16'))
    assert read_list_file(path) == ['Läsion', 'Nävus']


def test_what_is_accepted_is_said(tmp_path):
    path = tmp_path / 'a.csv'
    path.write_text('id,x\n01,5,\n\n02,6,\n')
    table = read_table(path)
    assert list(table.rows()) == [(f'{path}, line 2', {'id': '01', 'x': '5'}),
                                  (f'{path}, line 4', {'id': '02', 'x': '6'})]
    assert table.notes == [
        'every row ends with a delimiter that the header lacks',
        'left out 1 blank rows', 'left out 1 empty columns without a name']
    path.write_text('slide_id,mpp,,\na,.5,,\n,,,\nb,,,\n')
    assert read_table(path).text(0) == ['a', 'b']
    path.write_text('# made by hand\n#\nid\tx\n1\t2\n')
    assert list(read_table(path, comment='#').rows('x')) == [
        (f'{path}, line 4', {'x': '2'})]
    path.write_text('s1\ts2\ng1\t1\t2\n')
    assert read_table(path, row_names=True).names == ('', 's1', 's2')
    with pytest.raises(ValueError, match='line 2 has 3 cells'):
        read_table(path)
    # A decimal comma looks the same where cells end with a comma.
    path.write_text('id,s1\ng1,1,5\n')
    with pytest.raises(ValueError, match='line 2 has 3 cells'):
        read_table(path, row_names=True)
    path.write_text('1;2\n3;4\n')
    table = read_table(path, header=False)
    assert table.numbers([0, 1]).tolist() == [[1, 2], [3, 4]]


def test_numbers(tmp_path):
    path = tmp_path / 'a.tsv'
    path.write_text('id\tx\ty\tz\n001\t1.5\tNA\t1,5\n002\t\t-2e3\t2\n')
    table = read_table(path)
    assert table.text(0) == ['001', '002']
    assert table.text(2) == ['NA', '-2e3']
    assert np.array_equal(table.numbers([1, 2]), np.array(
        [[1.5, np.nan], [np.nan, -2000]], np.float32), equal_nan=True)
    assert not table.is_numeric(3)
    with pytest.raises(ValueError, match="line 2: z must be a number, got "
                       "'1,5', with a decimal comma"):
        table.numbers([1, 3])
    for cell in ('1,234', '12.345.678,9', '1 000'):
        with pytest.raises(ValueError, match='may mean thousands'):
            cell_number('a.csv, line 2', 'x', cell)
    for cell in ('True', '1_000', '1 000', '0x1A', '5%', '<1', '1e400', '١'):
        path.write_text(f'x\ty\n1\t{cell}\n2\t3\n')
        with pytest.raises(ValueError, match=f"line 2: y must be .* '{cell}'"):
            read_table(path).numbers([1])
    path.write_text(f'x\ty\n1\t{10**24}\n2\t3\n')
    assert read_table(path).numbers([1])[:, 0].tolist() == [
        np.float32(1e24), 3]


def test_xlsx_parquet_gz_and_zip(tmp_path):
    frame = pd.DataFrame({'id': ['007', 'é'], 'x': [1.0, 2.5],
                          'day': [datetime.datetime(2020, 3, 1), None]})
    frame.to_excel(tmp_path / 'a.xlsx', index=False)
    frame.drop(columns='day').to_parquet(tmp_path / 'a.parquet')
    (tmp_path / 'a.gz').write_bytes(gzip.compress(
        'id,x\n007,1\né,2.5\n'.encode()))
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as archive:
        archive.writestr('a.csv', 'id,x\n007,1\né,2.5\n')
    for name in ('a.xlsx', 'a.parquet', 'a.gz', 'a.zip'):
        table = read_table(tmp_path / name)
        assert table.text(0) == ['007', 'é']
        assert table.text(1) == ['1', '2.5']
        assert table.numbers([1])[:, 0].tolist() == [1, 2.5]
    assert read_table(tmp_path / 'a.xlsx').text(2) == [
        '2020-03-01 00:00:00', '']
    frame = pd.DataFrame({'x': [decimal.Decimal('1.5')]})
    frame.to_parquet(tmp_path / 'b.parquet')
    assert read_table(tmp_path / 'b.parquet').numbers([0]).item() == 1.5
    # An index with a name is a column, though it counts.
    frame.index.name = 'case_id'
    frame.to_parquet(tmp_path / 'b.parquet')
    table = read_table(tmp_path / 'b.parquet')
    assert table.names == ('case_id', 'x')
    assert table.text(0) == ['0']
    for cell, kind in ((b'p1', 'bytes'), (['p1'], 'ndarray')):
        pd.DataFrame({'x': [None, cell]}).to_parquet(tmp_path / 'b.parquet')
        with pytest.raises(ValueError, match=f'x holds {kind}, expected'):
            read_table(tmp_path / 'b.parquet')
    frame = pd.DataFrame({'id': ['a']})
    with pd.ExcelWriter(tmp_path / 'b.xlsx') as writer:
        for name in ('one', 'two'):
            frame.to_excel(writer, sheet_name=name)
    with pytest.raises(ValueError, match=r"one sheet.*\['one', 'two'\]"):
        read_table(tmp_path / 'b.xlsx')
    (tmp_path / 'c').write_bytes((tmp_path / 'a.gz').read_bytes()[:-9])
    with pytest.raises(ValueError, match='c is truncated or damaged'):
        read_table(tmp_path / 'c')


@pytest.mark.parametrize(('cell', 'message'), [
    ('=1+1', 'cell B2 is a formula without its value.* 1[+]1'),
    ('#REF!', 'cell B2 is the error #REF!'),
    ('#DIV/0!', 'cell B2 is the error #DIV/0!'),
    (None, 'cell A2:A3 are merged')])
def test_cells_of_xlsx_that_would_be_empty(tmp_path, cell, message):
    book = openpyxl.Workbook()
    for row in (['id', 'x'], ['p1', cell], ['p2', 3]):
        book.active.append(row)
    if cell is None:
        book.active.merge_cells('A2:A3')
    book.save(tmp_path / 'a.xlsx')
    with pytest.raises(ValueError, match=f'a.xlsx, {message}'):
        read_table(tmp_path / 'a.xlsx')


def test_numbers_of_xlsx_that_are_shown_with_zeros(tmp_path):
    book = openpyxl.Workbook()
    for row in (['id', 'x'], ['0002', 3], [1, 2.5]):
        book.active.append(row)
    book.active['A2'].number_format = book.active['B2'].number_format = '0.0'
    book.save(tmp_path / 'a.xlsx')
    assert read_table(tmp_path / 'a.xlsx').text(0) == ['0002', '1']
    book.active['A3'].number_format = '0000'
    book.save(tmp_path / 'a.xlsx')
    with pytest.raises(ValueError, match='cell A3 .*with zeros in front'):
        read_table(tmp_path / 'a.xlsx')


def test_what_shows_nothing_is_no_part_of_a_name(tmp_path):
    path = tmp_path / 'a.csv'
    path.write_text('\ufeff\ufeffid,x\n\u200bp1\u200b,\ufeff2\np\u00a02 ,3\n')
    table = read_table(path)
    assert table.names == ('id', 'x')
    assert table.texts([0, 1]) == [['p1', 'p\xa02'], ['2', '3']]


def test_missing_cells_of_xlsx(tmp_path):
    book = openpyxl.Workbook()
    for row in (['id', 'x'], ['p1', '#N/A'], ['p2', None], ['p3', 3]):
        book.active.append(row)
    book.save(tmp_path / 'a.xlsx')
    assert read_table(tmp_path / 'a.xlsx').text(1) == ['', '', '3']
    with pytest.raises(FileNotFoundError, match='none.csv does not exist'):
        read_table(tmp_path / 'none.csv')


def test_known_values():
    with pytest.raises(ValueError, match="a.csv, line 2: split must be one of "
                       r"\('train', 'val'\), got 'Trian'. Did you mean "
                       r'train\?'):
        check_cell('a.csv, line 2', 'split', 'Trian', ('train', 'val'))
