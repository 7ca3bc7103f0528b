"""The report says what to do, in full on disk and short on the screen."""

import json

import pytest

from mmmedmask.datasets.conversion.check_report import (
    ADVICE,
    CheckReport,
    DataFinding,
)


@pytest.fixture
def report():
    report = CheckReport(checked=['train: 3 images'])
    for number in range(3):
        report.add_problem(
            'broken_file', f'{number}.png', detail=f'reason {number}')
    report.add_notice('identical_within_split', 'a.png', 'b.png')
    return report


def test_text(report):
    assert report.to_text().splitlines() == [
        'Checked: train: 3 images', '', 'PROBLEMS: 3',
        f'  broken_file (3): {ADVICE["broken_file"]}',
        *(f'    {number}.png  [reason {number}]' for number in range(3)), '',
        'Notices: 1', '  identical_within_split (1): '
        f'{ADVICE["identical_within_split"]}', '    a.png | b.png']
    short = report.to_text(max_lines=1)
    assert '0.png' in short
    assert '1.png' not in short
    assert '... and 2 more' in short
    assert 'PROBLEMS: none' in CheckReport().to_text()


def test_files_hold_everything(report, tmp_path):
    text, data = report.write(tmp_path / 'deep')
    assert text.read_text() == report.to_text() + '\n'
    content = json.loads(data.read_text())
    assert [one['files'] for one in content['problems']] == [
        ['0.png'], ['1.png'], ['2.png']]
    assert content['notices'] == [{'kind': 'identical_within_split',
                                   'files': ['a.png', 'b.png'], 'detail': ''}]


def test_unknown_kind():
    with pytest.raises(ValueError, match='odd'):
        DataFinding('odd', [])
