"""The genes of a data set's patients as one matrix, scaled."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from mmmedmask.config_files import find_hooks
from mmmedmask.datasets.slides.slide_omic_dataset import SlideOmicDataset
from mmmedmask.models.slide_omic import GeneScale


def fit_gene_scale(config: Mapping, dataset: SlideOmicDataset) -> GeneScale:
    """Fit the scale of the genes, cut off where the config's hook does.

    That is ``clip`` of its ``GeneStatsHook``, or the default without one.
    """
    clips = [hook['clip'] for hook in find_hooks(config).values()
             if str(hook.get('type')).endswith('GeneStatsHook')
             and 'clip' in hook]
    scale = GeneScale()
    scale.set(dataset.fit_gene_scale(*clips[:1]))
    return scale


def read_genes(dataset: SlideOmicDataset, scale: GeneScale
               ) -> tuple[list[str], Tensor, Tensor]:
    """Read the patients of a data set that have genes.

    Returns cases in their order, each once, N; scaled genes, float32 (N, G);
    labels, int64 (N, ). A ValueError if no patient has genes.
    """
    infos = {}
    for place in range(len(dataset)):
        info = dataset.get_data_info(place)
        if info['expression'] is not None:
            infos[info['case_id']] = info
    if not infos:
        raise ValueError(f'no patient of {dataset.ann_file} (split '
                         f'{dataset.split!r}) has genes')
    genes = torch.from_numpy(np.stack(
        [info['expression'] for info in infos.values()]))
    return (list(infos), scale(genes.to(scale.anchor.device)),
            torch.tensor([info['gt_label'] for info in infos.values()]))
