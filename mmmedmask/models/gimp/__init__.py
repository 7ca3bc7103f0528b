"""GiMP (MICCAI 2023): slides and gene expression, pre-trained together.

Constructors raise a ValueError that names an argument outside its range.
"""

from mmmedmask.models.gimp.aggregator import NystromAggregator, NystromLayer
from mmmedmask.models.gimp.gene_encoders import SNN, LinearGeneEncoder
from mmmedmask.models.gimp.gimp import GiMP
from mmmedmask.models.gimp.group_msa import GroupMSA
from mmmedmask.models.gimp.heads import InfoNCEHead, MPMHead, TripletHead
from mmmedmask.models.gimp.image_text_heads import (
    BioViLHead,
    MGCAHead,
    REFERSHead,
)

__all__ = ['SNN', 'BioViLHead', 'GiMP', 'GroupMSA', 'InfoNCEHead',
           'LinearGeneEncoder', 'MGCAHead', 'MPMHead', 'NystromAggregator',
           'NystromLayer', 'REFERSHead', 'TripletHead']
