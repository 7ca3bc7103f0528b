"""Draw what shrunk configs read: data sets, and the weights of teachers."""

import json
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mmmedmask.datasets.image_io import read_image, write_image
from mmmedmask.datasets.shards import pack_shards
from mmmedmask.phantoms.glands import write_gland_split
from mmmedmask.phantoms.lesions import SPLIT_FOLDER, write_lesion_dataset
from mmmedmask.phantoms.slide_files import draw_genes
from mmmedmask.phantoms.slide_omic_cohort import (
    COHORT_CLASSES,
    write_slide_omic_cohort,
)
from mmmedmask.phantoms.tiny_datasets import (
    write_nct_dataset,
    write_tile_folder,
)
from mmmedmask.util.atomic_files import atomic_path, write_json, write_text
from mmmedmask.util.nested import nested_dicts

BATCH_SIZE = 2
ITERATIONS = 2
#: Scale (w, h) to which images are resized, as OpenMMLab writes it.
RESIZE_SCALE = (128, 96)
#: Sizes of a drawn cohort. 8 of its 12 cases are for training: two batches
#: of the least size that has triplets.
COHORT_DIMS, COHORT_GENES, COHORT_CASES = 8, 40, 12


@dataclass(frozen=True)
class DrawnKind:
    """What drawn data have, because a config asks for it."""

    classes: tuple[str, ...] = ()  # Empty leaves their names to who draws.
    channels: int = 3
    dtype: str = 'uint8'  # Stored type of images, as LoadTile calls it.

    @classmethod
    def wanted_by(cls, dataset: Mapping, model: Mapping) -> 'DrawnKind':
        """Read it from the configs of a data set and of its model."""
        classes = (dataset.get('metainfo') or {}).get('classes') or ()
        count = (model.get('head') or {}).get('num_classes')
        if not classes and count:
            classes = [f'class_{number}' for number in range(count)]
        classes = (classes, ) if isinstance(classes, str) else tuple(classes)
        mean = (model.get('data_preprocessor') or {}).get('mean') or [0] * 3
        for step in nested_dicts(dataset.get('pipeline')):
            if str(step.get('type')).endswith('LoadTile'):
                return cls(classes, step.get('in_channels', 3),
                           step.get('dtype', 'uint8'))
            if step.get('color_type') == 'unchanged':
                # In stored units, which 8 bits end at 255.
                return cls(classes, len(mean),
                           'uint8' if max(mean) <= 255 else 'uint16')
        return cls(classes)

    @property
    def cohort_dims(self) -> int:
        """Dimensions of drawn slides: one for each class, and one more."""
        return max(COHORT_DIMS, len(self.classes) + 1)

    @property
    def suffix(self) -> str:
        """Ending of files that can hold such images."""
        return '.png' if self.channels in (1, 3, 4) \
            and self.dtype != 'float32' else '.tif'

    def store(self, image: np.ndarray) -> np.ndarray:
        """Turn an RGB image, uint8 (H, W, 3), into what a file holds."""
        image = image[..., np.arange(self.channels) % 3]
        scale = 257 if self.dtype == 'uint16' else 1
        return image.astype(self.dtype) * np.dtype(self.dtype).type(scale)


def draw_dataset(dataset: dict, folder: Path, kind: DrawnKind) -> str:
    """Draw the data that a config names, and let it read them, in place.

    What is in ``folder`` is used again. Returns the data set's own folder.

    Raises:
        ValueError: If it is of a kind that cannot be drawn.
    """
    name = dataset['type']
    if name not in DRAWN:
        raise ValueError(
            f'no data can be drawn for {name!r}, valid are {sorted(DRAWN)}; '
            'add a function to mmmedmask/shrinking/drawn_data.py')
    # One folder for each data set that the configs tell apart.
    parts = (name, dataset.get('data_root'), kind.channels, kind.dtype,
             *kind.classes)
    root = folder / re.sub(r'\W+', '_', '_'.join(map(str, parts)))[:200]
    # Serializing collects garbage, which takes longer than a step.
    dataset.update(data_root=str(root), serialize_data=False)
    DRAWN[name](dataset, root, kind)
    return str(root)


