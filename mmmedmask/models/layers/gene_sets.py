"""Sets of genes, such as pathways, as places in a vector of expression."""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from numbers import Integral
from pathlib import Path

import torch
from mmengine.logging import print_log
from torch import Tensor

from mmmedmask.util.atomic_files import write_text
from mmmedmask.util.checks import check_integer
from mmmedmask.util.nearest import did_you_mean
from mmmedmask.util.table_files import read_list_file, read_table

# The version of an Ensembl id, which differs between annotations.
_VERSION = re.compile(r'^(ENSG\d{11})\.\d+$')
_SHOWN = 5


def gene_set_places(
        gene_sets: int | str | Sequence[Sequence[int]], num_genes: int,
        gene_list: str | Sequence[str] | None = None) -> list[Tensor]:
    """Find where the genes of each set are.

    Args:
        gene_sets: A number of sets, into which the genes are cut in their
            order, with sizes that differ by at most one; places, as one list
            for each set; or a file: ``.gmt`` (MSigDB: name, description and
            genes of a set in each line, with tabs in between) or ``.csv``
            (a set in each column, under its name).
        num_genes: Genes of the vector, G.
        gene_list: The genes of the vector in order, for a file: a list, or a
            text file with one per line. Versions of Ensembl ids do not matter.

    Returns:
        For each set places in [0, G), int64, in increasing order. Genes can
        be in several sets. Genes that the vector lacks are left out; for a
        file the log says how many, and which genes have names like theirs.

    Raises:
        ValueError: If a set is empty, or a place is outside or not an
            integer; if the list does not fit the vector; if a file is of
            another kind, or a ``.gmt`` has no descriptions, see
            :func:`read_gene_sets`.
    """
    if isinstance(gene_sets, int):
        check_integer('gene_sets', gene_sets, 1, num_genes)
        return list(torch.arange(num_genes).tensor_split(gene_sets))
    if isinstance(gene_sets, str):
        return _file_places(gene_sets, num_genes, gene_list)
    if not isinstance(gene_sets, Collection):
        raise ValueError('gene_sets must be a number of sets, a .gmt or .csv '
                         'file, or a list of places per set, got '
                         f'{gene_sets!r}')
    if not len(gene_sets):
        raise ValueError(f'gene_sets has no set, got {gene_sets!r}')
    return [_places(number, gene_set, num_genes)
            for number, gene_set in enumerate(gene_sets)]


def _places(number: int, gene_set: Sequence[int], num_genes: int) -> Tensor:
    """Check the places of one set, and put them in order."""
    wrong = gene_set
    if isinstance(gene_set, Collection) and not isinstance(gene_set, str):
        wrong = [place for place in gene_set
                 if not isinstance(place, Integral) or isinstance(place, bool)
                 or not 0 <= place < num_genes][:_SHOWN]
        if len(gene_set) and not wrong:
            return torch.tensor(sorted(set(gene_set)), dtype=torch.int64)
    raise ValueError(f'gene set {number} must be a list of places, integers '
                     f'in [0, {num_genes}), got {wrong!r}; names of genes '
                     'need a .gmt or .csv file')


