"""Hooks of the training and test loops."""

from mmmedmask.engine.attention.attention_panel_hook import AttentionPanelHook
from mmmedmask.engine.attention.coverage_hook import LesionCoverageHook
from mmmedmask.engine.attention.crop_hook import ContrastiveCropHook
from mmmedmask.engine.attention.mask_hook import AttentionMaskHook
from mmmedmask.engine.hooks.best_checkpoint import BestCheckpointHook
from mmmedmask.engine.hooks.channels_last import ChannelsLastHook
from mmmedmask.engine.hooks.checkpoint_hook import SafeCheckpointHook
from mmmedmask.engine.hooks.class_names import ClassNamesHook
from mmmedmask.engine.hooks.cross_fitted_genes import CrossFittedGenesHook
from mmmedmask.engine.hooks.floors_hook import LossFloorsHook
from mmmedmask.engine.hooks.gene_stats import GeneStatsHook
from mmmedmask.engine.hooks.load_check import LoadCheckHook
from mmmedmask.engine.hooks.movement_hook import MovementHook
from mmmedmask.engine.hooks.nan_guard import NaNGuardHook
from mmmedmask.engine.hooks.precise_bn import PreciseBNHook
from mmmedmask.engine.hooks.prediction_pictures import PredictionPicturesHook
from mmmedmask.engine.hooks.probe_hook import ProbeHook
from mmmedmask.engine.hooks.reconstruction_panel import ReconstructionPanelHook
from mmmedmask.engine.hooks.seeded_draws import SeededDrawsHook
from mmmedmask.engine.hooks.shared_statistics import SharedStatisticsHook
from mmmedmask.engine.hooks.skipped_files import SkippedFilesHook
from mmmedmask.engine.hooks.transform_epoch import TransformEpochHook
from mmmedmask.engine.hooks.triplet_monitor import TripletMonitorHook

__all__ = ['AttentionMaskHook', 'AttentionPanelHook', 'BestCheckpointHook',
           'ChannelsLastHook', 'ClassNamesHook', 'ContrastiveCropHook',
           'CrossFittedGenesHook', 'GeneStatsHook', 'LesionCoverageHook',
           'LoadCheckHook', 'LossFloorsHook', 'MovementHook', 'NaNGuardHook',
           'PreciseBNHook', 'PredictionPicturesHook', 'ProbeHook',
           'ReconstructionPanelHook', 'SafeCheckpointHook', 'SeededDrawsHook',
           'SharedStatisticsHook', 'SkippedFilesHook', 'TransformEpochHook',
           'TripletMonitorHook']