def draw_once(folder: Path, draw: Callable, **options: object) -> None:
    """Let ``draw(folder, **options)`` write a folder, unless it is there.

    The folder is there when it is whole: a stopped run leaves none.
    """
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='.', suffix='.part',
                                     dir=folder.parent) as temporary:
        part = Path(temporary, folder.name)
        draw(part, **options)
        try:
            part.rename(folder)
        except OSError:
            # Another process may have drawn the same in the meantime.
            if not folder.exists():
                raise


def _draw_glands(dataset: dict, root: Path, kind: DrawnKind) -> None:
    """Draw instances whose categories take turns."""
    file = root / dataset['ann_file']
    if file.exists():
        return
    images = root / dataset.get('data_prefix', {}).get('img', '')
    # The file that says that all is there is written last.
    with tempfile.TemporaryDirectory() as temporary:
        first = Path(temporary, file.name)
        write_gland_split(images, first, num_images=4,
                          size=RESIZE_SCALE[::-1])
        content = json.loads(first.read_text('utf-8'))
    names = kind.classes or ('gland', )
    content['categories'] = [dict(id=number, name=name)
                             for number, name in enumerate(names, start=1)]
    for number, annotation in enumerate(content['annotations'], start=1):
        annotation['category_id'] = len(names) - number % len(names)
    for image in content['images'] if kind != DrawnKind(kind.classes) else ():
        path = images / image['file_name']
        write_image(path, kind.store(read_image(path)))
    write_json(file, content, indent=None)


def _draw_class_folders(dataset: dict, root: Path, kind: DrawnKind) -> None:
    """Draw what mmpretrain's CustomDataset reads: a folder per class."""
    classes = kind.classes or ('first', 'second', 'third')

    def draw(folder: Path) -> None:
        for number, name in enumerate(classes):
            write_tile_folder(folder / name, num_tiles=2, seed=2 * number,
                              store=kind.store, suffix=kind.suffix)

    draw_once(root, draw)


def _draw_tiles(dataset: dict, root: Path, kind: DrawnKind) -> None:
    # Of so few none are left out.
    dataset.update(ann_file='', held_out_share=0, held_out=False)
    draw_once(root, write_tile_folder, num_tiles=ITERATIONS * BATCH_SIZE,
              store=kind.store, suffix=kind.suffix)


def _draw_shards(dataset: dict, root: Path, kind: DrawnKind) -> None:
    dataset.update(index_dir=None, backend_args=None, held_out_share=0,
                   held_out=False)
    tiles = root.with_name(f'{root.name}_tiles')
    _draw_tiles({}, tiles, kind)
    draw_once(root, partial(pack_shards, tiles))


def _draw_nct(dataset: dict, root: Path, kind: DrawnKind) -> None:
    # A tile per class, of which two batches are an epoch.
    dataset['indices'] = ITERATIONS * BATCH_SIZE
    draw_once(root, write_nct_dataset, tiles_per_class=1, store=kind.store)


def _draw_labelled(dataset: dict, root: Path, kind: DrawnKind,
                   **options: object) -> None:
    dataset['split_folder'] = SPLIT_FOLDER
    draw_once(root, write_lesion_dataset, num_train=ITERATIONS * BATCH_SIZE,
              num_val=BATCH_SIZE, classes=kind.classes or None,
              store=kind.store, suffix=kind.suffix,
              **{'size': (48, 56), **options})


