"""What a data set wraps: the sets themselves, and where its samples are."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from mmengine.dataset import ClassBalancedDataset, RepeatDataset
from torch.utils.data import Dataset, Subset

SUPPORTED = ('data sets of MMEngine (with get_data_info), inside '
             'ConcatDataset, RepeatDataset, ClassBalancedDataset, '
             'KFoldDataset and torch.utils.data.Subset')


class ImageSource(NamedTuple):
    """Where a sample is described: a data set (no wrapper), and its index."""

    dataset: Any
    index: int

    @property
    def info(self) -> dict:
        """How the data set describes the sample."""
        return self.dataset.get_data_info(self.index)


def list_sources(dataset: Dataset) -> list[ImageSource]:
    """Find the samples of a data set, in its order, where it wraps others."""
    if hasattr(dataset, 'full_init'):
        dataset.full_init()
    # num_batch_per_epoch takes the first samples.
    if hasattr(dataset, '_dataset'):
        return list_sources(dataset._dataset)[:len(dataset)]
    if hasattr(dataset, 'datasets'):
        return [source for part in dataset.datasets
                for source in list_sources(part)]
    # A wrapper with a pipeline of its own mixes images.
    if hasattr(dataset, 'dataset') and not hasattr(dataset, 'pipeline'):
        sources = list_sources(dataset.dataset)
        if isinstance(dataset, Subset):
            return [sources[index] for index in dataset.indices]
        if isinstance(dataset, RepeatDataset):
            return sources * dataset.times
        if isinstance(dataset, ClassBalancedDataset):
            return [sources[index] for index in dataset.repeat_indices]
        return sources
    if hasattr(dataset, 'get_data_info') and not hasattr(dataset, 'dataset'):
        return [ImageSource(dataset, index) for index in range(len(dataset))]
    raise ValueError(f'cannot list the samples of {type(dataset).__name__}; '
                     f'supported are {SUPPORTED}')


def datasets_of(dataset: object) -> Iterator[object]:
    """Find a data set and all those that it wraps, outer ones first."""
    # num_batch_per_epoch wraps it in one that has all of its attributes.
    dataset = getattr(dataset, '_dataset', dataset)
    yield dataset
    for wrapped in getattr(dataset, 'datasets', []):
        yield from datasets_of(wrapped)
    if hasattr(dataset, 'dataset'):
        yield from datasets_of(dataset.dataset)
