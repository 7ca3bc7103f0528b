"""Bag classifiers: from the patches of a slide to its vector.

Constructors raise a ValueError that names an argument outside its range.
"""

from mmmedmask.models.mil.abmil import ABMIL
from mmmedmask.models.mil.base import BagAggregator
from mmmedmask.models.mil.clam import CLAM_MB, CLAM_SB
from mmmedmask.models.mil.dsmil import DSMIL
from mmmedmask.models.mil.mcat import MCAT
from mmmedmask.models.mil.pooling import MaxPool, MeanPool
from mmmedmask.models.mil.transmil import TransMIL

__all__ = ['ABMIL', 'BagAggregator', 'CLAM_MB', 'CLAM_SB', 'DSMIL', 'MCAT',
           'MaxPool', 'MeanPool', 'TransMIL']