def _draw_cohort(dataset: dict, root: Path, kind: DrawnKind) -> None:
    """Draw slides and genes, with the classes that the config names."""
    classes = kind.classes or COHORT_CLASSES
    drawn = dict(split_file=None, gene_list=None, cache_dir=None,
                 dims=kind.cohort_dims, label_column='label',
                 expression=dict(path='expression.tsv', unit='fpkm'))
    for key, value in drawn.items():
        # Not by update(), which merges dicts.
        if dataset.get(key) is not None:
            dataset[key] = value
    dataset.update(ann_file='cohort.csv', feature_root='features')
    draw_once(
        root, write_slide_omic_cohort,
        num_cases=COHORT_CASES * len(classes) // 2, classes=classes,
        patches=(20, 40), dims=kind.cohort_dims, num_genes=COHORT_GENES,
        num_pathways=len(classes),
        pathway_size=min(5, COHORT_GENES // (2 * len(classes))),
        split_shares=(2 / 3, 1 / 6, 1 / 6))


def draw_gene_sets(model: dict, folder: Path) -> None:
    """Write genes and two sets that share some; let a model read them."""
    genes, part = draw_genes(COHORT_GENES), COHORT_GENES // 4
    sets = dict(first=genes[:2 * part], second=genes[part:3 * part])
    files = dict(
        gene_list=('genes.txt', ''.join(f'{gene}\n' for gene in genes)),
        gene_sets=('gene_sets.gmt', ''.join(
            '\t'.join([name, 'drawn', *members]) + '\n'
            for name, members in sets.items())))
    for node in nested_dicts(model):
        for key, (name, text) in files.items():
            # Not a number of sets, or places in the vector.
            if isinstance(node.get(key), str):
                node[key] = str(folder / name)
                write_text(folder / name, text)


DRAWN: dict[str, Callable[[dict, Path, DrawnKind], None]] = {
    'CocoDataset': _draw_glands, 'CustomDataset': _draw_class_folders,
    'mmmedmask.LabelledImages': _draw_labelled,
    'mmmedmask.LesionSegmentation': partial(
        _draw_labelled, size=(96, 112), normal=True),
    'mmmedmask.NCTCRC': _draw_nct, 'mmmedmask.ShardedTiles': _draw_shards,
    'mmmedmask.SlideOmicDataset': _draw_cohort,
    'mmmedmask.TileFolder': _draw_tiles}


def draw_teachers(model: dict, folder: Path, clip_width: int = 64,
                  clip_layers: int = 2) -> None:
    """Write random weights for the frozen teachers of a model.

    Its config is changed in place to read them. The size of a CLIP, which no
    config tells, is small by default.
    """
    for node in nested_dicts(model):
        if node.get('type') == 'VQKD':
            path = folder / 'vqkd.pth'
            write_vqkd(path, node)
            node['init_cfg'] = dict(type='Pretrained', checkpoint=str(path))
        if node.get('type') == 'CLIPGenerator':
            path = folder / 'clip.pth'
            write_clip(path, model['neck']['predict_feature_dim'], clip_width,
                       clip_layers)
            node['tokenizer_path'] = str(path)


def write_vqkd(path: str | Path, teacher: dict) -> None:
    """Write random weights of BEiT v2's tokenizer, unless they are there."""
    # Importing mmpretrain takes longer than most checks of a config.
    import torch
    from mmpretrain.models.selfsup import VQKD

    path = Path(path)
    if path.exists():
        return
    options = {key: value for key, value in teacher.items() if key != 'type'}
    tokenizer = VQKD(**options)
    codebook = tokenizer.quantize.embedding
    codebook.weight.data.copy_(torch.nn.functional.normalize(
        torch.randn_like(codebook.weight), dim=-1))
    # Otherwise the first batch would fill it.
    codebook.initted.fill_(True)
    with atomic_path(path, durable=False) as temporary:
        torch.save({'state_dict': tokenizer.state_dict()}, temporary)


def write_clip(path: str | Path, dims: int = 8, width: int = 64,
               layers: int = 2) -> None:
    """Write random weights of a CLIP, small by default, unless they are there.

    The image encoder has this width, and the text encoder is small. Named as
    OpenAI's file, from which mmpretrain reads the architecture.
    """
    import torch
    from mmpretrain.models.utils.clip_generator_helper import CLIP

    path = Path(path)
    if path.exists():
        return
    # A head of both transformers has 64 channels.
    clip = CLIP(embed_dim=dims, image_resolution=224, vision_layers=layers,
                vision_width=width, vision_patch_size=16, context_length=4,
                vocab_size=8, transformer_width=64, transformer_heads=1,
                transformer_layers=1)
    with atomic_path(path, durable=False) as temporary:
        torch.save(clip.state_dict(), temporary)
