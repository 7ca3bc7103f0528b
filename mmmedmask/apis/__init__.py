"""Use mmmedmask from Python: runs from configs, and what they trained."""

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
from mmmedmask.apis.trained import build_trained_model
from mmmedmask.config_files import load_config

__all__ = [
    'build_runner', 'build_trained_model',
    'check_iterations', 'check_warmup', 'disable_validation',
    'draw_predictions', 'enable_lr_scaling',
    'enable_test_time_augmentation', 'load_config', 'lock_work_dir',
    'prepare_test', 'save_predictions',
    'set_mixed_precision', 'set_resume', 'set_work_dir'
]
