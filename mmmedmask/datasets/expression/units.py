"""Units of gene expression: tell them by values and names, and convert."""

import logging
import re

import numpy as np
from mmengine.logging import print_log

from mmmedmask.util.checks import check_choice, check_positive

LINEAR_UNITS = ('counts', 'cpm', 'fpkm', 'fpkm_uq', 'tpm')
_LOG_UNITS = tuple(f'log2_{unit}' for unit in LINEAR_UNITS)
UNITS = (*LINEAR_UNITS, *_LOG_UNITS, 'zscore')
"""Units of expression; ``log2_tpm`` is log2(TPM + offset)."""

# No table of a transcriptome ends below 2^5 in a linear unit, and 2^30 reads
# of one gene are more than a sequencer makes.
_LARGEST_LOG2 = 30
_ENOUGH_GENES = 500
# Sums and totals mean something only over about all genes.
_ALL_GENES = 10_000
_PER_MILLION = 1e6
# Ends of words within brcaTPM and RNACounts.
_CAMEL = re.compile(r'(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z]{2})')
_LOG = r'(log(?:\d+|e)?(?:p\d?)?|ln)'
_UNIT = r'(fpkm ?uq|fpkm|tpm|cpm|z ?scores?|counts?)'
# As in luadfpkm, TPMs, rawcounts and counts2022.
_BEFORE = r'(?:raw|norm|read|[a-z]*?(?=fpkm|tpm))?'
_NAME_HINTS = re.compile(
    rf'\b(?:{_LOG}{_UNIT}?|{_BEFORE}{_UNIT}{_LOG}?)s?\d*\b')
_SPELLINGS = {'fpkmuq': 'fpkm_uq', 'zscores': 'zscore', 'count': 'counts'}


class _ValueFacts:
    """What values (S, G) of a table say about their unit."""

    def __init__(self, values: np.ndarray, source: str) -> None:
        if not values.size or bool(np.isnan(values).all()):
            raise ValueError(f'{source} has no value')
        infinite = np.argwhere(np.isinf(values))
        if len(infinite):
            raise ValueError(f'{source} has {len(infinite)} infinite values, '
                             f'the first is of sample {infinite[0, 0]}, gene '
                             f'{infinite[0, 1]} (counted from 0)')
        self.smallest = float(np.nanmin(values))
        self.largest = float(np.nanmax(values))
        known = values[~np.isnan(values)]
        self.whole = bool((known == np.rint(known)).all())
        # Of values that equal the smallest; two may by chance.
        at_floor = int((known == known.min()).sum())
        self.floor_share = at_floor / known.size if at_floor > 2 else 0.0
        # The smallest and the largest of a sample.
        totals = np.nansum(values, axis=1, dtype=np.float64)
        self.sums = (float(totals.min()), float(totals.max()))
        self.num_genes = values.shape[1]

    def sums_to_a_million(self, tolerance: float) -> bool:
        """Whether every sample does, up to a relative tolerance."""
        return all(
            abs(total / _PER_MILLION - 1) < tolerance for total in self.sums)

    @property
    def looks_logged(self) -> bool:
        """Whether so many genes have too small a range for linear units."""
        return (self.num_genes >= _ENOUGH_GENES and not self.whole
                and self.largest <= _LARGEST_LOG2)


def unit_in_name(name: str) -> str | None:
    """Read the unit from a name such as ``'TCGA-LUAD.htseq_fpkm.tsv.gz'``.

    It is one of :data:`UNITS`; ``'log2'`` if the name tells that alone;
    ``'ln_tpm'`` or ``'log'`` of another or no base; None if it tells nothing,
    or several units. Only whole words count.
    """
    words = re.sub(r'[\W_]+', ' ', _CAMEL.sub(' ', name)).lower()
    parts = {part.replace(' ', '') for match in _NAME_HINTS.findall(words)
             for part in match if part}
    logs = {re.sub(r'log2(p\d?)?$', 'log2', part) for part in parts
            if part.startswith('l')}
    units = {_SPELLINGS.get(part, part) for part in parts
             if not part.startswith('l')}
    # Z-scores are of any unit.
    if 'zscore' in units:
        return 'zscore'
    log = [logs.pop() if len(logs) == 1 else 'log'] if logs else []
    return '_'.join([*log, *(units if len(units) == 1 else ())]) or None


