"""A trained classifier on slides or their features, in one line."""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import print_log
from rich.progress import track
from torch import nn

from mmmedmask.apis.inferencers import (
    ClassificationInferencer,
    draw_error,
    list_inputs,
)
from mmmedmask.apis.slide_attention import (
    check_genes_given,
    find_evidence,
)
from mmmedmask.apis.slide_extraction import FAILED, extract_slides
from mmmedmask.datasets.image_io import ImageFileError
from mmmedmask.datasets.slides.feature_files import (
    FEATURE_SUFFIXES,
    SLIDE_SUFFIXES,
    SlideFeatureError,
)
from mmmedmask.datasets.slides.slide_features import SlideFeatures
from mmmedmask.datasets.slides.slide_list import list_slides, slide_files
from mmmedmask.datasets.slides.slide_pictures import (
    SlidePicture,
    find_picture,
)
from mmmedmask.datasets.slides.slide_readers import open_slide
from mmmedmask.datasets.slides.tile_stream import (
    TilingOptions,
    plan_slide,
)
from mmmedmask.models.layers.tile_encoders import TileEncoder

#: What is found of a slide whose file cannot be used, but for the error.
NOTHING = dict(dict.fromkeys(('label', 'class', 'score', 'scores',
                              'attention', 'coords')), note='', error='')


class SlideInferencer(ClassificationInferencer):
    """Classes of slides, and which patches speak for them.

    Called with files of features, or with slides if it has an encoder. The
    results are dicts of ``label``, ``class``, ``score`` and ``scores`` (as
    of :class:`~mmmedmask.apis.inferencers.ClassificationInferencer`; None
    for a model without classes), ``attention``, an array (R, N) whose rows
    sum to 1, ``coords``, an array (N, 2) or None, ``note``: empty,
    ``'no patches'`` of a slide without tissue, which has no class, or
    ``'without genes'`` where the model was trained on genes, too, and
    ``error``: why a file cannot be used, which stops no other, else empty.

    Args, beside those of :class:`~mmmedmask.apis.inferencers.Inferencer`:
        encoder: What turns tiles of slides into the features that the model
            was trained on; None takes files of features alone.
        tiling: Which tiles of a slide are encoded; None takes the defaults.
        slide_mpp: Micrometres per pixel of slides whose files do not tell,
            and of STAMP's features, which only then have coordinates in
            pixels of the slide, as a data set's with the column ``mpp``.

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
                 slide_mpp: float | None = None) -> None:
        super().__init__(model, checkpoint, device)
        in_dims = self.model.aggregator.in_dims
        if encoder is not None and encoder.dims != in_dims:
            raise ValueError(
                f'encoder {encoder.name} gives {encoder.dims} features, the '
                f'model takes {in_dims}: give the one it was trained on')
        self.encoder = encoder
        self.tiling = tiling or TilingOptions()
        self.slide_mpp = slide_mpp

    @staticmethod
    def list_files(place: str | Path) -> list[Path]:
        """List a file, or a folder's features and slides.

        Its DICOM files are left out, which may be levels of one slide.
        """
        endings = FEATURE_SUFFIXES + SLIDE_SUFFIXES
        files, notes = slide_files([Path(place)], endings)
        for note in notes:
            print_log(note, 'current', 30)
        if not files:
            raise ValueError(f'{place}: no file ends with one of {endings}; '
                             'pictures and DICOM files have to be named')
        return files

    def __call__(self, inputs: Any, batch_size: int = 64,
                 progress: bool = False) -> list[dict]:
        """Classify feature files, slides, or a folder of them, one by one.

        ``batch_size`` is that of the tiles that are encoded at once. A
        SlideFeatureError if no file can be used.
        """
        places = list_inputs(inputs, self.list_files)
        for path in places:
            self._check_place(path)
        check_genes_given(self.model, None)

        def classify(path: Path) -> dict:
            with tempfile.TemporaryDirectory() as folder, SlideFeatures(
                    self._features(path, folder, batch_size),
                    self.model.aggregator.in_dims,
                    self.slide_mpp) as features:
                return self._classify(path, features)

        results = self._each(
            classify, zip(track(places, type(self).__name__,
                                disable=not progress)),
            lambda path, error: dict(NOTHING, error=error), 'used')
        return [{'input': str(path), **result}
                for path, result in zip(places, results, strict=True)]

    @staticmethod
    def _each(work: Callable, rows: Iterable[tuple], otherwise: Callable,
              done: str) -> list:
        """Do some work with each slide, the first of its row.

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
            text = (f'{len(failed)} of {len(results)} slides cannot be {done},'
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

    def _classify(self, path: Path, features: SlideFeatures) -> dict:
        inputs = dict(patches=features.read(), coords=features.coords,
                      genes=None)
        try:
            evidence = find_evidence(self.model, inputs, per_patch=False)
        # Of what the model needs of a file, such as coordinates.
        except ValueError as error:
            raise SlideFeatureError(f'{path}: {error}') from None
        coords = inputs['coords']
        decision = {}
        if evidence.bag_scores is not None:
            decision = self.decide(evidence.bag_scores)
        return {**NOTHING, **decision, 'attention': evidence.attention,
                'coords': None if coords is None else coords.numpy(),
                'note': 'no patches' if not len(features) else
                'without genes' * getattr(self.model, 'uses_genes', False)}

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
