"""Trained models on images, in one line.

Each inferencer is built from a model's name or config and a checkpoint, and
called with a file, a folder, an array, a picture of PIL, or a list of these.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial, reduce
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.logging import print_log
from mmengine.registry import DefaultScope
from PIL import ImageOps
from rich.progress import track
from torch import nn

from mmmedmask.apis.models import get_model, list_models
from mmmedmask.config_files import find_hooks
from mmmedmask.engine.preserved_state import unwrap
from mmmedmask.util.checks import check_integer
from mmmedmask.util.input_units import input_units
from mmmedmask.util.nested import nested_dicts

LOADERS = tuple(f'{split}_dataloader' for split in ('test', 'val', 'train'))
#: Where transforms say to which size they bring an image.
SIZES = ('size', 'scale')

#: Modes of PIL's pictures, and the modes whose values files of them hold.
PIL_MODES = {'1': 'L', 'P': 'RGB', 'PA': 'RGBA', 'RGBX': 'RGB'} | {
    mode: mode for mode in ('L', 'LA', 'RGB', 'RGBA', 'I;16', 'I;16B', 'F')}


def list_pictures(place: str | Path) -> list[Path]:
    """List the pictures that a path names; see :func:`list_inputs`.

    Example:
        >>> Path('tiles').mkdir()
        >>> Path('tiles/a.png').touch()
        >>> [str(path) for path in list_pictures('tiles')]
        ['tiles/a.png']
    """
    # It imports all data sets.
    from mmmedmask.datasets import radiology
    from mmmedmask.util.file_walk import walk_files
    path, part = radiology.split_part(place)
    if path.is_dir():
        return list_inputs(walk_files(path))
    if not path.is_file():
        raise FileNotFoundError(f'there is no file or folder {path}')
    if part is None and radiology.is_scan(path):
        try:
            return list(map(Path, radiology.pictures_of(path)))
        except ValueError:
            # What is wrong with it is said where it is read.
            return [path]
    return [Path(place)]


def list_inputs(inputs: Any, list_files: Callable[[str | Path], list[Path]]
                = list_pictures) -> list[Any]:
    """List what an inferencer was called with: paths and arrays (H, W, C).

    Args:
        inputs: A file, a folder (all files below it), an array (H, W) or
            (H, W, C) with RGB channels, a picture of PIL, which is read as
            a PNG or TIFF of it would be, alpha too, or a list. Of a DICOM or
            NIfTI file all frames or axial slices, or the one that is named:
            ``scan.dcm#frame=3``.
        list_files: Lists what a file or a folder holds.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ValueError: If there is nothing, or something else.

    Example:
        >>> [image.shape for image in list_inputs(np.zeros((4, 5), 'uint8'))]
        [(4, 5, 1)]
    """
    if isinstance(inputs, list | tuple):
        images = [image for item in inputs
                  for image in list_inputs(item, list_files)]
        if not images:
            raise ValueError('there are no images: the list is empty')
        return images
    if isinstance(inputs, str | Path):
        return list_files(inputs)
    if hasattr(inputs, 'getbands'):
        mode = PIL_MODES.get(inputs.mode, '')
        # Of a palette, or one colour of a gray or RGB picture.
        clear = mode[-1:] not in ('', 'A') and inputs.has_transparency_data
        mode += 'A' * clear
        if mode not in PIL_MODES:
            raise ValueError(
                'a picture of PIL must have one of the modes '
                f'{tuple(PIL_MODES)}, got {inputs.mode!r}'
                f'{" with a transparent colour" * clear}, which would be '
                'changed: convert it, or give an array')
        inputs = np.asarray(ImageOps.exif_transpose(inputs).convert(mode))
        inputs = inputs.astype(inputs.dtype.newbyteorder('='), copy=False)
    if isinstance(inputs, np.ndarray) and inputs.ndim in (2, 3):
        if not inputs.size:
            raise ValueError('an image has at least one pixel and channel, '
                             f'got an array of shape {inputs.shape}')
        return [inputs if inputs.ndim == 3 else inputs[..., None]]
    raise ValueError(
        'an image is a file, a folder, an array (H, W) or (H, W, C), a '
        f'picture of PIL, or a list of these; got {type(inputs).__name__}'
        + (f' of shape {inputs.shape}' if hasattr(inputs, 'shape') else ''))


class Inferencer:
    """A model in evaluation mode, and how its config loads whole images.

    Args:
        model: A name of :func:`~mmmedmask.apis.models.list_models`, a config,
            its path, or a model, wrapped or not, that has its config, as
            those of :func:`~mmmedmask.apis.models.get_model` (``_config``)
            and of mmdet and mmseg (``cfg``) have it.
        checkpoint: File with the weights; None leaves random ones, or those
            of a model.
        device: Where the model runs; None takes the CPU, or leaves a model
            where it is.

    Raises:
        FileNotFoundError: If there is no such config or checkpoint.
        ValueError: If weights do not fit, or the model is of another kind or
            has no config.

    Example:
        >>> class Ranges(Inferencer):
        ...     def infer(self, batch):
        ...         return [dict(largest=int(image.max()))
        ...                 for image in batch['inputs']]
        >>> pipeline = [dict(type='mmmedmask.LoadTile'),
        ...             dict(type='mmmedmask.PackTile')]
        >>> config = Config(dict(
        ...     default_scope='mmpretrain',
        ...     model=dict(type='GlobalAveragePooling'),
        ...     test_dataloader=dict(dataset=dict(pipeline=pipeline))))
        >>> Ranges(config)(np.full((4, 4, 3), 9, 'uint8'))
        [{'input': None, 'largest': 9, 'error': ''}]
    """

    #: What the model must have, and what may show one that has it not.
    needs: tuple[str, ...] = ()
    instead = ''
    #: Pictures among its results, which those of a folder would fill memory
    #: with.
    large: tuple[str, ...] = ()
    list_models = staticmethod(list_models)
    list_files = staticmethod(list_pictures)

    def __init__(self, model: str | Path | Config | nn.Module,
                 checkpoint: str | None = None,
                 device: str | torch.device | None = None) -> None:
        if not isinstance(model, nn.Module):
            model = get_model(model, checkpoint, device or 'cpu')
        elif checkpoint is not None:
            raise ValueError('a checkpoint goes with a name or a config; a '
                             'built model has its weights')
        self.model = model = unwrap(model).eval()
        if device is not None:
            model.to(device)
        configs = [config for config in (
            getattr(model, name, None) for name in ('_config', 'cfg'))
            if isinstance(config, Config)]
        if not configs:
            raise ValueError(
                f'{type(model).__name__} does not have its config, as a model '
                'of get_model has it: set model._config to it, or give a name '
                'or a config, and a checkpoint')
        self.config = configs[0]
        self.scope = self.config.get('default_scope') or 'mmengine'
        missing = [name for name in self.needs if reduce(
            lambda node, part: getattr(node, part, None),
            name.split('.'), model) is None]
        if missing:
            raise ValueError(
                f'{type(self).__name__} needs a model with '
                f'{" and ".join(missing)}, {type(model).__name__} has none'
                f'{self.instead}')

    def pipeline(self) -> Callable[[dict], dict]:
        """Transforms that load a whole image, resize and pack it.

        Those of test or validation, else of a hook that looks at whole
        images, else those that :func:`keep_whole` leaves of training's.
        """
        *tested, trained = LOADERS
        steps = self._steps(*self._loader_nodes(*tested),
                            *find_hooks(self.config).values())
        if steps is None and self.scope not in ('mmdet', 'mmseg'):
            steps = self._steps(*self._loader_nodes(trained))
            steps = steps and keep_whole(steps)
        return self._compose(steps)

    def _loader_nodes(self, *loaders: str) -> Iterator[dict]:
        """All dicts within loaders of the config."""
        return nested_dicts([self.config.get(name) for name in loaders])

    def _steps(self, *nodes: dict) -> list[dict] | None:
        """The first pipeline of some dicts."""
        return next((node['pipeline'] for node in nodes
                     if node.get('pipeline')), None)

    def _compose(self, steps: list[dict] | None) -> Callable[[dict], dict]:
        if steps is None:
            raise ValueError('the config does not say how to load images: '
                             f'none of {", ".join(LOADERS)} has a pipeline '
                             'for whole ones')
        with DefaultScope.overwrite_default_scope(self.scope):
            return Compose(steps)

    def batches(self, images: Sequence, batch_size: int, progress: bool,
                errors: dict[int, str] | None = None
                ) -> Iterator[tuple[list[int], dict]]:
        """Load images, as :func:`list_inputs` gives them.

        Yields the places of some that are of one size when loaded: padding
        would make each depend on the others. Beside them, lists of
        ``inputs`` and ``data_samples`` for the data preprocessor. Places of
        files that cannot be used go to ``errors``, with what is wrong;
        without it the first one is an ImageFileError.
        """
        from mmmedmask.datasets.image_io import ImageFileError
        pipeline = self.pipeline()
        check_integer('batch_size', batch_size)
        starts = range(0, len(images), batch_size)
        for start in track(starts, type(self).__name__, disable=not progress):
            samples, alike = {}, {}
            for place, image in enumerate(
                    images[start:start + batch_size], start):
                try:
                    sample = pipeline(describe(image, place))
                except ImageFileError as error:
                    if errors is None or not isinstance(image, Path):
                        raise
                    errors[place] = str(error)
                    continue
                samples[place] = sample
                if not isinstance(sample['inputs'], torch.Tensor):
                    raise ValueError(
                        'the pipeline makes several views of an image, and '
                        'an inferencer takes one: pack the image itself')
                alike.setdefault(sample['inputs'].shape, []).append(place)
            for places in alike.values():
                yield places, pseudo_collate(
                    [samples[place] for place in places])

    def __call__(self, inputs: Any, batch_size: int = 8,
                 progress: bool = False, out_dir: str | Path | None = None
                 ) -> list[dict]:
        """Run the model on what :func:`list_inputs` takes: a dict an image.

        A forward pass takes ``batch_size`` images; ``progress`` shows a bar.
        With ``out_dir`` the drawing of each image is written there at once;
        results have its path, ``drawing``, and no pictures. ``error`` of a
        result says why its file cannot be used, which stops no other; all
        else of it is None then. It is empty otherwise. An ImageFileError if
        no file can be used.
        """
        return self._run(self.infer, inputs, batch_size, progress, out_dir)

    def _run(self, infer: Callable[[dict], list[dict]], inputs: Any,
             batch_size: int, progress: bool, out_dir: str | Path | None
             ) -> list[dict]:
        images = list_inputs(inputs, self.list_files)
        results = [{'input': str(image) if isinstance(image, Path) else None}
                   for image in images]
        errors: dict[int, str] = {}
        with DefaultScope.overwrite_default_scope(self.scope), \
                torch.inference_mode():
            for places, batch in self.batches(images, batch_size, progress,
                                              errors):
                for place, result in zip(places, infer(batch), strict=True):
                    if out_dir is not None:
                        result = self._write(images[place], result, Path(
                            out_dir, str(place)))
                    results[place] |= result
        return add_errors(results, errors)

    def _write(self, image: Path | np.ndarray, result: dict,
               file: Path) -> dict:
        """Write a drawing, and leave of its result what is small."""
        from mmmedmask.datasets.image_io import write_image
        if isinstance(image, Path):
            file = file.with_name(f'{file.name}_{image.stem}')
        file = file.with_name(f'{file.name}.png')
        write_image(file, self.draw(image, result))
        return {'drawing': str(file), **{
            name: value for name, value in result.items()
            if name not in self.large}}

    def infer(self, batch: dict) -> list[dict]:
        """Run the model on ``inputs`` of one size and ``data_samples``."""
        raise NotImplementedError

    def visualize(self, inputs: Any, results: Sequence[dict]
                  ) -> list[np.ndarray]:
        """Draw each image and what the call found: uint8 RGB pictures."""
        images = list_inputs(inputs, self.list_files)
        if len(images) != len(results):
            raise ValueError(f'{len(images)} images go with as many results '
                             f'of the call, got {len(results)}')
        return self._draw_all(images, results)

    def _draw_all(self, images: Sequence, results: Sequence[dict]
                  ) -> list[np.ndarray]:
        from mmmedmask.visualization.pictures import picture_of
        return [draw_error(image, result['error']) if result['error'] else
                picture_of(Path(result['drawing'])) if 'drawing' in result
                else self.draw(image, result)
                for image, result in zip(images, results, strict=True)]

    def draw(self, image: Path | np.ndarray, result: dict) -> np.ndarray:
        """Draw one image and its result: uint8 RGB."""
        raise NotImplementedError

    def _prepared(self, batch: dict) -> torch.Tensor:
        """Normalised images (B, C, H, W) on the device of the model."""
        from mmpretrain.models import SelfSupDataPreprocessor
        preprocessor = self.model.data_preprocessor
        if not isinstance(preprocessor, SelfSupDataPreprocessor):
            return preprocessor(batch, False)['inputs']
        # It takes a list for views, and BEiT's wants two: for its tokenizer.
        return SelfSupDataPreprocessor.forward(preprocessor, dict(
            batch, inputs=torch.stack(batch['inputs'])))['inputs']


def keep_whole(steps: Sequence[dict]) -> list[dict]:
    """Keep of a pipeline of training what loads, and the size of the images.

    Nothing of what crops, mirrors, colours or masks is left.

    Example:
        >>> [step['type'] for step in keep_whole([
        ...     dict(type='mmmedmask.LoadTile'),
        ...     dict(type='mmmedmask.RandomResizedCrop', scale=64),
        ...     dict(type='mmmedmask.RandomFlip'), dict(type='PackInputs')])]
        ['mmmedmask.LoadTile', 'mmmedmask.ResizeImage', 'mmmedmask.PackTile']
    """
    resized = []
    for step in nested_dicts(steps[1:]):
        # The scale of some is a range of shares.
        sizes = [step[name] for name in SIZES if np.issubdtype(
            np.asarray(step.get(name)).dtype, np.integer)]
        if sizes:
            # Pairs of the other libraries are (w, h).
            ours = step['type'].startswith('mmmedmask.')
            resized = [dict(
                type='mmmedmask.ResizeImage', scale=sizes[0]
                if ours or isinstance(sizes[0], int) else sizes[0][::-1])]
            break
    return [steps[0], *resized, dict(type='mmmedmask.PackTile')]


def describe(image: Path | np.ndarray, number: int) -> dict:
    """Describe a file or an RGB array (H, W, C) as a data set does.

    It has all that our configs pack, though nothing is known of a group.
    ``img`` is BGR as mmcv reads it.

    Example:
        >>> describe(Path('a.png'), 3)
        {'sample_idx': 3, 'group': None, 'img_path': 'a.png'}
    """
    known = dict(sample_idx=number, group=None)
    if isinstance(image, Path):
        return known | dict(img_path=str(image))
    return known | dict(img=image[..., ::-1] if image.shape[2] == 3 else image)


def add_errors(results: Sequence[dict], errors: Mapping[int, str]
               ) -> list[dict]:
    """Add an ``error`` to all results, and say how many have one.

    Those at the places in ``errors`` get the keys of the others, with None.

    Raises:
        ImageFileError: If there is none without an error.

    Example:
        >>> add_errors([{'input': 'a.png', 'label': 1}, {'input': 'b.png'}],
        ...            {1: 'b.png is empty'})[1]
        {'input': 'b.png', 'label': None, 'error': 'b.png is empty'}
    """
    if errors:
        from mmmedmask.datasets.image_io import ImageFileError
        text = next(iter(errors.values()))
        if len(results) > 1:
            text = (f'{len(errors)} of {len(results)} images cannot be used, '
                    f'the first: {text}')
        if len(errors) == len(results):
            raise ImageFileError(text)
        print_log(text, 'current', logging.WARNING)
    keys = max(results, key=len)
    return [dict.fromkeys(keys) | result | {'error': errors.get(place, '')}
            for place, result in enumerate(results)]


def draw_error(path: Path, error: str) -> np.ndarray:
    """Draw an empty picture that says why a file has none: uint8 RGB.

    Example:
        >>> draw_error(Path('a.h5'), 'a.h5 is truncated').shape[2]
        3
    """
    from mmmedmask.visualization import Column, draw_grid
    from mmmedmask.visualization.slide_heatmap import CANVAS_COLOR
    return draw_grid([Column(path.stem, error, [
        np.full((200, 400, 3), CANVAS_COLOR, np.uint8)])])


class ClassificationInferencer(Inferencer):
    """Classes of images, with their probabilities.

    The results are dicts of ``label`` (a number), ``class`` (its name, None
    if neither the checkpoint nor the config knows it), ``score`` and
    ``scores``, an array (K, ) that sums to 1.

    Example:
        >>> from mmmedmask.config_files import load_config, model_index
        >>> from mmmedmask.shrinking.shrink import shrink_config
        >>> name = 'vit-base-p16_msmae_1xb256-100e_brain-tumor-mri'
        >>> config = shrink_config(load_config(model_index()[name]), 'run')
        >>> infer = ClassificationInferencer(config)
        >>> result, = infer(np.zeros((8, 8), 'uint8'))
        >>> result['scores'].shape
        (4,)
    """

    needs = ('predict', 'head')

    def infer(self, batch: dict) -> list[dict]:
        return [self.decide(sample.pred_score.float().cpu().numpy())
                for sample in self.model.test_step(batch)]

    def decide(self, scores: np.ndarray) -> dict:
        """Name the class with the highest of the probabilities (K, ).

        Numbers that are not finite are a ValueError.
        """
        if not np.isfinite(scores).all():
            raise ValueError(f'the model gives the scores {scores.tolist()}: '
                             'its input is too large, or its weights are')
        classes, label = self.classes(), int(scores.argmax())
        return {'label': label,
                'class': classes[label] if label < len(classes) else None,
                'score': float(scores[label]), 'scores': scores}

    def classes(self) -> Sequence[str]:
        """Names of the classes, () if neither model nor config has them."""
        known = getattr(self.model, '_dataset_meta', {}).get('classes')
        for node in self._loader_nodes(*LOADERS):
            known = known or (node.get('metainfo') or {}).get('classes')
        return tuple(known or ())

    def draw(self, image: Path | np.ndarray, result: dict) -> np.ndarray:
        from mmmedmask.visualization import Column, draw_grid
        from mmmedmask.visualization.pictures import picture_of
        name = result['class'] or f'class {result["label"]}'
        return draw_grid([Column(f'{name} {result["score"]:.2f}', '',
                                 [picture_of(image)])])


class EmbeddingInferencer(Inferencer):
    """Features of the frozen encoder: of images, and of their places.

    The results are dicts of ``embedding``, an array (D, ), and, if the call
    is asked for them, ``maps``, a list of arrays (D, h, w), one per stage of
    a CNN or the last block of a transformer: hundreds of times as large. The
    embedding is the mean of the maps, which show the image alone where a
    detector pads it.

    Example:
        >>> infer = EmbeddingInferencer('cmim_resnet18_8xb32-coslr-800e_nct')
        >>> result, = infer(np.zeros((64, 64, 3), 'uint8'), maps=True)
        >>> [level.shape for level in result['maps']][-1]
        (512, 2, 2)
    """

    needs = ('backbone', )

    def __init__(self, model: str | Path | Config | nn.Module,
                 checkpoint: str | None = None,
                 device: str | torch.device | None = None) -> None:
        super().__init__(model, checkpoint, device)
        from mmmedmask.engine.frozen_features import FrozenFeatures

        # The data preprocessor has normalised already.
        channels = len(input_units(
            self.model.data_preprocessor, self.config).mean)
        self.features = FrozenFeatures(
            self.model.backbone, [0.0] * channels, [1.0] * channels)

    def __call__(self, inputs: Any, batch_size: int = 8,
                 progress: bool = False, maps: bool = False,
                 out_dir: str | Path | None = None) -> list[dict]:
        """Run the model as :class:`Inferencer` does; ``maps`` keeps them."""
        return self._run(partial(self.infer, maps=maps), inputs, batch_size,
                         progress, out_dir)

    def infer(self, batch: dict, maps: bool = False) -> list[dict]:
        images = self._prepared(batch)
        levels = [without_padding(level, batch['inputs'][0].shape[-2:],
                                  images.shape[-2:]).cpu()
                  for level in self.features.maps(images)]
        vectors = torch.cat([level.mean(dim=(2, 3)) for level in levels], 1)
        results = [{'embedding': vector} for vector in vectors.numpy()]
        if maps:
            for number, result in enumerate(results):
                result['maps'] = [level[number].numpy() for level in levels]
        return results

    def draw(self, image: Path | np.ndarray, result: dict) -> np.ndarray:
        """Draw an image, and its finest map's main directions as RGB.

        A result without maps is computed again.
        """
        from mmmedmask.visualization import Column, draw_grid
        from mmmedmask.visualization.pictures import picture_of
        if 'maps' not in result:
            result, = self(image, maps=True)
        picture = picture_of(image)
        return draw_grid([
            Column('Image', '', [picture]),
            Column('Features', 'three main directions',
                   [main_directions(result['maps'][0], picture.shape[:2])])])


class ReconstructionInferencer(Inferencer):
    """What a masked model fills in.

    The results are dicts of ``query`` and ``key``, the two views as RGB
    pictures (H, W, 3), ``reconstruction``, ``mask``, an array (gh, gw), and
    ``weight``, an array (H, W) of where the loss counts.

    Example:
        >>> infer = ReconstructionInferencer(
        ...     'cmim_resnet18_8xb32-coslr-800e_nct')
        >>> result, = infer(np.zeros((64, 64, 3), 'uint8'))
        >>> result['reconstruction'].shape, result['mask'].shape
        ((224, 224, 3), (7, 7))
    """

    needs = ('reconstruct', 'head.to_pixels')
    large = ('query', 'key', 'reconstruction', 'weight')
    instead = ('; tools/visualizations/visualize_attention.py draws what '
               'MSMAE fills in')

    def pipeline(self) -> Callable[[dict], dict]:
        """Transforms of training, which may make the views."""
        return self._compose(self._steps(*self._loader_nodes(*LOADERS[::-1])))

    def infer(self, batch: dict, units: Any = None) -> list[dict]:
        """Reconstruct a batch; ``PictureUnits`` say what pictures show."""
        from mmmedmask.visualization import PictureUnits, reconstruct
        inputs = self.model.data_preprocessor(batch, True)['inputs']
        units = units or PictureUnits.from_preprocessor(
            self.model.data_preprocessor, config=self.config)
        pixels, weight = reconstruct(self.model, inputs)
        shown = [units.to_pictures(value) for value in (
            inputs['query'], inputs['key'], pixels)]
        places = [value[:, 0].float().cpu().numpy()
                  for value in (inputs['mask'], weight)]
        names = ('query', 'key', 'reconstruction', 'mask', 'weight')
        return [dict(zip(names, row, strict=True))
                for row in zip(*shown, *places, strict=True)]

    def panel(self, results: Sequence[dict], heading: str = '') -> np.ndarray:
        """Draw results below each other: uint8 RGB.

        The row of a file that cannot be used is empty, below its error.
        """
        from mmmedmask.visualization import draw_grid
        from mmmedmask.visualization.reconstruction import picture_columns
        from mmmedmask.visualization.slide_heatmap import CANVAS_COLOR
        # Those of ``infer`` have none.
        errors = [result.get('error', '') for result in results]
        if all(errors):
            raise ValueError('a panel needs a result without an error, got '
                             f'{len(results)} results with {errors[:1]}')
        like = results[errors.index('')]
        if not {*self.large} <= {*like}:
            raise ValueError('a panel needs results with pictures: call '
                             'without out_dir')

        def rows(name: str, empty: object) -> np.ndarray:
            return np.stack([
                np.full_like(like[name], empty) if error else result[name]
                for result, error in zip(results, errors, strict=True)])

        shown = [rows(name, CANVAS_COLOR)
                 for name in ('query', 'key', 'reconstruction')]
        places = [torch.tensor(rows(name, 0))[:, None]
                  for name in ('mask', 'weight')]
        return draw_grid(picture_columns(*shown, *places), heading,
                         row_titles=errors if any(errors) else ())

    def draw(self, image: Path | np.ndarray, result: dict) -> np.ndarray:
        return self.panel([result])


class AttentionInferencer(Inferencer):
    """Where the class token of MSMAE looks.

    The results are dicts of ``attention``, an array (gh, gw) that sums to 1,
    and ``picture``, the image that the model saw, RGB (H, W, 3).

    Example:
        >>> from mmmedmask.config_files import load_config, model_index
        >>> from mmmedmask.shrinking.shrink import shrink_config
        >>> name = 'vit-base-p16_msmae_1xb256-100e_brain-tumor-mri'
        >>> config = shrink_config(load_config(model_index()[name]), 'run')
        >>> infer = AttentionInferencer(config)
        >>> result, = infer(np.zeros((8, 8), 'uint8'))
        >>> bool(abs(result['attention'].sum() - 1) < 1e-5)
        True
    """

    needs = ('attention_maps', )
    large = ('picture', )

    def infer(self, batch: dict) -> list[dict]:
        from mmmedmask.visualization import PictureUnits
        images = self._prepared(batch)
        maps = self.model.attention_maps(images).float().cpu()
        maps = maps / maps.sum(dim=(1, 2), keepdim=True)
        units = PictureUnits.from_preprocessor(
            self.model.data_preprocessor, config=self.config)
        return [{'attention': weights.numpy(), 'picture': picture}
                for weights, picture in zip(
                    maps, units.to_pictures(images), strict=True)]

    def draw(self, image: Path | np.ndarray, result: dict) -> np.ndarray:
        from mmmedmask.visualization import Column, draw_grid
        from mmmedmask.visualization.attention_pictures import overlay_map
        picture = result['picture'][None]
        return draw_grid([
            Column('Image', '', picture),
            Column('Attention', 'yellow is the maximum', overlay_map(
                picture, torch.tensor(result['attention'])[None]))])


def without_padding(level: torch.Tensor, size: Sequence[int],
                    padded: Sequence[int]) -> torch.Tensor:
    """Cut what images have of their map (B, D, h, w).

    They are of a size (H, W), and were padded below and on the right.

    Example:
        >>> without_padding(torch.zeros(1, 8, 4, 4), (64, 70), (96, 96)).shape
        torch.Size([1, 8, 3, 3])
    """
    height, width = (
        math.ceil(cells * side / whole) for cells, side, whole in zip(
            level.shape[-2:], size, padded, strict=True))
    return level[..., :height, :width]


def main_directions(features: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Show a map (D, h, w) by its three main directions as RGB.

    The picture is uint8 (H, W, 3), ``size`` is (H, W); each channel goes from
    its 2nd to its 98th percentile. A map of fewer places or features has
    fewer directions, and channels that are 0.

    Example:
        >>> main_directions(np.random.rand(4, 3, 5), (6, 10)).shape
        (6, 10, 3)
    """
    import cv2
    rows = features.reshape(len(features), -1).T.astype(np.float64)
    rows = rows - rows.mean(axis=0)
    _, _, directions = np.linalg.svd(rows, full_matrices=False)
    shares = np.zeros((len(rows), 3))
    shares[:, :len(directions)] = rows @ directions[:3].T
    low, high = np.percentile(shares, (2, 98), axis=0)
    levels = np.clip((shares - low) / np.maximum(high - low, 1e-12), 0, 1)
    picture = (255 * levels).round().astype(np.uint8).reshape(
        *features.shape[1:], 3)
    return cv2.resize(picture, size[::-1], interpolation=cv2.INTER_NEAREST)