def find_unit(values: np.ndarray, source: str, name: str = '') -> str:
    """Tell the unit of values (S, G) by them and a name, without doubt."""
    facts = _ValueFacts(values, source)
    hint = unit_in_name(name)
    if hint is not None and re.match('(?!log2)l', hint):
        hint = _base_two(hint, values, facts, source)
    unit, why = None, 'FPKM and a part of TPM look alike'
    if facts.smallest < 0:
        if facts.floor_share > 0.01:
            raise ValueError(
                f'{source}: {facts.floor_share:.0%} of the values are '
                f'{facts.smallest:.4g}, which looks like log2(x + '
                f'{2**facts.smallest:.3g}): say so by '
                f"unit='log2_tpm' (or another of {UNITS}) and "
                f'log2_offset={2**facts.smallest:.3g}')
        why = f'values are as low as {facts.smallest:.4g}'
        # Of values of variance 1, half are within sqrt(2) of their mean.
        if hint == 'zscore' or np.nanmedian(np.abs(values)) < 1.5:
            unit = 'zscore'
        else:
            why += ', but not around 0 as z-scores are'
    elif hint in _LOG_UNITS and not facts.whole:
        unit = hint
    elif facts.looks_logged:
        why = 'they look like logarithms'
        linear = _ValueFacts(np.exp2(values.astype(np.float64)) - 1, source)
        if hint in LINEAR_UNITS:
            unit = f'log2_{hint}'
        elif linear.sums_to_a_million(0.01):
            unit = 'log2_tpm'
    elif facts.whole:
        unit, why = 'counts', 'all values are whole numbers as counts are'
    elif facts.largest <= _LARGEST_LOG2:
        why = (f'{facts.num_genes} genes are too few to tell small values '
               'from logarithms')
    elif hint in LINEAR_UNITS:
        unit = hint
    elif facts.num_genes >= _ALL_GENES and facts.sums_to_a_million(0.01):
        unit, why = 'tpm', 'every sample sums to a million'
    if unit is None:
        raise ValueError(
            f'{source}: cannot tell the unit of values from '
            f'{facts.smallest:.4g} to {facts.largest:.4g}, with sums from '
            f'{facts.sums[0]:.4g} to {facts.sums[1]:.4g} ({why}): state it '
            f'by unit=, one of {UNITS}')
    if hint not in (None, unit, *unit.split('_', 1)):
        raise ValueError(f'{source}: the name says {hint}, but {why}; state '
                         f'the unit, one of {UNITS}')
    check_unit(values, unit, source, stated=False)
    return unit


def _base_two(hint: str, values: np.ndarray, facts: _ValueFacts,
              source: str) -> str | None:
    """What a name with a logarithm of another or no base tells of values.

    Whole or large numbers are not logarithms: ``LN`` may be a lymph node.
    """
    log, _, unit = hint.partition('_')
    if facts.whole or facts.largest > _LARGEST_LOG2:
        return unit or None
    if re.fullmatch(r'log(p1?)?', log) and facts.smallest >= 0:
        linear = _ValueFacts(np.exp2(values.astype(np.float64)) - 1, source)
        if linear.sums_to_a_million(0.01):
            return f'log2_{unit or "tpm"}'
    raise ValueError(
        f'{source}: the name says {hint}, but logarithms are read to base 2: '
        "convert the values, or state what they are, such as unit='log2_tpm' "
        f'(DepMap\'s TPMLogp1), one of {UNITS}')


def check_unit(values: np.ndarray, unit: str, source: str,
               log2_offset: float = 1.0, stated: bool = True) -> None:
    """Refuse values (S, G), NaN where missing, that cannot have a unit.

    Values that seldom have it are a warning if the user has ``stated`` it.
    """
    check_choice('unit', unit, UNITS)
    check_positive('log2_offset', log2_offset)
    facts = _ValueFacts(values, source)
    wrong = _contradiction(facts, unit, log2_offset)
    doubt = None if wrong else _doubt(facts, unit)
    if wrong or (doubt and not stated):
        raise ValueError(f'{source}: values are not {unit}: {wrong or doubt}')
    if doubt:
        print_log(f'{source}: are the values {unit}, as was stated? {doubt}',
                  logger='current', level=logging.WARNING)


