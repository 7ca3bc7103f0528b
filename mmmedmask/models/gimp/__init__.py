"""GiMP (MICCAI 2023): slides and gene expression, pre-trained together."""

from mmmedmask.models.gimp.aggregator import NystromAggregator, NystromLayer
from mmmedmask.models.gimp.gimp import GiMP
from mmmedmask.models.gimp.losses import InfoNCEHead, TripletHead
from mmmedmask.models.gimp.mpm_head import MPMHead

__all__ = [
    'GiMP', 'InfoNCEHead', 'MPMHead', 'NystromAggregator', 'NystromLayer',
    'TripletHead'
]
