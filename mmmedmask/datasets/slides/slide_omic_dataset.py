"""Patients with slides as bags of features, and with gene expression."""

import functools
import json
import logging
from collections import Counter
from collections.abc import (
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import suppress
from pathlib import Path

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from mmmedmask.datasets.expression.gene_names import (
    canonical_genes,
    read_gene_list,
)
from mmmedmask.datasets.expression.samples import (
    check_files_differ,
    match_samples,
)
from mmmedmask.datasets.expression.table import (
    MAX_MISSING,
    ExpressionTable,
    load_expression,
)
from mmmedmask.datasets.slides.cohort import (
    Case,
    Slide,
    check_patients_apart,
    read_cohort,
    read_split,
)
from mmmedmask.datasets.slides.feature_files import (
    FeatureFolder,
    SlideFeatureError,
)
from mmmedmask.datasets.slides.slide_features import (
    SlideFeatures,
    check_same_encoder,
)
from mmmedmask.registry import DATASETS
from mmmedmask.util.checks import check_choice
from mmmedmask.util.file_walk import walk_files
from mmmedmask.util.nearest import did_you_mean, hint_beside_root, shown
from mmmedmask.util.nested import as_list

MODALITIES = ('slides', 'genes')
_POLICIES = ('raise', 'drop', 'keep')
_OF_FILES = ('dims', 'encoder', 'patch_size', 'coord_unit')
# Tiles that are cut at one resolution differ by whole pixels.
_SAME_MPP = 1.1
# Keys of load_expression that name files, relative to the data root.
_PATH_KEYS = ('sample_sheet', 'gene_list', 'case_list')


@DATASETS.register_module()
class SlideOmicDataset(BaseDataset):
    """Patients of a cohort csv, their slides and their gene expression.

    The list holds where the slides are, how many patches they have, the
    class, and the row of the patient in the table of expression; features
    are read by the pipeline, a slice at a time.

    Samples have ``case_id``, ``slide_ids``, ``slides`` (dicts with
    ``slide_id``, ``path``, ``num_patches`` and ``mpp``), ``slide_lengths``,
    ``num_patches``, ``dims``, ``encoder``, ``patch_size``, ``coord_unit``,
    ``gt_label``, ``rna_id``, ``survival_months``, ``censorship``,
    ``expression`` (float32 (G, ), NaN where missing; None without) and
    ``feature_cache``. What is not known is None. Slides without a patch are
    left out, with a warning in the log, if their patient has others.

    Args:
        ann_file: The cohort csv, see :func:`~mmmedmask.datasets.slides.\
cohort.read_cohort`; relative paths refer to ``data_root``.
        split: ``'train'``, ``'val'`` or ``'test'``; None takes all patients.
        split_file: A csv of splits, see :func:`~mmmedmask.datasets.slides.\
cohort.read_split`; None takes the column ``split``.
        modalities: ``'slides'``, ``'genes'`` or both.
        feature_root: Folder with the features; None if the column
            ``features_path`` names every file.
        dims: Size of a feature that the model expects; None takes any, but
            all slides must agree, also in encoder and weights where their
            files tell them; of each other split one slide is looked at.
        cache_dir: Folder for copies of the features in fp16, made at their
            first use; None makes none.
        expression: Arguments of :func:`~mmmedmask.datasets.expression.table.\
load_expression`, such as ``dict(path='fpkm.tsv', unit='fpkm')``. Of TCGA's
            samples primary tumours count, unless the column ``rna_id`` names
            another.
        gene_list: The genes that the model expects, in order: a list, or a
            text file with one per line. None takes those of the table.
        max_missing: Largest share of these genes that may be missing.
        missing_slides: What to do with patients of whom slides are missing,
            or who have files of them but none with a patch:
            ``'raise'`` stops. ``'drop'`` leaves a patient out if none is
            there, ``'keep'`` keeps it without patches; both go on with the
            slides that are there and report all.
        missing_genes: The same for patients without expression.
        case_agg: ``'concat'`` makes one bag of all slides of a patient,
            ``'separate'`` a sample of each slide.
        label_column: Column of the class.
        unlisted_labels: What to do with patients whose class is not one of
            ``metainfo['classes']``: ``'raise'`` or ``'drop'``.
        base: Further arguments of :class:`mmengine.dataset.BaseDataset`:
            ``pipeline``, ``test_mode``, ``indices``, ``metainfo`` and so on.
            ``metainfo['classes']`` fixes the classes and their order, which
            else are those of the csv, sorted.
    """

    def __init__(self, ann_file: str, data_root: str = '',
                 split: str | None = None, split_file: str | None = None,
                 modalities: Sequence[str] = MODALITIES,
                 feature_root: str | None = None, dims: int | None = None,
                 cache_dir: str | None = None,
                 expression: Mapping | None = None,
                 gene_list: str | Sequence[str] | None = None,
                 max_missing: float = MAX_MISSING,
                 missing_slides: str = 'raise', missing_genes: str = 'raise',
                 case_agg: str = 'concat', label_column: str = 'label',
                 unlisted_labels: str = 'raise', **base: object) -> None:
        if isinstance(modalities, str) or not modalities or not set(
                modalities) <= set(MODALITIES):
            raise ValueError(f'modalities must be a list of {MODALITIES}, got '
                             f'{modalities!r}')
        if 'genes' in modalities and expression is None:
            raise ValueError(
                "modalities has 'genes': expression must tell where they "
                'are, such as dict(path=...)')
        if case_agg == 'separate' and 'slides' not in modalities:
            raise ValueError(
                "case_agg='separate' needs 'slides' in modalities, got "
                f'{tuple(modalities)}')
        classes = (base.get('metainfo') or {}).get('classes') or ()
        if not all(isinstance(name, str) for name in classes):
            raise ValueError(
                "metainfo['classes'] must be text, as in the csv: write "
                f'{", ".join(repr(str(name)) for name in classes)}, got '
                f'{classes!r}')
        self.split, self.split_file = split, split_file
        self.modalities = tuple(modalities)
        self.feature_root, self.dims = feature_root, dims
        self.cache_dir, self.expression_source = cache_dir, expression
        self.gene_list, self.max_missing = gene_list, max_missing
        self.policies = {
            'slides': check_choice('missing_slides', missing_slides,
                                   _POLICIES),
            'genes': check_choice('missing_genes', missing_genes, _POLICIES)}
        self.case_agg = check_choice('case_agg', case_agg,
                                     ('concat', 'separate'))
        self.label_column = label_column
        self.unlisted_labels = check_choice(
            'unlisted_labels', unlisted_labels, ('raise', 'drop'))
        self._table: ExpressionTable | None = None
        super().__init__(ann_file, data_root=data_root, data_prefix={}, **base)

    @property
    def expression(self) -> ExpressionTable | None:
        """Expression of this set's patients, aligned; None without genes."""
        self.full_init()
        return self._table

    @property
    def gene_ids(self) -> tuple[str, ...]:
        """Genes in the order of ``expression``, empty without genes."""
        table = self.expression
        return () if table is None else table.gene_ids

    def fit_gene_scale(self, clip: float = 10.0) -> dict:
        """Fit the scale of the genes to the patients of this set.

        See :meth:`~mmmedmask.datasets.expression.table.ExpressionTable.\
fit_scale`. It is an error for sets for testing, without genes, or of counts.
        """
        if self.test_mode:
            raise ValueError(
                'the scale of genes is fitted to training cases alone; this '
                f'set (split {self.split!r}) has test_mode=True')
        if self.expression is None:
            raise ValueError('this set has no genes, its modalities are '
                             f'{self.modalities}')
        return self.expression.select(self._gene_rows()).fit_scale(clip)

    def gene_cases(self) -> tuple[str, ...]:
        """Patients of this set with expression, sorted by name."""
        return tuple(sorted(
            self.expression.case_ids[row] for row in self._gene_rows()))

    def _of_all(self, key: str) -> list:
        return [self.get_data_info(place)[key] for place in range(len(self))]

    def _gene_rows(self) -> list[int]:
        return sorted({row for row in self._of_all('gene_row')
                       if row is not None})

    def get_gt_labels(self) -> np.ndarray:
        """Labels of all samples, int64 (len(self), )."""
        return np.array(self._of_all('gt_label'), np.int64)

    def get_num_patches(self) -> np.ndarray:
        """Patches of all samples, int64 (len(self), ), 0 without slides."""
        return np.array(self._of_all('num_patches'), np.int64)

    def get_cat_ids(self, idx: int) -> list[int]:
        """Labels of a sample, as samplers ask for them."""
        return [self.get_data_info(idx)['gt_label']]

    def get_data_info(self, idx: int) -> dict:
        self.full_init()
        info = super().get_data_info(idx)
        row = info['gene_row']
        info['expression'] = None if row is None else self._table.values[row]
        info['feature_cache'] = self.cache_dir
        info['modalities'] = self.modalities
        return info

    def load_data_list(self) -> list[dict]:
        cohort = read_cohort(self.ann_file, self.label_column)
        has_slides, folder, files = 'slides' in self.modalities, None, {}
        if has_slides and self.feature_root is not None:
            folder = FeatureFolder(self._path(self.feature_root))
        if has_slides:
            files = self._find_files(cohort, folder)
        by_split = self._split_cases(cohort)
        cases = by_split.pop(self.split)
        rows = self._load_genes(cohort, cases) if (
            'genes' in self.modalities) else {}
        slides = self._find_slides(cases, folder, _one_of_each(
            by_split.values(), files)) if has_slides else {}
        cases = [case for case in cases if self._is_kept(case, rows, slides)]
        if not cases:
            raise ValueError(f'{self.ann_file}: no case of the split '
                             f'{self.split!r} is left')
        self._report_classes(cases)
        samples = []
        for case in cases:
            bags = [slides.get(case.case_id, [])]
            if self.case_agg == 'separate' and bags[0]:
                bags = [[slide] for slide in bags[0]]
            samples += [self._sample(case, bag, rows.get(case.case_id))
                        for bag in bags]
        return samples

    def _sample(self, case: Case, slides: list[dict], row: int | None) -> dict:
        # Slides of one encoder can be cut at different sizes: None then.
        common = {key: values.pop() if len(values) == 1 else None
                  for key, values in ((key, {slide[key] for slide in slides})
                                      for key in _OF_FILES)}
        lengths = [slide['num_patches'] for slide in slides]
        return {'case_id': case.case_id,
                'slide_ids': [slide['slide_id'] for slide in slides],
                'slides': slides, 'slide_lengths': lengths,
                'num_patches': sum(lengths), **common,
                'gt_label': self._metainfo['classes'].index(case.label),
                'rna_id': case.rna_id, 'gene_row': row,
                'survival_months': case.survival_months,
                'censorship': case.censorship}

    def _path(self, path: str | Path) -> Path:
        below = Path(self.data_root or '', path)
        if hint := hint_beside_root(path, self.data_root or ''):
            raise FileNotFoundError(f'{below} does not exist: {hint}')
        return below

    def _note(self, text: str, level: int = logging.INFO) -> None:
        print_log(f'{type(self).__name__} ({self.split or "all"}): {text}',
                  logger='current', level=level)

    def _split_cases(self, cases: list[Case]) -> dict[str | None, list[Case]]:
        """Give the patients of the classes by split, this one among them."""
        classes = self._metainfo.get('classes')
        if classes is None:
            classes = sorted({case.label for case in cases})
        classes = self._metainfo['classes'] = tuple(classes)
        other = Counter(case.label for case in cases
                        if case.label not in classes)
        if other:
            note = (f'{self.ann_file} has cases of other classes than '
                    f'{classes}: {dict(other)}.'
                    f'{did_you_mean(min(other), classes)}')
            if self.unlisted_labels == 'raise':
                raise ValueError(
                    f"{note}; unlisted_labels='drop' leaves them out")
            self._note(f'{note}; left out')
            cases = [case for case in cases if case.label in classes]
        if self.split is None:
            return {None: cases}
        if self.split_file is not None:
            split_of, notes = read_split(self._path(self.split_file), cases)
            for note in notes:
                self._note(note, logging.WARNING)
        else:
            split_of = {case.case_id: case.split for case in cases
                        if case.split is not None}
            if not split_of:
                raise ValueError(
                    f'{self.ann_file} has no column split: give split_file, '
                    f'or split=None for all cases, got {self.split!r}')
        source = self.split_file or self.ann_file
        check_patients_apart(split_of, source)
        by_split: dict[str | None, list[Case]] = {}
        for case in cases:
            by_split.setdefault(split_of.get(case.case_id), []).append(case)
        if left := [case.case_id for case in by_split.pop(None, ())]:
            self._note(f'{len(left)} of {len(cases)} cases are in no split of '
                       f'{source}: {shown(left)}', logging.WARNING)
        if self.split not in by_split:
            raise ValueError(f'no case is in the split {self.split!r}; there '
                             f'are {dict(Counter(split_of.values()))}')
        return by_split

    def _load_genes(self, cohort: Sequence[Case],
                    cases: Sequence[Case]) -> dict[str, int]:
        """Load the expression, and return the table's row of each case.

        Those of all splits are looked up, so that no two share a sample.
        """
        table = load_table(self.expression_source, self._path)
        wanted = {case.case_id: case.rna_id for case in cohort}
        match_samples(table.case_ids, wanted, table.patients)
        of_cases = table.for_cases(
            {case.case_id: case.rna_id for case in cases})
        genes = table.gene_ids
        if isinstance(self.gene_list, str | Path):
            genes = read_gene_list(self._path(self.gene_list))
        elif self.gene_list is not None:
            genes = canonical_genes(self.gene_list, 'gene_list')
        self._table = of_cases.align(genes, self.max_missing)
        for note in self._table.notes:
            self._note(f'{self._table.source}: {note}')
        rows = {case: row for row, case in enumerate(self._table.case_ids)}
        missing = [case for case in cases if case.case_id not in rows]
        if missing:
            names = [case.case_id if case.rna_id is None else
                     f'{case.case_id} (rna_id {case.rna_id})'
                     for case in missing]
            like = table.samples_like(
                case.rna_id or case.case_id for case in missing)
            self._apply('genes', f'{len(missing)} of {len(cases)} cases have '
                        f'no expression: {shown(names)}; {like}')
        return rows

    def _find_files(self, cohort: Sequence[Case],
                    folder: FeatureFolder | None) -> dict[Slide, Path]:
        """Find all files, and refuse one that slides share, by a link too."""
        cases = {slide: case.case_id for case in cohort
                 for slide in case.slides
                 if folder is not None or slide.features_path is not None}
        files = {slide: file for slide in cases
                 if (file := self._features_of(slide, folder)) is not None}
        check_files_differ(
            {f'slide {slide.slide_id} of case {cases[slide]}': file
             for slide, file in files.items()}, f'{self.ann_file}: ',
            'features', 'one would count twice, or be in two splits')
        return files

    def _find_slides(self, cases: Sequence[Case], folder: FeatureFolder | None,
                     others: Iterable[SlideFeatures]
                     ) -> dict[str, list[dict]]:
        """Find the slides with patches of each case that has some.

        They must be of one kind, and so must ``others``.
        """
        slides: dict[str, list[dict]] = {}
        absent, opened = [], []
        empty: dict[str, str] = {}
        for case in cases:
            if not case.slides:
                absent.append(f'{case.case_id} (no slide in the csv)')
            for slide in case.slides:
                path = self._features_of(slide, folder)
                if path is None:
                    absent.append(slide.slide_id)
                    continue
                with SlideFeatures(path, self.dims, slide.mpp) as features:
                    facts = {
                        'slide_id': slide.slide_id, 'path': str(path),
                        'mpp': slide.mpp, 'num_patches': features.num_patches,
                        **{key: getattr(features, key) for key in _OF_FILES}}
                opened.append(features)
                if facts['num_patches']:
                    slides.setdefault(case.case_id, []).append(facts)
                else:
                    empty[slide.slide_id] = case.case_id
        opened += others
        check_same_encoder(opened)
        sized = sorted((slide for slide in opened if slide.tile_mpp),
                       key=lambda slide: slide.tile_mpp)
        if sized and sized[-1].tile_mpp > _SAME_MPP * sized[0].tile_mpp:
            self._note('tiles have different resolutions: '
                       f'{sized[0].tile_mpp:.3g} µm per pixel in '
                       f'{sized[0].path}, {sized[-1].tile_mpp:.3g} in '
                       f'{sized[-1].path}', logging.WARNING)
        beside = [name for name, case in empty.items() if case in slides]
        if beside:
            self._note(f'{len(beside)} slides have no patch, left out beside '
                       f'others of their cases: {shown(beside)}',
                       logging.WARNING)
        alone = [name for name, case in empty.items() if case not in slides]
        for names, what in ((absent, 'slides have no file of features'),
                            (alone, 'slides have no patch')):
            if names:
                self._apply('slides', f'{len(names)} {what}: {shown(names)}'
                            + _hint(folder, names))
        return slides

    def _features_of(self, slide: Slide,
                     folder: FeatureFolder | None) -> Path | None:
        if slide.features_path is not None:
            path = self._path(slide.features_path)
            return path if path.is_file() else None
        if folder is None:
            raise ValueError(f'slide {slide.slide_id} has no features_path: '
                             'give feature_root, the folder with the features')
        return folder.find(slide.slide_id)

    def _apply(self, modality: str, note: str) -> None:
        policy = self.policies[modality]
        if policy == 'raise':
            raise ValueError(
                f"{self.ann_file}: {note}; missing_{modality}='drop' leaves "
                "cases without any out, 'keep' keeps them")
        self._note(f'{note} (missing_{modality}={policy!r})')

    def _is_kept(self, case: Case, rows: Mapping, slides: Mapping) -> bool:
        has = {name: case.case_id in cases for name, cases in (
            ('slides', slides), ('genes', rows)) if name in self.modalities}
        if not any(has.values()):
            # There is nothing to learn from or to predict with.
            self._note(f'left out case {case.case_id}, which has no '
                       f'{" and no ".join(has)}')
            return False
        return all(there or self.policies[name] == 'keep'
                   for name, there in has.items())

    def _report_classes(self, cases: Sequence[Case]) -> None:
        counts = Counter(case.label for case in cases)
        classes = self._metainfo['classes']
        self._note(', '.join(f'{counts[name]} cases of {name}'
                             for name in classes))
        few = [name for name in classes if counts[name] < 2]
        if few:
            self._note(f'fewer than 2 cases of {shown(few)}: no pairs of '
                       'these classes can be made, and scores of them mean '
                       'nothing', logging.WARNING)


def _one_of_each(splits: Iterable[Sequence[Case]],
                 files: Mapping[Slide, Path]) -> Iterator[SlideFeatures]:
    """Open the first slide with patches of each split that can be opened."""
    for cases in splits:
        for slide in (slide for case in cases for slide in case.slides
                      if slide in files):
            # What is wrong with a file is said when its split is loaded.
            with suppress(SlideFeatureError), SlideFeatures(
                    files[slide], mpp=slide.mpp) as features:
                if len(features):
                    yield features
                    break


def _hint(folder: FeatureFolder | None, names: Sequence[str]) -> str:
    """Name a file that may be meant, or nothing."""
    for name in names if folder is not None else ():
        near = folder.similar(name)
        if near is not None and near != name:
            return (f'; {folder.folder} has {near}: is it {name}? Names must '
                    'be equal up to their endings')
    return ''


def load_table(source: Mapping, resolve: Callable[[str], Path] = Path
               ) -> ExpressionTable:
    """Load the table that ``expression`` of a data set names.

    It is read once for all that ask for it, until its files change;
    ``resolve`` says where they are.
    """
    return _load_table(*_table_key(source, resolve))


def _table_key(source: Mapping, resolve: Callable) -> tuple[str, tuple]:
    """Say what to load as text, and the state of the files on disk."""
    source = dict(source)
    if 'path' not in source:
        raise ValueError(
            f'expression must have the key path, got {sorted(source)}')
    source['path'] = [str(resolve(path)) for path in as_list(source['path'])]
    for key in _PATH_KEYS:
        if source.get(key) is not None:
            source[key] = str(resolve(source[key]))
    named = [*source['path'], *(source[key] for key in _PATH_KEYS
                                if source.get(key) is not None)]
    # A folder does not change when a file in it does.
    files = [file for path in map(Path, named)
             for file in (path, *(walk_files(path) if path.is_dir() else ()))]
    stamp = tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size)
                  for file in files if file.exists())
    return json.dumps(source, sort_keys=True), stamp


@functools.lru_cache(maxsize=2)
def _load_table(source: str, stamp: tuple) -> ExpressionTable:
    return load_expression(**json.loads(source))
