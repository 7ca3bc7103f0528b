"""GiMP (MICCAI 2023): slides and gene expression, pre-trained together."""

from mmmedmask.models.gimp.aggregator import NystromAggregator, NystromLayer
from mmmedmask.models.gimp.gene_encoders import SNN, LinearGeneEncoder
from mmmedmask.models.gimp.gimp import GiMP
from mmmedmask.models.gimp.group_msa import GroupMSA
from mmmedmask.models.gimp.heads import InfoNCEHead, MPMHead, TripletHead

__all__ = [
    'SNN', 'GiMP', 'GroupMSA', 'InfoNCEHead', 'LinearGeneEncoder', 'MPMHead',
    'NystromAggregator', 'NystromLayer', 'TripletHead'
]
