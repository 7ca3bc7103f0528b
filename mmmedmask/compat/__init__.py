"""Gaps in today's OpenMMLab stack, one small file each.

Every file names the upstream issue and says when it can be deleted.
"""

from mmmedmask.compat.binary_accuracy import compare_with_threshold
from mmmedmask.compat.binary_tta import average_probabilities
from mmmedmask.compat.coco_classes import order_categories
from mmmedmask.compat.coco_filter import count_filtered_images
from mmmedmask.compat.coco_subsets import count_unseen_images
from mmmedmask.compat.config_bases import resolve_config_bases
from mmmedmask.compat.config_text import format_configs_once
from mmmedmask.compat.deferred_mmdet import defer_mmdet
from mmmedmask.compat.deferred_zero import defer_zero_optimizer
from mmmedmask.compat.empty_detections import load_empty_detections
from mmmedmask.compat.families import (
    require_openmmlab,
    warn_about_mixed_families,
)
from mmmedmask.compat.gathered_gradients import add_up_gathered_gradients
from mmmedmask.compat.import_hooks import after_import
from mmmedmask.compat.mmcv_ops import has_compiled_ops, provide_mmcv_ops
from mmmedmask.compat.mmcv_ops_rebind import rebind_mmcv_ops
from mmmedmask.compat.model_hub import extend_model_hub
from mmmedmask.compat.multimodal_models import leave_out_multimodal_models
from mmmedmask.compat.optional_hooks import accept_missing_hooks
from mmmedmask.compat.orphaned_workers import end_orphaned_workers
from mmmedmask.compat.quiet_imports import silence_loggers, silence_warnings
from mmmedmask.compat.safe_loading import read_weights_safely
from mmmedmask.compat.view_numbers import number_views
from mmmedmask.compat.window_batches import reverse_windows_of_any_batch


def apply_patches() -> None:
    """Apply what has to be in place as soon as mmmedmask is imported.

    It imports nothing of OpenMMLab: what changes one of its modules waits
    until that module is imported. Calling it again changes nothing.
    """
    require_openmmlab()
    warn_about_mixed_families()
    silence_warnings()
    after_import('mmengine.logging', silence_loggers)
    after_import('mmengine.config', resolve_config_bases)
    after_import('yapf.yapflib.yapf_api', format_configs_once)
    after_import('mmpretrain.apis.model', extend_model_hub)
    after_import('mmpretrain.datasets.transforms.wrappers', number_views)
    after_import('mmpretrain.models.selfsup.simclr',
                 add_up_gathered_gradients)
    after_import('mmpretrain.utils.dependency', leave_out_multimodal_models)
    after_import('mmpretrain.models.utils.attention',
                 reverse_windows_of_any_batch)
    after_import('mmengine.runner.checkpoint', read_weights_safely)
    after_import('mmengine.runner.runner', accept_missing_hooks)
    after_import('mmengine.runner.runner', end_orphaned_workers)
    after_import('mmdet.datasets.api_wrappers.coco_api',
                 load_empty_detections)
    after_import('mmdet.datasets.api_wrappers.coco_api', order_categories)
    after_import('mmdet.datasets.coco', count_filtered_images)
    after_import('mmdet.evaluation.metrics.coco_metric',
                 count_unseen_images)
    after_import('mmseg.models.segmentors.seg_tta', average_probabilities)
    after_import('mmseg.models.decode_heads.decode_head',
                 compare_with_threshold)
    defer_mmdet()
    defer_zero_optimizer()
    provide_mmcv_ops()
    rebind_mmcv_ops()


__all__ = ['apply_patches', 'has_compiled_ops']
