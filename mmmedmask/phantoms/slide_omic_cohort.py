"""Cohort phantoms: drawn patients with slides, genes, and known truth.

For demos and tests of GiMP and of bag classifiers. The class is planted in a
compact region of each slide and in the genes of a few pathways; a file tells
where, so that a heatmap can be judged.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmmedmask.phantoms import slide_omic_drawing
from mmmedmask.phantoms.slide_files import draw_genes, write_features
from mmmedmask.util.atomic_files import write_csv, write_json, write_text
from mmmedmask.util.checks import (
    check_ascending,
    check_integer,
    check_numbers,
    check_range,
)

COHORT_CLASSES = ('class_a', 'class_b')
SPLITS = ('train', 'val', 'test')
TRUTH_FILE = 'truth.json'
# Months; the next class lives twice as long.
_MEAN_SURVIVAL = 20.0
_NUM_SITES = 5


@dataclass(frozen=True)
class CohortTruth:
    """What was planted where."""

    classes: tuple[str, ...]
    labels: dict[str, str]  # Of each case.
    # For each slide the rows of its patches that tell the class, ascending,
    # and the same for the region that all classes share.
    regions: dict[str, list[int]]
    distractors: dict[str, list[int]]
    # For each planted pathway its genes, and the class that it is up in.
    pathways: dict[str, list[str]]
    pathway_classes: dict[str, str]

    def region(self, slide_id: str, num_patches: int) -> np.ndarray:
        """Give a slide's region, bool (N, ), 1 where the class was planted."""
        inside = np.zeros(num_patches, bool)
        inside[self.regions[slide_id]] = True
        return inside


def read_cohort_truth(root: str | Path) -> CohortTruth:
    """Read what :func:`write_slide_omic_cohort` planted."""
    loaded = json.loads((Path(root) / TRUTH_FILE).read_text('utf-8'))
    loaded['classes'] = tuple(loaded['classes'])
    return CohortTruth(**loaded)


def write_slide_omic_cohort(
        root: str | Path, num_cases: int = 60,
        classes: Sequence[str] = COHORT_CLASSES,
        patches: tuple[int, int] = (150, 300), dims: int = 32,
        slides_per_case: tuple[int, int] = (1, 1), num_genes: int = 400,
        num_pathways: int = 4, pathway_size: int = 5,
        cases_without_genes: int = 0, cases_without_slides: int = 0,
        region_share: float = 0.05, slide_signal: float = 4.0,
        gene_signal: float = 1.0, smoothness: float = 0.9,
        split_shares: Sequence[float] = (0.6, 0.2, 0.2),
        layout: str = 'clam-h5', seed: int = 0,
        silent_share: float = 0.0) -> Path:
    """Write a cohort that a :class:`SlideOmicDataset` reads.

    The layout::

        root/
            cohort.csv              case_id, slide_id, label, split, site,
                                    survival_months, censorship
            features/SLIDE_ID.h5    features (N, D) and coords (N, 2)
            expression.tsv          genes in rows, cases in columns, FPKM
            pathways.gmt            gene sets: the planted pathways and as
                                    many that tell nothing
            truth.json              see :class:`CohortTruth`

    Each case is drawn from ``(seed, its number)``, and classes take turns: a
    larger cohort begins with the smaller one. Survival is exponential with a
    mean that doubles from class to class, some of it censored. Sites do not
    follow the classes.

    Args:
        patches: Least and largest number of patches of a slide.
        dims: Size of a feature D.
        slides_per_case: Least and largest number of slides of a case.
        num_pathways: Number of planted pathways.
        cases_without_genes: Number of cases that the expression lacks.
        cases_without_slides: Number of cases whose ``slide_id`` is empty.
        region_share: See ``draw_bag``, as for ``smoothness``.
        slide_signal: See there; 0 plants nothing in slides.
        gene_signal: See ``draw_expression``; 0 plants nothing in genes.
        split_shares: Shares of ``train``, ``val`` and ``test``, which hold
            in each class.
        layout: One of ``slide_files.FEATURE_LAYOUTS``.
        seed: Determines everything.
        silent_share: Expected share of the slides in which nothing is
            planted, in [0, 1], alike in all classes: there the genes alone
            tell the class. The truth gives them no rows.
    """
    root, classes = Path(root), tuple(classes)
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise ValueError(
            f'classes must be at least two different names, got {classes}')
    # At least one of each class; they take turns.
    check_integer('num_cases', num_cases, len(classes))
    labels = [number % len(classes) for number in range(num_cases)]
    check_ascending('patches', patches, 1)
    check_ascending('slides_per_case', slides_per_case, 1)
    check_range('silent_share', silent_share, 0, 1)
    lacking = _lacking(num_cases, cases_without_genes, cases_without_slides)
    splits = _splits(labels, split_shares)
    rng = np.random.default_rng((seed, 0))
    slide_style = slide_omic_drawing.draw_slide_style(len(classes), dims, rng)
    expression_style = slide_omic_drawing.draw_expression_style(
        num_genes, len(classes), num_pathways, pathway_size, rng)
    suffix = {'clam-pt': '.pt', 'npy': '.npy'}.get(layout, '.h5')
    rows, columns, regions, distractors = [], {}, {}, {}
    names = [f'case_{number:04d}' for number in range(num_cases)]
    for number, (case_id, label) in enumerate(zip(names, labels, strict=True)):
        rng = np.random.default_rng((seed, 1, number))
        row = dict(case_id=case_id, slide_id='', label=classes[label],
                   split=splits[number],
                   site=f'site_{rng.integers(_NUM_SITES)}',
                   **_draw_survival(label, rng))
        expression = slide_omic_drawing.draw_expression(
            expression_style, label, rng, gene_signal)
        if lacking.get(number) != 'genes':
            columns[case_id] = expression
        if lacking.get(number) == 'slides':
            rows.append(row)
            continue
        least, most = slides_per_case
        for part in range(1, 1 + int(rng.integers(least, most + 1))):
            slide_id = f'{case_id}_slide_{part}'
            # From a generator of its own: the other slides stay as they are.
            silent = (np.random.default_rng((seed, 2, number, part)).random()
                      < silent_share)
            slide = slide_omic_drawing.draw_bag(
                slide_style, label,
                int(rng.integers(patches[0], patches[1] + 1)), rng,
                region_share, 0.0 if silent else slide_signal, smoothness)
            write_features(root / 'features' / f'{slide_id}{suffix}', layout,
                           slide.features, slide.coords,
                           patch_size=slide_omic_drawing.PATCH_SIZE)
            for planted, mask in ((regions, slide.region),
                                  (distractors, slide.distractor)):
                planted[slide_id] = (
                    [] if silent else mask.nonzero()[0].tolist())
            rows.append({**row, 'slide_id': slide_id})
    write_csv(root / 'cohort.csv', list(rows[0]),
              [list(row.values()) for row in rows])
    pathways = _write_genes(root, expression_style, columns, seed)
    planted = list(pathways)[:num_pathways]
    truth = CohortTruth(
        classes,
        {case_id: classes[label]
         for case_id, label in zip(names, labels, strict=True)},
        regions, distractors,
        {name: pathways[name] for name in planted},
        {name: classes[number % len(classes)]
         for number, name in enumerate(planted)})
    write_json(root / TRUTH_FILE, vars(truth))
    return root


