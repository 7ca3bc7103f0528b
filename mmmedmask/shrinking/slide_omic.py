"""Shrink configs of slides and genes, and draw the cohorts that they name."""

from pathlib import Path

from mmengine.config import Config

from mmmedmask.phantoms.slide_omic_cohort import (
    COHORT_CLASSES,
    write_slide_omic_cohort,
)
from mmmedmask.util.nested import nested_dicts

#: Sizes of the drawn cohort. 8 of its 12 cases are for training: two batches
#: of the least size that has triplets.
DIMS = 8
NUM_GENES = 40
NUM_CASES = 12
SPLIT_SHARES = (2 / 3, 1 / 6, 1 / 6)
PATCHES = (20, 40)
RUN_LENGTH = 24
TRIPLET_BATCH = 4
#: Where a part of a model has the key it gets the value.
MODEL_SIZES = dict(
    embed_dims=16,
    num_heads=2,
    num_landmarks=6,
    num_genes=NUM_GENES,
    num_fragments=8,
    num_groups=2,
    hidden_dims=8,
    attention_dims=8,
    query_dims=8,
    proj_dims=8,
    image_dims=16,
    gene_dims=16)
SLIDE_OMIC_MODELS = ('mmmedmask.GiMP', 'mmmedmask.SlideOmicClassifier')
DATASET = 'mmmedmask.SlideOmicDataset'
BATCH_SAMPLER = 'mmmedmask.ClassBalancedBatchSampler'


def shrink_slide_omic(cfg: Config) -> None:
    """Make a model of slides and genes narrow, with short runs of patches.

    Args:
        cfg: The config, changed in place.
    """
    model = cfg.model
    for part in nested_dicts(model):
        if part.get('type') == 'mmmedmask.GroupMSA':
            # Its defaults need more genes.
            part.update(num_fragments=8, num_groups=2)
        for key in MODEL_SIZES.keys() & part.keys():
            size = part[key]
            if isinstance(size, (list, tuple)):
                part[key] = [MODEL_SIZES[key]] * len(size)
            elif size is not None:
                part[key] = MODEL_SIZES[key]
    if model.get('aggregator') is not None:
        model.aggregator.in_dims = DIMS
    loader = cfg.train_dataloader
    sampler = loader.get('batch_sampler') or {}
    if sampler.get('type') == BATCH_SAMPLER:
        loader.batch_size = TRIPLET_BATCH
    for transform in nested_dicts(loader.dataset.pipeline):
        if transform.get('type') == 'mmmedmask.ContiguousSubsequence':
            transform['length'] = RUN_LENGTH


def draw_cohort(dataset: dict, root: Path) -> None:
    """Draw the cohort of a data set, with the classes that it names.

    Args:
        dataset: Config of a ``SlideOmicDataset``, changed in place to read
            the drawn files.
        root: Folder of the cohort; what is there is used again.
    """
    classes = tuple((dataset.get('metainfo') or {}).get(
        'classes', COHORT_CLASSES))
    for key in ('split_file', 'gene_list', 'cache_dir'):
        if dataset.get(key) is not None:
            dataset[key] = None
    if dataset.get('dims') is not None:
        dataset['dims'] = DIMS
    dataset.update(ann_file='cohort.csv', feature_root='features')
    if dataset.get('label_column') is not None:
        dataset['label_column'] = 'label'
    if dataset.get('expression') is not None:
        dataset['expression'] = dict(path='expression.tsv', unit='fpkm')
    if not root.exists():
        write_slide_omic_cohort(
            root,
            num_cases=NUM_CASES * len(classes) // 2,
            classes=classes,
            patches=PATCHES,
            dims=DIMS,
            num_genes=NUM_GENES,
            num_pathways=len(classes),
            pathway_size=min(5, NUM_GENES // (2 * len(classes))),
            split_shares=SPLIT_SHARES)