def _file_places(path: str, num_genes: int,
                 gene_list: str | Sequence[str] | None) -> list[Tensor]:
    if gene_list is None:
        raise ValueError(f'gene_sets {path!r} holds names of genes: '
                         'gene_list must tell their places, got None')
    genes = gene_names(gene_list)
    if len(genes) != num_genes:
        raise ValueError(f'gene_list has {len(genes)} genes, the vector '
                         f'has num_genes={num_genes}')
    place_of = {gene: place for place, gene in enumerate(genes)}
    sets = read_gene_sets(path, place_of)
    places = [torch.tensor(sorted(place_of[gene] for gene in members
                                  if gene in place_of), dtype=torch.int64)
              for members in sets.values()]
    wanted = set().union(*sets.values())
    missing = sorted(wanted - set(place_of))
    nearest = ''.join(f' {gene}:{hint}' for gene in missing[:_SHOWN]
                      if (hint := did_you_mean(gene, genes)))
    bare = [name for name, members in sets.items()
            if members.isdisjoint(place_of)]
    if bare:
        raise ValueError(f'{path}: no gene of {len(bare)} of {len(sets)} sets '
                         f'is in gene_list: {", ".join(bare)}. Take them out '
                         'of the file, or give its genes the names of '
                         f'gene_list, such as {genes[:_SHOWN]}; the file has '
                         f'{sorted(wanted)[:_SHOWN]}.{nearest}')
    counts = torch.cat(places).bincount(minlength=num_genes)
    print_log(f'{path}: {len(sets)} sets with {len(wanted)} genes, of which '
              f'gene_list has {len(wanted) - len(missing)} and lacks '
              f'{len(missing)}{f" ({missing[:_SHOWN]})" if missing else ""}; '
              f'{int((counts > 1).sum())} are in several sets, and '
              f'{int((counts == 0).sum())} of the {num_genes} genes of '
              f'gene_list in none.{nearest}', logger='current')
    return places


def gene_names(
        gene_list: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """The genes of a list, or a text file with one per line, without versions.

    What is built on their places keeps them as ``gene_ids``, which
    ``GeneStatsHook`` compares with the data's; None: not known. A ValueError
    names genes that are there twice.
    """
    if gene_list is None:
        return None
    if isinstance(gene_list, str):
        gene_list = read_list_file(gene_list)
    genes = tuple(map(_name, gene_list))
    twice = sorted(gene for gene, count in Counter(genes).items() if count > 1)
    if twice:
        raise ValueError(f'gene_list has {len(twice)} genes twice: '
                         f'{twice[:_SHOWN]}')
    return genes


def read_gene_sets(path: str | Path,
                   known: Collection[str] = ()) -> dict[str, set[str]]:
    """Read a ``.gmt`` or ``.csv`` file, see :func:`gene_set_places`.

    Gives the genes of each set, by its name, without versions.

    Args:
        known: Genes, without versions, by which to tell that a ``.gmt`` lacks
            descriptions, so that each set's first gene would be lost. It
            does if the second cells of at least two sets, or of all, are
            among them, and at least half as often as the cells behind are.

    Raises:
        ValueError: If the file is of another kind, has no set, two of one
            name or one without a gene, a line of GMT without tabs, or lacks
            descriptions.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == '.gmt':
        lines = []
        for number, line in enumerate(read_list_file(path), 1):
            lines.append([cell.strip() for cell in line.split('\t')])
            if len(lines[-1]) < 2:
                raise ValueError(f'{path}, set {number}: a line of GMT has a '
                                 'name, a description and genes with tabs in '
                                 f'between, got {line[:40]!r}')
        _check_descriptions(path, lines, known)
        columns = [[name, *genes] for name, _, *genes in lines]
    elif suffix == '.csv':
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
    return sets


def _check_descriptions(path: Path, lines: Sequence[Sequence[str]],
                        known: Collection[str]) -> None:
    """Raise a ValueError if the second cells are genes."""
    genes = [cell for line in lines for cell in line[2:] if cell]
    share = sum(_name(gene) in known for gene in genes) / max(len(genes), 1)
    suspects = [line for line in lines if _name(line[1]) in known]
    # A description may be the name of a gene by chance.
    if len(suspects) >= max(min(2, len(lines)), share * len(lines) / 2):
        name, gene, *_ = suspects[0]
        raise ValueError(
            f'{path}, set {name!r}: the second cell must be a description, '
            f'and {gene!r} is a gene of gene_list, as are those of '
            f'{len(suspects)} of {len(lines)} sets. Put one, such as "-", '
            'between the name and the genes of every set')


def write_gene_sets(path: str | Path, sets: Mapping[str, Sequence[str]],
                    description: str) -> None:
    """Write a ``.gmt`` file; ``description`` stands behind each name."""
    write_text(path, ''.join('\t'.join([name, description, *genes]) + '\n'
                             for name, genes in sets.items()))


def _name(gene: str) -> str:
    return _VERSION.sub(r'\1', gene)
