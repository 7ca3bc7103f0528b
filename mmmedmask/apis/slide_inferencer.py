"""A trained classifier on slides or their features, in one line."""

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import print_log
from rich.progress import track
from torch import nn

from mmmedmask.apis.inferencers import (
    LOADERS,
    ClassificationInferencer,
    draw_error,
    list_inputs,
)
from mmmedmask.apis.slide_attention import (
    check_genes_given,
    find_evidence,
)
from mmmedmask.apis.slide_extraction import FAILED, extract_slides
from mmmedmask.datasets.expression.samples import (
    check_one_patient,
    tcga_case,
)
from mmmedmask.datasets.expression.table import MAX_MISSING, ExpressionTable
from mmmedmask.datasets.image_io import ImageFileError
from mmmedmask.datasets.slides.feature_files import (
    FEATURE_SUFFIXES,
    SLIDE_SUFFIXES,
    SlideFeatureError,
    drop_twins,
    slide_name,
    slide_place,
)
from mmmedmask.datasets.slides.slide_features import SlideBag, SlideFeatures
from mmmedmask.datasets.slides.slide_list import list_slides, slide_files
from mmmedmask.datasets.slides.slide_omic_dataset import load_table
from mmmedmask.datasets.slides.slide_pictures import (
    SlidePicture,
    find_picture,
)
from mmmedmask.datasets.slides.slide_readers import open_slide
from mmmedmask.datasets.slides.tile_stream import (
    TilingOptions,
    plan_slide,
)
from mmmedmask.datasets.transforms.slide_bags import read_rows
from mmmedmask.models.layers.tile_encoders import TileEncoder
from mmmedmask.util.checks import check_choice
from mmmedmask.util.nearest import shown
from mmmedmask.util.table_files import check_spelling

#: What is found of a slide whose file cannot be used, but for the error.
NOTHING = dict(dict.fromkeys(('label', 'class', 'score', 'scores',
                              'attention', 'coords')), note='', error='')


