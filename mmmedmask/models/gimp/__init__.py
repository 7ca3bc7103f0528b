"""GiMP (MICCAI 2023): slides and gene expression, pre-trained together."""

from mmmedmask.models.gimp.aggregator import NystromAggregator, NystromLayer
from mmmedmask.models.gimp.gimp import GiMP
from mmmedmask.models.gimp.group_msa import GroupMSA
from mmmedmask.models.gimp.linear_gene_encoder import LinearGeneEncoder
from mmmedmask.models.gimp.losses import InfoNCEHead, TripletHead
from mmmedmask.models.gimp.mpm_head import MPMHead
from mmmedmask.models.gimp.snn import SNN

__all__ = [
    'SNN', 'GiMP', 'GroupMSA', 'InfoNCEHead', 'LinearGeneEncoder', 'MPMHead',
    'NystromAggregator', 'NystromLayer', 'TripletHead'
]
