"""Data sets, one file per kind of data, and their transforms."""

from mmmedmask.datasets import transforms
from mmmedmask.datasets.collating import collate_tiles
from mmmedmask.datasets.image_files import ImageFileDataset
from mmmedmask.datasets.labelled_images import LabelledImages
from mmmedmask.datasets.lesion_segmentation import LesionSegmentation
from mmmedmask.datasets.nct_crc import NCTCRC
from mmmedmask.datasets.sharded_tiles import ShardedTiles
from mmmedmask.datasets.slides.slide_omic_dataset import SlideOmicDataset
from mmmedmask.datasets.tiles import TileFolder

__all__ = ['ImageFileDataset', 'LabelledImages', 'LesionSegmentation',
           'NCTCRC', 'ShardedTiles', 'SlideOmicDataset', 'TileFolder',
           'collate_tiles', 'transforms']