def _contradiction(facts: _ValueFacts, unit: str,
                   log2_offset: float) -> str | None:
    """Say why values cannot have a unit, or None."""
    if unit == 'zscore':
        if facts.smallest >= 0:
            return f'none is negative, the smallest is {facts.smallest:.4g}'
    elif unit in LINEAR_UNITS:
        if facts.smallest < 0:
            return f'some are negative, the smallest is {facts.smallest:.4g}'
    elif facts.smallest < (lowest := np.log2(log2_offset)) - 1e-3:
        return (f'the smallest is {facts.smallest:.4g}, but log2(0 + '
                f'{log2_offset:g}) is {lowest:.4g}; log2_offset='
                f'{2**facts.smallest:.3g} would fit')
    elif facts.largest > _LARGEST_LOG2:
        return (f'the largest is {facts.largest:.4g}, which is '
                'not a logarithm')
    elif facts.whole:
        return 'all are whole numbers, which logarithms never are'
    return None


def _doubt(facts: _ValueFacts, unit: str) -> str | None:
    """Say why values seldom have a unit, or None."""
    if unit not in LINEAR_UNITS:
        return None
    if facts.looks_logged:
        return (f'the largest of {facts.num_genes} genes is '
                f'{facts.largest:.4g}, as if they were logarithms')
    if unit == 'counts':
        if not facts.whole and facts.sums_to_a_million(0.01):
            return 'every sample sums to a million, as TPM does'
        return None
    if facts.whole:
        return 'all are whole numbers, as counts are'
    if facts.num_genes < _ALL_GENES:
        return None
    if unit in ('tpm', 'cpm') and not facts.sums_to_a_million(0.05):
        return (f'samples sum to {facts.sums[0]:.4g} to {facts.sums[1]:.4g}, '
                'not to a million')
    if unit in ('fpkm', 'fpkm_uq') and facts.sums_to_a_million(0.001):
        return 'every sample sums to a million, as TPM does'
    return None


def convert_unit(values: np.ndarray, unit: str, target: str, source: str,
                 log2_offset: float = 1.0) -> np.ndarray:
    """Convert expression from one unit to another, float32 (S, G).

    Logarithms are taken and undone, counts become CPM, and FPKM becomes TPM
    (Wagner et al. 2012: each divided by the sum of its sample). NaN is
    missing. ``log2_offset`` is that of ``unit``; the result's is 1.
    """
    check_choice('unit', unit, UNITS)
    check_choice('convert', target, UNITS)
    if unit == target and log2_offset == 1:
        return values
    if 'zscore' in (unit, target):
        raise ValueError(
            f'{source}: {unit} cannot become {target}: a z-score has lost '
            'the scale; start from the table it was made of')
    linear = values.astype(np.float64)
    if unit.startswith('log2_'):
        linear = np.maximum(np.exp2(linear) - log2_offset, 0)
    base, goal = unit.removeprefix('log2_'), target.removeprefix('log2_')
    if base != goal:
        if (base, goal) not in (('counts', 'cpm'), ('fpkm', 'tpm'),
                                ('fpkm_uq', 'tpm')):
            why = ('it takes the length of every gene'
                   if base in ('counts', 'cpm') else
                   'its total is not known any more')
            raise ValueError(f'{source}: {unit} cannot become {target}: {why}')
        if values.shape[1] < _ALL_GENES:
            raise ValueError(
                f'{source}: {unit} becomes {target} by the sum over all '
                f'genes, the table has {values.shape[1]}; at least '
                f'{_ALL_GENES} are needed')
        totals = np.nansum(linear, axis=1, keepdims=True)
        if not (totals > 0).all():
            raise ValueError(f'{source}: sample {int(np.argmin(totals))} '
                             '(counted from 0) has no expression at all')
        linear *= _PER_MILLION / totals
    if target.startswith('log2_'):
        linear = np.log2(linear + 1)
    return linear.astype(np.float32)
