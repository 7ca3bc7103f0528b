"""Names of genes: which kind they are, and which of them are the same gene.

Formats of the Genomic Data Commons: GENCODE v22 tables of HTSeq, with
``ENSGR...`` for the copies of the pseudo-autosomal genes on chromosome Y, and
v36 tables of STAR, where these copies end with ``_PAR_Y``.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

ID_TYPES = ('ensembl', 'symbol')

# Rows that are not genes: HTSeq's begin with two underscores.
_STAR_SUMMARY = ('N_unmapped', 'N_multimapping', 'N_noFeature', 'N_ambiguous')
_ENSEMBL = re.compile(r'ENSG(?:(\d{11})|R(\d{10}))(?:\.\d+)?(_PAR_Y)?$')
_NO_NAMES = ('', '?', 'nan', 'NaN', 'NA', 'None')
_SHOWN = 5


def is_ensembl(name: str) -> bool:
    """Whether a name is an Ensembl gene id, of any version."""
    return _ENSEMBL.match(name) is not None


def ensembl_share(names: Sequence[str]) -> float:
    """Share of Ensembl gene ids among names, 0 if there are none.

    Rows that count reads outside of genes are left out.
    """
    genes = [name for name in names if not is_summary(name)]
    return sum(map(is_ensembl, genes)) / max(len(genes), 1)


def is_summary(name: str) -> bool:
    """Whether a row of HTSeq or STAR counts reads that fit no gene."""
    return name.startswith('__') or name in _STAR_SUMMARY


class GeneNames:
    """Names of genes as in a file, and what they mean.

    Attributes:
        id_type: ``'ensembl'`` or ``'symbol'``.
        gene_ids: The genes, in the order of the file: Ensembl ids without
            version, or symbols.
        rows: Where in the file they are.
        par_rows: Where the copies on chromosome Y are, which are left out.
        notes: What was left out and why.

    Args:
        names: Names as in the file.
        source: The file, for messages.

    Raises:
        ValueError: If Ensembl ids and symbols are mixed.
    """

    def __init__(self, names: Sequence[str], source: str) -> None:
        share = ensembl_share(names)
        if 0.1 < share < 0.9:
            raise ValueError(
                f'{source}: {share:.0%} of {len(names)} genes are Ensembl '
                'ids, the others are not: use one kind of name')
        self.id_type = 'ensembl' if share >= 0.9 else 'symbol'
        self.gene_ids: list[str] = []
        self.rows: list[int] = []
        self.par_rows: list[int] = []
        summary = nameless = 0
        for row, name in enumerate(names):
            name = name.strip()
            if is_summary(name):
                summary += 1
            elif name in _NO_NAMES:
                nameless += 1
            elif self.id_type == 'symbol':
                self.gene_ids.append(name)
                self.rows.append(row)
            else:
                self._add_ensembl(name, row, source)
        self.notes = [
            f'left out {count} {what}'
            for count, what in (
                (summary, 'rows that count reads outside of genes'),
                (len(self.par_rows), 'copies of genes on chromosome Y '
                 '(ENSGR or _PAR_Y)'),
                (nameless, 'rows without a name of a gene')) if count
        ]

    def _add_ensembl(self, name: str, row: int, source: str) -> None:
        match = _ENSEMBL.match(name)
        if match is None:
            raise ValueError(
                f'{source}: {name!r} is not an Ensembl id as the other genes '
                'are')
        number, number_on_y, on_y = match.groups()
        if number_on_y or on_y:
            self.par_rows.append(row)
        else:
            self.gene_ids.append(f'ENSG{number}')
            self.rows.append(row)

    def duplicates(self) -> dict[str, list[int]]:
        """Find genes that occur more than once.

        Returns:
            For each the places in ``gene_ids``.
        """
        places: dict[str, list[int]] = {}
        for place, gene in enumerate(self.gene_ids):
            places.setdefault(gene, []).append(place)
        return {gene: several for gene, several in places.items()
                if len(several) > 1}


def canonical_genes(names: Sequence[str], source: str) -> list[str]:
    """Clean a list of genes that somebody wrote.

    Args:
        names: Ensembl ids, with or without version, or symbols.
        source: Where they are from, for messages.

    Returns:
        The genes in the same order.

    Raises:
        ValueError: If the list is empty or names a gene twice.
    """
    genes = GeneNames(names, source)
    if not genes.gene_ids:
        raise ValueError(f'{source} names no gene')
    twice = genes.duplicates()
    if twice:
        raise ValueError(
            f'{source} names {len(twice)} genes more than once: '
            f'{shown(list(twice))}')
    return genes.gene_ids


def read_gene_list(path: str | Path) -> list[str]:
    """Read a list of genes, one per line.

    Args:
        path: Text file.

    Returns:
        The genes, cleaned as in :func:`canonical_genes`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is empty or names a gene twice.
    """
    return canonical_genes(read_lines(path), str(path))


def read_lines(path: str | Path) -> list[str]:
    """Read the lines of a text file that are not blank."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'The list {path} does not exist')
    lines = path.read_text(encoding='utf-8-sig').splitlines()
    return [line.strip() for line in lines if line.strip()]


def names_hash(names: Sequence[str]) -> str:
    """Hash names of genes or cases in their order: 32 hexadecimal digits."""
    return hashlib.blake2b(
        '\n'.join(names).encode(), digest_size=16).hexdigest()


def shown(names: Sequence[str]) -> str:
    """Join the first names for a message."""
    more = ', ...' if len(names) > _SHOWN else ''
    return ', '.join(names[:_SHOWN]) + more
