"""Names of genes: which kind they are, and which of them are the same gene.

Copies of the pseudo-autosomal genes on chromosome Y are ``ENSGR...`` in
GENCODE v22 (HTSeq), and end with ``_PAR_Y`` in v36 (STAR).
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from mmmedmask.util.nearest import shown
from mmmedmask.util.table_files import read_list_file

ID_TYPES = ('ensembl', 'symbol')

# Rows that are not genes: HTSeq's begin with two underscores.
_STAR_SUMMARY = ('N_unmapped', 'N_multimapping', 'N_noFeature', 'N_ambiguous')
_ENSEMBL = re.compile(r'ENSG(?:\d{11}|(R)\d{10})(?:\.\d+)?(_PAR_Y)?$')
# Symbols of men (TP53, HLA-A, C1orf112, A1BG|1) and of mice (Trp53), and what
# Ensembl, miRBase and DepMap (TSPAN6 (7105), with the id of Entrez) add.
_SYMBOL = re.compile(
    r'(?=.*[A-Z])[A-Z0-9]+[a-z]?(?:(?:orf|[-.@|/:])[A-Z0-9]+[a-z]?)*'
    r'(?: \(\d+\))?$'
    r'|(?:hsa|mmu)-|\w+_(?:RNA|rRNA|SRP|at)$')
_MOUSE_SYMBOL = re.compile(r'[A-Z][a-z0-9]+[A-Za-z0-9-]*$|\d+\w*Rik$')
_SURVIVAL = ('os', 'pfs', 'pfi', 'dss', 'dfs', 'dfi', 'rfs', 'mfs', 'css')
# What tables of patients hold and no gene is called, without punctuation.
_NO_GENES = frozenset(
    f'{what}{kind}' for what in (*_SURVIVAL, 'efs', 'overallsurvival')
    for kind in ('time', 'months', 'days', 'years', 'status', 'event',
                 'censor')) | frozenset((
        *_SURVIVAL, *"""overallsurvival age ageatdiagnosis ageyears sex gender
        male female isfemale race ethnicity stage tstage nstage mstage
        pathologicstage tumorstage ajccstage grade tumorgrade gleason
        gleasonscore histology site batch plate center centre cohort cluster
        subtype group arm treatment treated response responder recurrence
        relapse progression metastasis death dead deceased alive vitalstatus
        status event time futime fustat followup followuptime followupdays
        daystodeath daystolastfollowup daystolastcontact daystobirth months
        days years year yearofdiagnosis survival survivaltime survivalmonths
        survivaldays survivalstatus censor censored censorship label labels
        class target outcome y n m diagnosis id index sample patient case bmi
        weight height smoking smoker packyears alcohol ecog kps karnofsky tmb
        mutationcount mutationburden msi msiscore msistatus
        fractiongenomealtered aneuploidy aneuploidyscore ploidy purity
        tumorpurity stromalscore immunescore estimatescore tumorsize size
        nodes risk riskscore score fold split train er pr her2 ki67 erstatus
        prstatus her2status idhstatus oncotreecode""".split()))
_MONTH = ('jan|feb|mar|mär|mrz|apr|may|mai|jun|jul|aug|sept?|oct|okt|nov|dec'
          '|dez|janv|févr?|mars|avr|juin|juil|août|déc|ene|abr|ago|dic')
# 1-Mar, Sep-02, 2. Sep 2020, 2020-03-01, 3/1/2020, 2.31E+13.
_SPREADSHEET = re.compile(
    rf'\d{{1,2}}[-./ ]+(?:{_MONTH})\.?(?:[-./ ]+\d{{2,4}})?$'
    rf'|(?:{_MONTH})\.?[-./ ]+\d{{1,4}}$'
    r'|\d{4}-\d{2}-\d{2}(?:[ T]0?0:00(?::00)?)?$'
    r'|\d{1,2}[./]\d{1,2}[./](?:\d{2,4})?$|\d(?:\.\d+)?E[+-]\d+$',
    re.IGNORECASE)
_NO_NAMES = ('', '?', 'nan', 'NaN', 'NA', 'None')


def is_ensembl(name: str) -> bool:
    return _ENSEMBL.match(name) is not None


def plain_name(name: str) -> str:
    """A name without the version of an Ensembl id, or DepMap's Entrez id."""
    return name.partition('.')[0] if is_ensembl(name) else re.sub(
        r' \(\d+\)$', '', name)


def ensembl_share(names: Sequence[str]) -> float:
    """Share of Ensembl gene ids among names of genes, 0 if there are none."""
    genes = [name for name in names if not is_summary(name)]
    return sum(map(is_ensembl, genes)) / max(len(genes), 1)