def _lacking(num_cases: int, genes: int, slides: int) -> dict[int, str]:
    """Spread the cases that lack something over the cohort."""
    if min(genes, slides) < 0 or genes + slides > num_cases:
        raise ValueError(
            'cases_without_genes and cases_without_slides must be at least 0 '
            f'and in sum at most {num_cases}, got {genes} and {slides}')
    count = genes + slides
    places = [num_cases * place // count for place in range(count)]
    # Bit by bit in turns, so that both are spread.
    kinds = [('genes' if (place + 1) * genes // count > place * genes // count
              else 'slides') for place in range(count)]
    return dict(zip(places, kinds, strict=True))


def _splits(labels: Sequence[int], shares: Sequence[float]) -> list[str]:
    """Deal the cases of each class to the split that lags most behind."""
    check_numbers('split_shares', shares, 0, count=len(SPLITS))
    if abs(sum(shares) - 1) > 1e-6:
        raise ValueError(
            f'split_shares must have the sum 1, got {tuple(shares)}')
    counts = np.zeros((max(labels) + 1, len(SPLITS)))
    splits = []
    for label in labels:
        lag = np.asarray(shares) * (counts[label].sum() + 1) - counts[label]
        place = int(lag.argmax())
        counts[label, place] += 1
        splits.append(SPLITS[place])
    return splits


def _draw_survival(label: int, rng: np.random.Generator) -> dict[str, object]:
    """Draw the time to death or to the last contact."""
    death = rng.exponential(_MEAN_SURVIVAL * 2**label)
    contact = rng.uniform(12, 100)
    return dict(survival_months=f'{min(death, contact):.2f}',
                censorship=int(contact < death))


def _write_genes(root: Path, style: slide_omic_drawing.ExpressionStyle,
                 columns: dict[str, np.ndarray],
                 seed: int) -> dict[str, list[str]]:
    """Write the expression and gene sets, those of planted ones first."""
    genes = draw_genes(len(style.mean), seed)
    lines = ['\t'.join(['gene_id', *columns])]
    lines += ['\t'.join([gene, *(f'{column[place]:.4f}'
                                 for column in columns.values())])
              for place, gene in enumerate(genes)]
    write_text(root / 'expression.tsv', '\n'.join(lines) + '\n')
    names = [f'planted_{number}' for number in range(style.num_planted)]
    names += [f'other_{number}'
              for number in range(len(style.pathways) - style.num_planted)]
    pathways = {name: [genes[place] for place in places]
                for name, places in zip(names, style.pathways, strict=True)}
    write_text(root / 'pathways.gmt', ''.join(
        '\t'.join([name, 'drawn', *members]) + '\n'
        for name, members in pathways.items()))
    return pathways
