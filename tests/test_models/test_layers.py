"""Sets of genes as files and as places."""

import pytest
import torch

from mmmedmask.models.layers import gene_set_places, read_gene_sets

GENES = ['ENSG00000000003', 'TP53', 'EGFR', 'KRAS', 'SOX2']


def test_equal_splits_and_places():
    assert [one.tolist() for one in gene_set_places(3, 8)] == [
        [0, 1, 2], [3, 4, 5], [6, 7]]
    found = gene_set_places([[3, 1, 1], [0]], 4)
    assert [one.tolist() for one in found] == [[1, 3], [0]]
    assert all(one.dtype == torch.int64 for one in found)


@pytest.mark.parametrize(('name', 'text'), [
    ('sets.gmt', 'one\thttps://x\tTP53\tENSG00000000003.14\tABSENT\n'
                 'two\t\tSOX2\tTP53\n'),
    ('sets.csv', 'one,two\nTP53,SOX2\nENSG00000000003.14,TP53\nABSENT,\n')])
def test_files(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    assert read_gene_sets(path) == {
        'one': {'TP53', 'ENSG00000000003', 'ABSENT'}, 'two': {'SOX2', 'TP53'}}
    genes = tmp_path / 'genes.txt'
    genes.write_text('\n'.join(GENES))
    for gene_list in (GENES, str(genes)):
        found = gene_set_places(str(path), 5, gene_list)
        assert [one.tolist() for one in found] == [[0, 1], [1, 4]]


@pytest.mark.parametrize(('arguments', 'message'), [
    ((0, 8), r'gene_sets must be in \[1, 8\].*got 0'),
    (([], 8), 'gene_sets has no set'),
    (([[0], []], 8), r'gene set 1 must be places in \[0, 8\), got \[\]'),
    (([[0, 8]], 8), r'gene set 0 must be places .* got \[0, 8\]'),
    (('sets.gmt', 5), 'gene_list must tell their places, got None'),
    (('sets.gmt', 6, GENES), 'gene_list has 5 genes, .* num_genes=6'),
    (('sets.tsv', 5, GENES), r"must be a .gmt or .csv file, got 'sets.tsv'"),
    (('sets.gmt', 5, GENES), "none of the 1 genes of the set 'b' is in"),
    (('empty.gmt', 5, GENES), 'has no gene set'),
    (('twice.gmt', 5, GENES), "has the set 'a' twice"),
    (('bare.gmt', 5, GENES), "has the set 'a' without a gene")])
def test_what_does_not_fit(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    for name, text in (('sets.gmt', 'a\t-\tTP53\nb\t-\tABSENT\n'),
                       ('empty.gmt', '\n'), ('bare.gmt', 'a\t-\n'),
                       ('twice.gmt', 'a\t-\tTP53\na\t-\tSOX2\n')):
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        gene_set_places(*arguments)


def test_a_file_that_is_not_there():
    with pytest.raises(FileNotFoundError, match='nowhere.gmt does not'):
        gene_set_places('nowhere.gmt', 5, GENES)
