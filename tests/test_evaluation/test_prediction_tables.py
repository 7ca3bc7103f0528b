"""Tables of predictions survive their csv; split files choose from them."""

import numpy as np
import pytest

from mmmedmask.evaluation.patient_tables import (
    PatientPredictions,
    PatientRisks,
    read_patients,
    read_risks,
    write_patients,
    write_risks,
)
from mmmedmask.evaluation.predictions import (
    Predictions,
    read_predictions,
    relative_path,
    select_listed,
    write_predictions,
)

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 3, 40)
SCORES = RANDOM.random((40, 3)).astype(np.float32)
SCORES[0] = [np.nextafter(np.float32(1), np.float32(0)), 1e-30, 0]
NAMES = [f'a, "b"/{index}' for index in range(40)]
ANSWERS = LABELS, SCORES.astype(np.float64), ['x', 'y, z', '"']
MADE_OF = ['slides', 'genes'] * 20, [('a', 'b'), ()] * 20
PROBABILITIES = 'predicted,probability x,"probability y, z","probability """'


@pytest.mark.parametrize(('write', 'read', 'table', 'head'), [
    (write_predictions, read_predictions, Predictions(NAMES, *ANSWERS),
     f'path,label,group,{PROBABILITIES}'),
    (write_patients, read_patients,
     PatientPredictions(NAMES, *ANSWERS, *MADE_OF),
     f'case_id,label,{PROBABILITIES},modalities,slides'),
    (write_risks, read_risks, PatientRisks(
        NAMES, SCORES[:, 0], LABELS > 0, SCORES[:, 1], *MADE_OF),
     'case_id,survival_months,censorship,risk,modalities,slides')])
def test_a_table_survives_its_csv(tmp_path, write, read, table, head):
    """To the bit, for float32."""
    write(tmp_path / 't.csv', table)
    assert (tmp_path / 't.csv').read_text().startswith(f'{head}\n')
    found = read(tmp_path / 't.csv')
    for name, value in vars(table).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(
                getattr(found, name).astype(np.float32),
                value.astype(np.float32))
        else:
            assert getattr(found, name) == value
    assert [file.name for file in tmp_path.iterdir()] == ['t.csv']


@pytest.mark.parametrize(('read', 'head', 'rows', 'message'), [
    (read_predictions, 'path,label', 'a,b\n', 'not a table of predictions'),
    (read_predictions, 'path,label,group,predicted,probability x', '',
     'has a header and no row'),
    (read_predictions, 'path,label,group,predicted,probability x',
     'a,y,,x,1\n', "label must be one of .* got 'y'"),
    (read_predictions, 'path,label,group,predicted,probability x',
     'a,x,,x,1\nb,x,g,x,1\n', '1 of 2 images no group'),
    (read_patients, 'case_id,predicted', 'a,b\n', 'not a table of patients'),
    (read_patients, 'case_id,label', 'a,x\n', 'no .probability. column per c'),
    (read_patients, 'case_id,label,probability x', 'a,x,1\na,x,1\n',
     'case a more than once'),
    (read_risks, 'case_id,survival_months,censorship,risk',
     'a,1,0,2\na,1,0,2\n', 'case a more than once'),
    (read_risks, 'case_id,survival_months,censorship,risk', 'a,1,yes,2\n',
     r"0 or 1, got \['yes'\]"),
    *((read_patients, 'case_id,label,probability x', f'a,x,1\nb,x,{cell}\n',
       f't.csv, line 3: probability x must be {wanted}, got {cell!r}')
      for cell, wanted in (('nan', 'a number'), ('', 'a number'),
                           ('high', 'a number'), ('1.2', r'in \[0, 1\]'),
                           ('-.1', r'in \[0, 1\]'))),
    (read_risks, 'case_id,survival_months,censorship,risk', 'a,1,0,nan\n',
     "t.csv, line 2: risk must be a number, got 'nan'")])
def test_what_is_not_such_a_table(tmp_path, read, head, rows, message):
    (tmp_path / 't.csv').write_text(f'{head}\n{rows}')
    with pytest.raises(ValueError, match=message):
        read(tmp_path / 't.csv')


def test_probabilities_that_were_rounded(tmp_path):
    """What is let in is a probability to all that follows."""
    head = 'case_id,label,probability x,probability y'
    (tmp_path / 't.csv').write_text(f'{head}\na,x,1.000001,-0.000001\n')
    scores = read_patients(tmp_path / 't.csv').scores
    assert scores.tolist() == [[1, 0]]


def table_of(paths):
    number = len(paths)
    return Predictions(
        paths=paths, labels=np.arange(number) % 2,
        scores=np.eye(2)[np.arange(number) % 2], classes=['x', 'y'],
        groups=[f'g{index}' for index in range(number)])


def test_selects_what_a_split_lists(tmp_path):
    split = tmp_path / 'val.csv'
    split.write_text('path,label,group\n./val/c.png,x,1\nval/b.png,y,2\n')
    table = table_of(
        [f'/data/set/val/{name}.png' for name in 'abc'] + ['xval/b.png'])
    found = select_listed(table, split)
    assert found.paths == ['/data/set/val/c.png', '/data/set/val/b.png']
    assert found.groups == ['g2', 'g1']
    assert found.labels.tolist() == [0, 1]
    np.testing.assert_array_equal(found.scores, np.eye(2))


@pytest.mark.parametrize(('rows', 'message'), [
    ('a.png,x\nb.png,y\nd.png,x\n', '1 of 3 images .* d.png'),
    ('./a.png,x\na.png,x\n', 'lists a.png twice'),
    ('a.png,y\n', "a.png is 'y' in .*, but 'x'"),
    ('c.png,x\n', 'c.png .* may mean several'), ('', 'not a split')])
def test_splits_that_do_not_fit(tmp_path, rows, message):
    (tmp_path / 'val.csv').write_text('path,label\n' + rows)
    table = table_of(['r/a.png', 'r/b.png', 'r/c.png', 's/c.png'])
    with pytest.raises(ValueError, match=message):
        select_listed(table, tmp_path / 'val.csv')


@pytest.mark.parametrize(('path', 'root', 'expected'), [
    ('/data/set/a/b.png', '/data/set', 'a/b.png'),
    ('/data/set/a/b.png', '/data/set/', 'a/b.png'),
    ('/data/settle/b.png', '/data/set', '/data/settle/b.png'),
    ('data/set/b.png', 'data/set', 'b.png'),
    ('data/set/b.png', None, 'data/set/b.png')])
def test_paths_relative_to_the_data(path, root, expected):
    assert relative_path(path, root) == expected
