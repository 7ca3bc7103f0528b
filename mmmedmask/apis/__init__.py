"""Use mmmedmask from Python: runs from configs, and what they trained."""

from mmmedmask.apis.backbone_export import export_backbone
from mmmedmask.apis.inferencers import (
    AttentionInferencer,
    ClassificationInferencer,
    EmbeddingInferencer,
    ReconstructionInferencer,
)
from mmmedmask.apis.models import get_model, list_models, untrained_model
from mmmedmask.apis.runs import (
    build_runner,
    check_iterations,
    check_warmup,
    disable_validation,
    draw_predictions,
    enable_lr_scaling,
    enable_test_time_augmentation,
    lock_work_dir,
    prepare_test,
    save_predictions,
    set_mixed_precision,
    set_resume,
    set_work_dir,
)
from mmmedmask.config_files import load_config

__all__ = ['AttentionInferencer', 'ClassificationInferencer',
           'EmbeddingInferencer', 'ReconstructionInferencer', 'build_runner',
           'check_iterations', 'check_warmup', 'disable_validation',
           'draw_predictions', 'enable_lr_scaling',
           'enable_test_time_augmentation', 'export_backbone', 'get_model',
           'list_models', 'load_config', 'lock_work_dir', 'prepare_test',
           'save_predictions', 'set_mixed_precision', 'set_resume',
           'set_work_dir', 'untrained_model']
