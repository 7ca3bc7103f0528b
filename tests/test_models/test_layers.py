"""Sets of genes as files and as places."""

import numpy as np
import pytest
import torch

from mmmedmask.models import layers

GENES = ['ENSG00000000003', 'TP53', 'EGFR', 'KRAS', 'SOX2']


def test_equal_splits_and_places():
    assert [one.tolist() for one in layers.gene_set_places(3, 8)] == [
        [0, 1, 2], [3, 4, 5], [6, 7]]
    found = layers.gene_set_places([[3, 1, 1], [0]], 4)
    assert [one.tolist() for one in found] == [[1, 3], [0]]
    arrays = layers.gene_set_places([np.array([3, 1, 1]), {0}], 4)
    assert all(map(torch.equal, arrays, found))
    assert all(one.dtype == torch.int64 for one in found)


@pytest.mark.parametrize(('name', 'text'), [
    ('sets.gmt', 'one\thttps://x\tTP53\tENSG00000000003.14\tABSENT\n'
                 'two\t\tSOX2\tTP53\n'),
    ('sets.csv', 'one,two\nTP53,SOX2\nENSG00000000003.14,TP53\nABSENT,\n')])
def test_files(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    assert layers.read_gene_sets(path) == {
        'one': {'TP53', 'ENSG00000000003', 'ABSENT'}, 'two': {'SOX2', 'TP53'}}
    genes = tmp_path / 'genes.txt'
    genes.write_text('\n'.join(GENES))
    for gene_list in (GENES, str(genes)):
        found = layers.gene_set_places(str(path), 5, gene_list)
        assert [one.tolist() for one in found] == [[0, 1], [1, 4]]


def test_the_log_counts_what_was_found(tmp_path, monkeypatch):
    path = tmp_path / 'sets.GMT'
    layers.write_gene_sets(path, {'one': ['TP53', 'EGFRR', 'ABSENT', 'KRAS'],
                                  'two': ['KRAS', 'SOX2']}, 'drawn')
    lines = []
    monkeypatch.setattr(layers.gene_sets, 'print_log',
                        lambda text, logger: lines.append(text))
    layers.gene_set_places(str(path), 5, GENES)
    assert lines == [
        f"{path}: 2 sets with 5 genes, of which gene_list has 3 and lacks 2 "
        "(['ABSENT', 'EGFRR']); 1 are in several sets, and 2 of the 5 genes "
        'of gene_list in none. EGFRR: Did you mean EGFR?']


@pytest.mark.parametrize(('arguments', 'message'), [
    ((0, 8), r'gene_sets must be in \[1, 8\].*got 0'),
    (([], 8), 'gene_sets has no set'),
    ((None, 8), 'gene_sets must be a number of sets, a .* got None'),
    (([[0], []], 8), r'gene set 1 must be a list of places, .* got \[\]'),
    (([[0, 8, -1]], 8), r'gene set 0 must be .* in \[0, 8\), got \[8, -1\]'),
    (([[0.7, 1, 1.2]], 8), r'gene set 0 must be .*, got \[0.7, 1.2\]'),
    (([[True, 1]], 8), r'gene set 0 must be .*, integers .* got \[True\]'),
    (([[1], ['TP53']], 8), r"gene set 1 must be .*, got \['TP53'\]; names of"),
    (([[1], 'TP53'], 8), "gene set 1 must be a list of .*, got 'TP53'; names"),
    (([3, 4], 8), 'gene set 0 must be a list of places, .*, got 3;'),
    (('sets.gmt', 5), 'gene_list must tell their places, got None'),
    (('sets.gmt', 6, GENES), 'gene_list has 5 genes, .* num_genes=6'),
    (('sets.tsv', 5, GENES), r"must be a .gmt or .csv file, got 'sets.tsv'"),
    (('sets.gmt', 5, GENES), r'no gene of 1 of 2 sets is in .*: b\..*such as'),
    (('sets.gmt', 2, ['A.1', 'A.1']), r"1 genes twice: \['A.1'\]"),
    (('spaces.gmt', 5, GENES), "spaces.gmt, set 2: .* got 'b - SOX2'"),
    (('empty.gmt', 5, GENES), 'empty.gmt is empty'),
    (('twice.gmt', 5, GENES), "has the set 'a' twice"),
    (('bare.gmt', 5, GENES), "has the set 'a' without a gene")])
def test_what_does_not_fit(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    for name, text in (('sets.gmt', 'a\t-\tTP53\nb\t-\tABSENT\n'),
                       ('spaces.gmt', 'a\t-\tTP53\nb - SOX2\n'),
                       ('empty.gmt', '\n'), ('bare.gmt', 'a\t-\n'),
                       ('twice.gmt', 'a\t-\tTP53\na\t-\tSOX2\n')):
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        layers.gene_set_places(*arguments)


@pytest.mark.parametrize(('text', 'message'), [
    ('one\tTP53\tEGFR\ntwo\tSOX2\tTP53\tKRAS\n',
     "set 'one': the second cell must be a description, and 'TP53' .* 2 of 2"),
    ('one\tTP53\tEGFR\n', "'TP53' is a gene of gene_list, .* 1 of 1 sets"),
    ('one\t-\tTP53\ntwo\tENSG00000000003.2\tEGFR\nthree\t KRAS\tSOX2\n',
     "set 'two': .*'ENSG00000000003.2' is a gene .* 2 of 3 sets"),
    # A vector of few genes has few of those at the front, too.
    (''.join(f'set{number}\tA{number}\t' + '\t'.join(
        f'B{number * 10 + gene}' for gene in range(10)) + '\tTP53\n'
        for number in range(18)) + 'a\tTP53\tB0\tKRAS\nb\tKRAS\tB1\tSOX2\n',
     "'TP53' is a gene of gene_list, .* 2 of 20 sets")])
def test_a_gmt_without_descriptions_loses_no_gene(tmp_path, text, message):
    path = tmp_path / 'sets.gmt'
    path.write_text(text)
    with pytest.raises(ValueError, match='sets.gmt, .*' + message):
        layers.gene_set_places(str(path), 5, GENES)


def test_a_description_may_be_the_name_of_a_gene(tmp_path):
    path = tmp_path / 'sets.gmt'
    path.write_text('one\tTP53\tEGFR\ntwo\t-\tSOX2\n')
    found = layers.gene_set_places(str(path), 5, GENES)
    assert [one.tolist() for one in found] == [[2], [4]]
    path.write_text(''.join(
        f'set{number}\t{"TP53" if number < 3 else "-"}\tEGFR\n'
        for number in range(9)))
    assert len(layers.gene_set_places(str(path), 5, GENES)) == 9


def test_a_file_that_is_not_there():
    with pytest.raises(FileNotFoundError, match='nowhere.gmt does not'):
        layers.gene_set_places('nowhere.gmt', 5, GENES)