def is_summary(name: str) -> bool:
    """Whether a row of HTSeq or STAR counts reads that fit no gene."""
    return name.startswith('__') or name in _STAR_SUMMARY


def is_clinical(name: str) -> bool:
    """Whether a name is of a fact on patients that no gene is called by."""
    plain = re.sub(r'[\W_]', '', name.casefold())
    return plain in _NO_GENES or re.fullmatch(
        r'(?:pc|umap|tsne)\d+', plain) is not None


def gene_places(names: Sequence[str]) -> list[int]:
    """Places of the names that are names of genes, by their pattern.

    Symbols are written as those of men or as those of mice, whatever more
    names are; a table of numbers alone has Entrez ids.
    """
    own = [place for place, name in enumerate(names)
           if not is_clinical(name) and not _SPREADSHEET.match(name)]
    return max(([place for place in own if pattern.match(names[place])]
                for pattern in (_SYMBOL, _MOUSE_SYMBOL, re.compile(r'\d+$'))),
               key=len)


def unlike_genes(names: Sequence[str]) -> list[str]:
    """Find names that are not written as most genes of a table are.

    Among Ensembl ids these are all others, among symbols dates and numbers.
    """
    if ensembl_share(names) >= 0.9:
        return [name for name in names
                if not is_ensembl(name) and not is_summary(name)]
    numbers = [name for name in names if name.isdigit()]
    return [name for name in names if _SPREADSHEET.match(name)] + (
        numbers if len(numbers) < len(names) / 2 else [])


def check_no_dates(names: Sequence[str], source: str) -> None:
    """Refuse symbols that a spreadsheet has turned into dates or numbers."""
    lost = unlike_genes(names)
    if lost:
        raise ValueError(
            f'{source}: {len(lost)} names of genes are dates or numbers, '
            f'which a spreadsheet makes of MARCHF1, SEPTIN2 and others: '
            f'{shown(lost)}. Which gene each was is lost: take the table '
            'from its source, or list the genes to take in gene_list')


class GeneNames:
    """Names of genes as in a file, and what they mean.

    Attributes:
        id_type: ``'ensembl'`` or ``'symbol'``.
        gene_ids: The genes, in the order of the file, by
            :func:`plain_name`.
        rows: Where in the file they are.
        par_rows: Where the copies on chromosome Y are, which are left out.
    """

    def __init__(self, names: Sequence[str], source: str) -> None:
        share = ensembl_share(names)
        if 0.1 < share < 0.9:
            raise ValueError(
                f'{source}: {share:.0%} of {len(names)} genes are Ensembl '
                'ids, the others are not: use one kind of name')
        self.id_type = 'ensembl' if share >= 0.9 else 'symbol'
        if self.id_type == 'symbol':
            check_no_dates(names, source)
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
            elif self.id_type == 'ensembl' and _on_y(name, source):
                self.par_rows.append(row)
            else:
                self.gene_ids.append(plain_name(name))
                self.rows.append(row)
        self.notes = [
            f'left out {count} {what}'
            for count, what in (
                (summary, 'rows that count reads outside of genes'),
                (len(self.par_rows), 'copies of genes on chromosome Y '
                 '(ENSGR or _PAR_Y)'),
                (nameless, 'rows without a name of a gene')) if count]


def repeated(gene_ids: Sequence[str]) -> dict[str, list[int]]:
    """Find the genes that occur more than once, and their places."""
    places: dict[str, list[int]] = {}
    for place, gene in enumerate(gene_ids):
        places.setdefault(gene, []).append(place)
    return {gene: several for gene, several in places.items()
            if len(several) > 1}


def _on_y(name: str, source: str) -> bool:
    """Whether an Ensembl id is of a copy on chromosome Y."""
    match = _ENSEMBL.match(name)
    if match is None:
        raise ValueError(
            f'{source}: {name!r} is not an Ensembl id as the other genes are')
    return bool(match[1] or match[2])


def canonical_genes(names: Sequence[str], source: str) -> list[str]:
    """Clean a list of Ensembl ids or symbols, each named once at most."""
    genes = GeneNames(names, source)
    if not genes.gene_ids:
        raise ValueError(f'{source} names no gene')
    twice = repeated(genes.gene_ids)
    if twice:
        raise ValueError(f'{source} names {len(twice)} genes more than once: '
                         f'{shown(list(twice))}')
    return genes.gene_ids


def read_gene_list(path: str | Path) -> list[str]:
    """Read a list of genes, one per line; see :func:`canonical_genes`."""
    return canonical_genes(read_list_file(path), str(path))


def names_hash(names: Sequence[str]) -> str:
    """Hash names of genes or cases in their order: 32 hexadecimal digits."""
    return hashlib.blake2b(
        '\n'.join(names).encode(), digest_size=16).hexdigest()
