"""Vectors of a cohort's slides, genes and patients from a trained model."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from mmmedmask.apis.models import get_model, untrained_model
from mmmedmask.util.atomic_files import atomic_path, write_csv
from mmmedmask.util.nested import as_list, innermost_datasets

VECTORS = ('patient', 'image', 'genes')
#: Transforms that leave patches out; embeddings are of whole bags.
_PARTIAL = ('ContiguousSubsequence', 'RandomSubsample', 'GenerateSequenceMask')


@dataclass(frozen=True)
class Embeddings:
    """What a model makes of patients.

    Attributes:
        case_ids: The patients (or one entry per slide, as the data set has
            them), N.
        labels: Their classes, integers (N,).
        vectors: ``patient`` (CLS_pat) and, if the model has them, ``image``
            (CLS_img) and ``genes`` (CLS_ge), float32 (N, d) each. Rows of
            patients without slides or genes are NaN in ``image`` and
            ``genes``; vectors per class are one after the other.

    Example:
        >>> embeddings = Embeddings(
        ...     ['p1', 'p2'], np.array([1, 0]), ['luad', 'lusc'],
        ...     {'patient': np.ones((2, 16), np.float32)})
        >>> [embeddings.classes[label] for label in embeddings.labels]
        ['lusc', 'luad']
    """

    case_ids: Sequence[str]
    labels: np.ndarray
    classes: Sequence[str]
    vectors: dict[str, np.ndarray]


def whole_bag_loader(config: Config, split: str) -> DataLoader:
    """Make a loader of a split's patients, one by one, with whole bags.

    Args:
        config: A config with slide-omic data sets.
        split: ``'train'``, ``'val'`` or ``'test'``, of whose dataloader.

    Example:
        >>> whole_bag_loader(Config(dict(val_dataloader=dict())), 'test')
        Traceback (most recent call last):
        ValueError: the config has no test_dataloader, it has those of ['val']
    """
    given = config.get(f'{split}_dataloader')
    if given is None:
        have = [name.removesuffix('_dataloader') for name in config
                if name.endswith('_dataloader') and config[name] is not None]
        raise ValueError(f'the config has no {split}_dataloader, it has those '
                         f'of {have}')
    init_default_scope(config.get('default_scope') or 'mmengine')
    dataset = copy.deepcopy(given['dataset'])
    for inner in innermost_datasets(dataset):
        inner['pipeline'] = [
            transform for transform in inner['pipeline']
            if str(transform['type']).rpartition('.')[2] not in _PARTIAL]
    return Runner.build_dataloader(dict(
        batch_size=1, num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'), dataset=dataset))


def build_models(config: Config, checkpoints: str | Sequence[str],
                 untrained: str, device: str | torch.device = 'cpu',
                 seed: int = 0) -> list[nn.Module]:
    """Build a config's model once per checkpoint.

    The path that equals ``untrained`` stands for a model before any training
    with ``seed``, with the first checkpoint's scale of the genes; it is a
    ValueError if none is a file, or one does not fit.

    Example:
        >>> model = get_model('abmil_1xb8-coslr-70e_tcga-nsclc')
        >>> torch.save(model.state_dict(), 'a.pth')
        >>> len(build_models(model._config, ['a.pth', 'none'], 'none'))
        2
    """
    checkpoints = as_list(checkpoints)
    files = [path for path in checkpoints if path != untrained]
    if not files:
        raise ValueError(f'name at least one checkpoint besides '
                         f'{untrained!r}: it has the scale of the genes')
    models = {path: get_model(config, path, device) for path in files}
    if untrained in checkpoints:
        models[untrained] = untrained_model(config, seed, device)
        models[untrained].data_preprocessor.load_state_dict(
            models[files[0]].data_preprocessor.state_dict())
    return [models[path] for path in checkpoints]


@torch.no_grad()
def extract_embeddings(model: nn.Module, loader: DataLoader) -> Embeddings:
    """Compute the vectors of all patients of a loader.

    The model has ``extract_feat``, as ``mmmedmask.SlideOmicClassifier`` and
    ``mmmedmask.GiMP`` have it, and is in evaluation mode.

    Example:
        >>> from mmmedmask.shrinking.shrink import shrink_config
        >>> model = get_model('abmil_1xb8-coslr-70e_tcga-nsclc')
        >>> config = shrink_config(model._config, 'run')  # draws its data
        >>> print('log:'); loader = whole_bag_loader(config, 'test')
        log:...
        >>> embeddings = extract_embeddings(get_model(config), loader)
        >>> embeddings.vectors['patient'].shape
        (2, 16)
    """
    case_ids, labels = [], []
    rows: dict[str, list[np.ndarray]] = {name: [] for name in VECTORS}
    for batch in loader:
        data = model.data_preprocessor(batch, False)
        inputs = data['inputs']
        features = model.extract_feat(inputs)
        for name in VECTORS:
            vector = features[name]
            if vector is None:
                continue
            vector = vector.flatten(1).float().cpu().numpy()
            has = inputs.get(dict(image='has_patches',
                                  genes='has_genes').get(name))
            if has is not None:
                vector[~has.cpu().numpy()] = np.nan
            rows[name].append(vector)
        for sample in data['data_samples']:
            case_ids.append(str(sample.case_id))
            labels.append(int(sample.gt_label))
    return Embeddings(
        case_ids=case_ids, labels=np.array(labels),
        classes=[str(name) for name in loader.dataset.metainfo['classes']],
        vectors={name: np.concatenate(parts) for name, parts in rows.items()
                 if parts})


def save_embeddings(file: str | Path, embeddings: Embeddings) -> None:
    """Write vectors as NumPy's npz or as a csv.

    The npz has ``case_ids``, ``labels``, ``classes`` and an array per
    vector. The csv has a line per patient: ``case_id``, ``label`` and
    columns ``patient_0``, ``patient_1`` and so on.

    Example:
        >>> save_embeddings('vectors.csv', Embeddings(
        ...     ['p1'], np.array([0]), ['luad'], {'patient': np.ones((1, 2))}))
        >>> print(Path('vectors.csv').read_text().split())
        ['case_id,label,patient_0,patient_1', 'p1,luad,1,1']
    """
    file = Path(file)
    ending = file.suffix.lower()
    if ending not in ('.npz', '.csv'):
        raise ValueError(
            f'vectors go into a .npz or .csv file, not {str(file)!r}')
    if ending == '.npz':
        # NumPy would add its ending to others, NPZ among them.
        with atomic_path(file) as temporary, temporary.open('wb') as stream:
            np.savez_compressed(
                stream, case_ids=np.array(embeddings.case_ids),
                labels=embeddings.labels, classes=np.array(embeddings.classes),
                **embeddings.vectors)
        return
    columns = [f'{name}_{place}' for name, vector in embeddings.vectors.items()
               for place in range(vector.shape[1])]
    numbers = np.concatenate(list(embeddings.vectors.values()), axis=1)
    write_csv(file, ['case_id', 'label', *columns], [[
        case, embeddings.classes[label], *(f'{value:.9g}' for value in row)
    ] for case, label, row in zip(
        embeddings.case_ids, embeddings.labels, numbers, strict=True)])
