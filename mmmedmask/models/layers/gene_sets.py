"""Sets of genes, such as pathways, as places in a vector of expression."""

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.logging import print_log
from torch import Tensor

from mmmedmask.util.checks import check_integer
from mmmedmask.util.table_files import read_list_file, read_table

# The version of an Ensembl id, which differs between annotations.
_VERSION = re.compile(r'^(ENSG\d{11})\.\d+$')
_SHOWN = 5


def gene_set_places(
        gene_sets: int | str | Sequence[Sequence[int]], num_genes: int,
        gene_list: str | Sequence[str] | None = None
) -> list[Tensor]:
    """Find where the genes of each set are.

    Args:
        gene_sets: A number of sets, into which the genes are cut in their
            order, with sizes that differ by at most one; places, as one list
            for each set; or a file: ``.gmt`` (MSigDB: name, description and
            genes of a set in each line, with tabs in between) or ``.csv``
            (a set in each column, under its name).
        num_genes: Genes of the vector, G.
        gene_list: The genes of the vector in order, for a file: a list, or a
            text file with one per line. Versions of Ensembl ids do not
            matter.

    Returns:
        For each set places in [0, G), int64, in increasing order. Genes can
        be in several sets. Genes that the vector lacks are left out, with a
        note in the log.

    Raises:
        ValueError: If a set is empty or a place outside; if the list does
            not fit the vector; if a file is of another kind.
        FileNotFoundError: If a file is not there.
    """
    if isinstance(gene_sets, int):
        check_integer('gene_sets', gene_sets, 1, num_genes)
        return list(torch.arange(num_genes).tensor_split(gene_sets))
    if isinstance(gene_sets, str):
        return _file_places(gene_sets, num_genes, gene_list)
    if not gene_sets:
        raise ValueError(f'gene_sets has no set, got {gene_sets!r}')
    places = []
    for number, gene_set in enumerate(gene_sets):
        genes = sorted(set(gene_set))
        if not genes or genes[0] < 0 or genes[-1] >= num_genes:
            raise ValueError(
                f'gene set {number} must be places in [0, {num_genes}), got '
                f'{list(gene_set)[:_SHOWN]}')
        places.append(torch.tensor(genes, dtype=torch.int64))
    return places


def _file_places(path: str, num_genes: int,
                 gene_list: str | Sequence[str] | None) -> list[Tensor]:
    if gene_list is None:
        raise ValueError(f'gene_sets {path!r} holds names of genes: '
                         'gene_list must tell their places, got None')
    if isinstance(gene_list, str):
        gene_list = read_list_file(gene_list)
    if len(gene_list) != num_genes:
        raise ValueError(f'gene_list has {len(gene_list)} genes, the vector '
                         f'has num_genes={num_genes}')
    place_of = {_name(gene): place for place, gene in enumerate(gene_list)}
    places, missing = [], set()
    for name, genes in read_gene_sets(path).items():
        known = sorted({place_of[gene] for gene in genes
                        if gene in place_of})
        missing |= {gene for gene in genes if gene not in place_of}
        if not known:
            raise ValueError(
                f'{path}: none of the {len(genes)} genes of the set '
                f'{name!r} is in gene_list; it has names such as '
                f'{list(place_of)[:_SHOWN]}, the set has '
                f'{sorted(genes)[:_SHOWN]}')
        places.append(torch.tensor(known, dtype=torch.int64))
    used = len(torch.cat(places).unique())
    print_log(
        f'{path}: {len(places)} sets with {used} of {num_genes} genes; '
        f'{len(missing)} genes of the sets are not in gene_list',
        logger='current')
    return places


def read_gene_sets(path: str | Path) -> dict[str, set[str]]:
    """Read a file of gene sets.

    Args:
        path: A ``.gmt`` or ``.csv`` file, see :func:`gene_set_places`.

    Returns:
        The genes of each set, by its name, without versions.

    Raises:
        ValueError: If it is of another kind, has no set, or two of one name.
        FileNotFoundError: If it is not there.
    """
    path = Path(path)
    if path.suffix == '.gmt':
        lines = [line.split('\t') for line in read_list_file(path)]
        columns = [[line[0], *line[2:]] for line in lines]
    elif path.suffix == '.csv':
        table = read_table(path)
        columns = [[name, *table.text(place)]
                   for place, name in enumerate(table.names)]
    else:
        raise ValueError(
            f'gene_sets must be a .gmt or .csv file, got {str(path)!r}')
    sets: dict[str, set[str]] = {}
    for name, *genes in columns:
        names = {_name(gene.strip()) for gene in genes if gene.strip()}
        if name in sets or not names:
            reason = 'twice' if name in sets else 'without a gene'
            raise ValueError(f'{path} has the set {name!r} {reason}')
        sets[name] = names
    if not sets:
        raise ValueError(f'{path} has no gene set')
    return sets


def _name(gene: str) -> str:
    match = _VERSION.match(gene)
    return gene if match is None else match.group(1)