class SlideInferencer(ClassificationInferencer):
    """Classes of slides or patients, and which patches speak for them.

    Called with files of features, or with slides if it has an encoder. The
    results are dicts, one for each file, of ``case``, its patient or None,
    ``label``, ``class``, ``score`` and ``scores`` (as
    of :class:`~mmmedmask.apis.inferencers.ClassificationInferencer`; None
    for a model without classes), ``attention``, an array (R, N) whose rows
    sum to 1, ``coords``, an array (N, 2) or None, ``note``: empty,
    ``'no patches'`` of a slide without tissue, which has no class, or
    ``'without genes'`` where the model was trained on genes, too, and
    ``error``: why a file cannot be used, which stops no other, else empty.

    With an expression or named patients all files of a patient are one bag,
    as in :class:`~mmmedmask.datasets.SlideOmicDataset`, unless the config's
    data set has ``case_agg='separate'``: they get one class, rows of their
    attention sum to 1 together, and if one cannot be used none is. Give them
    in the order of a cohort's csv, which counts in aggregators of sequences.

    Args, beside those of :class:`~mmmedmask.apis.inferencers.Inferencer`:
        encoder: What turns tiles of slides into the features that the model
            was trained on; None takes files of features alone.
        tiling: Which tiles of a slide are encoded; None takes the defaults.
        slide_mpp: Micrometres per pixel of slides whose files do not tell,
            and of STAMP's features, which only then have coordinates in
            pixels of the slide, as a data set's with the column ``mpp``.
        expression: The patients' genes: a path, several, or a dict as of
            :class:`~mmmedmask.datasets.SlideOmicDataset`. They are brought
            into the checkpoint's order and must have its unit. None: slides
            alone.
        max_missing: Largest share of the checkpoint's genes that may be
            missing.
        missing_genes: What to do with patients without expression:
            ``'raise'`` makes it their ``error``, ``'keep'`` classifies them
            ``'without genes'``.

    Example:
        >>> torch.save(torch.randn(5, 1024), 'slide.pt')
        >>> infer = SlideInferencer('abmil_1xb8-coslr-70e_tcga-nsclc')
        >>> infer('slide.pt')[0]['attention'].shape
        (1, 5)
    """

    needs = ('aggregator', )

    def __init__(self, model: str | Path | Config | nn.Module,
                 checkpoint: str | None = None,
                 device: str | torch.device | None = None,
                 encoder: TileEncoder | None = None,
                 tiling: TilingOptions | None = None,
                 slide_mpp: float | None = None,
                 expression: str | Path | Sequence | Mapping | None = None,
                 max_missing: float = MAX_MISSING,
                 missing_genes: str = 'raise') -> None:
        super().__init__(model, checkpoint, device)
        in_dims = self.model.aggregator.in_dims
        if encoder is not None and encoder.dims != in_dims:
            raise ValueError(
                f'encoder {encoder.name} gives {encoder.dims} features, the '
                f'model takes {in_dims}: give the one it was trained on')
        self.encoder = encoder
        self.tiling = tiling or TilingOptions()
        self.slide_mpp = slide_mpp
        self.max_missing = max_missing
        self.missing_genes = check_choice('missing_genes', missing_genes,
                                          ('raise', 'keep'))
        self.separate = 'separate' in [
            node['case_agg'] for node in self._loader_nodes(*LOADERS)
            if 'case_agg' in node][:1]
        self.table = None if expression is None else self._load(expression)

    def _load(self, expression: str | Path | Sequence | Mapping
              ) -> ExpressionTable:
        """Load expression, and check that it is of the model's genes."""
        if not getattr(self.model, 'uses_genes', False):
            raise ValueError(f'{type(self.model).__name__} looks at slides '
                             f'alone, got expression={expression!r}')
        if not isinstance(expression, Mapping):
            expression = dict(path=expression)
        table = load_table(expression)
        scale = self.model.data_preprocessor.gene_scale
        scale.check_model(self.model, table.source)
        scale.check_unit(table.unit, table.log2_offset, table.source)
        table.select([]).align(scale.gene_ids, self.max_missing)
        return table

    @staticmethod
    def list_files(place: str | Path) -> list[Path]:
        """List a file, or a folder's features and slides.

        Its DICOM files are left out, which may be levels of one slide, and of
        CLAM's pairs the files in ``pt_files``, as a data set does.
        """
        endings = FEATURE_SUFFIXES + SLIDE_SUFFIXES
        files, notes = slide_files([Path(place)], endings)
        files, twins = drop_twins(files)
        if twins:
            notes.append(f'{len(twins)} files of pt_files are left out, whose '
                         f'slides are in h5_files: {shown(twins)}')
        for note in notes:
            print_log(note, 'current', 30)
        if not files:
            raise ValueError(f'{place}: no file ends with one of {endings}; '
                             'pictures and DICOM files have to be named')
        return files

    def __call__(self, inputs: Any, batch_size: int = 64,
                 progress: bool = False,
                 cases: Sequence[str] | None = None) -> list[dict]:
        """Classify feature files, slides, or a folder of them.

        ``batch_size`` is that of the tiles that are encoded at once.
        ``cases`` names the patient of each file, in the order of the results:
        as in a cohort's csv, or by the sample of the expression. With an
        expression None reads the patient from a file's TCGA barcode, else
        takes the file's name without endings, and refuses files with one name
        in several folders. A SlideFeatureError if no file can be used.
        """
        places = list_inputs(inputs, self.list_files)
        for path in places:
            self._check_place(path)
        cases = self._name_cases(places, cases)
        if self.table is None:
            check_genes_given(self.model, None)
        genes = self._genes_of(cases)
        bags: dict[tuple, list[int]] = {}
        for place, case in enumerate(cases):
            alone = case is None or self.separate
            bags.setdefault((case, place * alone), []).append(place)

        def classify(bag: list[int]) -> dict[int, dict]:
            case, paths = cases[bag[0]], [places[place] for place in bag]
            if self.table is not None and case not in genes and \
                    self.missing_genes == 'raise':
                raise SlideFeatureError(
                    f'{shown(paths)}: case {case} has no expression; '
                    f'{self.table.samples_like([case])}; '
                    "missing_genes='keep' classifies it without genes")
            with contextlib.ExitStack() as stack:
                slides = [stack.enter_context(SlideFeatures(
                    self._features(path, stack.enter_context(
                        tempfile.TemporaryDirectory()), batch_size),
                    self.model.aggregator.in_dims, self.slide_mpp))
                    for path in paths]
                return dict(zip(bag, self._classify(
                    paths, slides, genes.get(case)), strict=True))

        results: dict[int, dict] = {}
        for part in self._each(
                classify, zip(track(bags.values(), type(self).__name__,
                                    disable=not progress)),
                lambda bag, error: dict.fromkeys(
                    bag, dict(NOTHING, error=error)), 'used',
                'slides' if len(bags) == len(places) else 'patients'):
            results |= part
        return [{'input': str(path), 'case': cases[place], **results[place]}
                for place, path in enumerate(places)]

    def _name_cases(self, places: Sequence[Path], cases: Sequence[str] | None
                    ) -> list[str] | list[None]:
        """Name the patient of each file; None without expression or names."""
        slides = [slide_name(path.name) for path in places]
        named = cases is not None
        if named:
            if isinstance(cases, str) or len(cases) != len(places) or not all(
                    isinstance(case, str) and case for case in cases):
                raise ValueError('cases must be a list with the name of a '
                                 f'patient for each of {len(places)} files, '
                                 f'got {cases!r}')
            cases = list(cases)
        elif self.table is None:
            return [None] * len(places)
        else:
            cases = [tcga_case(name) or name for name in slides]
        check_spelling('cases', 'case', cases)
        owners: dict[object, Path] = {}
        for path, slide, case in zip(places, slides, cases, strict=True):
            check_one_patient(path, case, 'slide', slide)
            # Features beside their slide, or a file twice.
            place = slide_place(path.resolve())
            other = owners.setdefault(place, path)
            if other is not path:
                raise ValueError(f'{other} and {path} are one slide, which '
                                 'would count twice')
            other = path if named else owners.setdefault(slide, path)
            if other is not path:
                raise ValueError(
                    f'{other} and {path} have one name, and would be slides '
                    f'of one patient, {case!r}: name the patient of each file '
                    'in cases')
        return cases

    def _genes_of(self, cases: Sequence[str]) -> dict[str, torch.Tensor]:
        """Genes (G, ) of the patients who have some, by name."""
        if self.table is None:
            return {}
        table = self.table.for_cases(dict.fromkeys(cases)).align(
            self.model.data_preprocessor.gene_scale.gene_ids,
            self.max_missing)
        for note in table.notes:
            print_log(f'{table.source}: {note}', 'current')
        return dict(zip(table.case_ids, torch.tensor(table.values),
                        strict=True))

    @staticmethod
    def _each(work: Callable, rows: Iterable[tuple], otherwise: Callable,
              done: str, kind: str = 'slides') -> list:
        """Do some work with each slide or bag, the first of its row.

        One that fails stops no other: its result is what ``otherwise`` makes
        of it and the error. A SlideFeatureError if all fail.
        """
        results, failed = [], []
        for row in rows:
            try:
                results.append(work(*row))
            except SlideFeatureError as error:
                failed.append(str(error))
                results.append(otherwise(row[0], failed[-1]))
        if failed:
            text = (f'{len(failed)} of {len(results)} {kind} cannot be {done},'
                    f' the first: {failed[0]}')
            if len(failed) == len(results):
                raise SlideFeatureError(text)
            print_log(text, 'current', 30)
        return results

    def _check_place(self, path: Path | np.ndarray) -> None:
        if not isinstance(path, Path):
            raise ValueError('SlideInferencer takes files of features and '
                             f'slides, got an array of shape {path.shape}')
        if self.encoder is None and \
                path.suffix.lower() not in FEATURE_SUFFIXES:
            raise ValueError(
                f'{path} is not a file of features ({FEATURE_SUFFIXES}): '
                'slides need SlideInferencer(encoder=...), see '
                'mmmedmask.apis.encoder_weights.build_tile_encoder')

    def _features(self, path: Path, folder: str, batch_size: int) -> Path:
        if path.suffix.lower() in FEATURE_SUFFIXES:
            return path
        tasks, _ = list_slides([path], mpp=self.slide_mpp)
        result, = extract_slides(tasks, Path(folder), self.encoder,
                                 self.tiling, batch_size)
        if result.status == FAILED:
            raise SlideFeatureError(
                f'{path} has no features: {result.error}')
        return Path(folder, 'h5_files', f'{result.slide_id}.h5')

    def _classify(self, paths: Sequence[Path], slides: list[SlideFeatures],
                  genes: torch.Tensor | None) -> list[dict]:
        """Classify one bag, and give each of its slides its part."""
        try:
            # As a data set does, slides without patches are left out.
            inputs = dict(bag=SlideBag(list(filter(len, slides)) or slides))
            read_rows(inputs)
            evidence = find_evidence(self.model, dict(inputs, genes=genes),
                                     per_patch=False)
            decision = {} if evidence.bag_scores is None else self.decide(
                evidence.bag_scores)
        except SlideFeatureError:
            raise
        # Of what the model needs of a file, such as coordinates.
        except ValueError as error:
            raise SlideFeatureError(f'{shown(paths)}: {error}') from None
        without = genes is None and getattr(self.model, 'uses_genes', False)
        ends = np.cumsum([len(slide) for slide in slides])
        return [{
            **NOTHING, **(decision if len(slide) else {}),
            'attention': evidence.attention[:, end - len(slide):end],
            'coords': slide.coords.numpy() if slide.has_coords else None,
            'note': 'without genes' * without if len(slide) else 'no patches'}
            for slide, end in zip(slides, ends, strict=True)]

    def _draw_all(self, images: Sequence[Path], results: Sequence[dict]
                  ) -> list[np.ndarray]:
        for image in images:
            self._check_place(image)
        return self._each(self.draw, zip(images, results, strict=True),
                          draw_error, 'drawn')

    def draw(self, image: Path, result: dict) -> np.ndarray:
        """Draw the attention over a slide, or the slide of its features.

        A picture of the latter is looked for beside the file, which must have
        coordinates. A SlideFeatureError says why there is nothing to draw;
        ``visualize`` writes it on the picture, unless it is so of all.
        """
        from mmmedmask.visualization.slide_heatmap import (
            PatchMap,
            PatchPlaces,
            draw_slide_heatmaps,
        )
        if result['error']:
            raise SlideFeatureError(result['error'])
        try:
            picture = self._picture(image)
        # Of the slide, its picture or its coordinates.
        except (OSError, ImageFileError, ValueError) as error:
            raise SlideFeatureError(str(error)) from error
        places = PatchPlaces(result['coords'], picture.side, picture.size)
        maps = [PatchMap(f'Attention {row or ""}'.strip(), weights)
                for row, weights in enumerate(result['attention'])]
        note = result['note']
        if result['scores'] is not None:
            note = (f'{result["class"] or result["label"]} '
                    f'{result["score"]:.2f} {note}').rstrip()
        return draw_slide_heatmaps(picture.thumbnail, maps, places,
                                   image.stem, note)

    def _picture(self, image: Path) -> SlidePicture:
        if image.suffix.lower() in FEATURE_SUFFIXES:
            with SlideFeatures(image, mpp=self.slide_mpp) as features:
                return find_picture(features)
        with open_slide(image) as slide:
            plan = plan_slide(slide, self.tiling, self.slide_mpp)
        return SlidePicture(plan.thumbnail, plan.size, plan.geometry.side,
                            str(image), plan.origin)
