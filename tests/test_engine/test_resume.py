"""A resumed run of each method ends with the bits of one that went on.

Shipped configs, shrunk: dropout, stochastic depth and the augmentations of
each are on, MMEngine's, mmpretrain's, mmdet's and mmseg's among them.
"""

import pytest
import torch
from mmengine.hooks import Hook
from model_checks import tensors_of
from shipped_configs import read, without_tests

from mmmedmask import apis
from mmmedmask.engine.checkpoint import read_checkpoint
from mmmedmask.shrinking.shrink import shrink_config

#: Config, and what is switched on beside what it has.
RUNS = {
    'cmim_resnet18_8xb32-coslr-800e_nct': {},
    'msmae_vit-base-p16_1xb64-coslr-300e_busi': {
        'model.backbone.drop_rate': .2,
        'default_hooks.attention_mask.begin': 0},
    'vit-base-p16_msmae_1xb256-100e_busi': {
        'model.backbone.drop_path_rate': .5},
    'gimp_groupmsa-nystrom_1xb16-coslr-100e-pretrain_tcga-nsclc': {
        'model.contrast_head.mining': 'random'},
    'gimp_groupmsa-nystrom_1xb8-coslr-70e-finetune_tcga-nsclc': {
        'model.head.drop_rate': .5},
    'concl_resnet18_8xb32-coslr-200e_nct': {
        # Else the queue of concepts is still empty at the interruption.
        'model.warm_up_epochs': 0},
    # Loader workers, whose generators are of their own.
    'simclr_resnet18_1xb64-30e_brain-tumor-mri': {
        'train_dataloader.num_workers': 2,
        'train_dataloader.persistent_workers': True},
    # Counts iterations.
    'mask-rcnn_cmim-resnet18-c4_1xb2-300i_glas': {
        'default_hooks.precise_bn.num_batches': 1},
    'setr-pup_msmae-vit-mini-p8_1xb8-60e_busi': {
        'model.backbone.drop_rate': .2},
}
#: Iterations before the interruption, of twice as many in all.
HALF = 2


class Stop(Hook):
    """End a run in the middle, once its state is saved."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == runner.max_iters / 2:
            raise KeyboardInterrupt


def build(name, folder, data, resume=False):
    cfg = without_tests(shrink_config(
        read(name), folder, data, iterations=2 * HALF))
    if 'max_epochs' in cfg.train_cfg:
        cfg.train_cfg.max_epochs = 2
    for hook in ('reconstruction_panel', 'attention_panel', 'lesion_coverage'):
        if hook in cfg.default_hooks:
            cfg.default_hooks[hook] = None
    by_epoch = 'max_epochs' in cfg.train_cfg
    cfg.default_hooks.checkpoint.update(
        interval=1 if by_epoch else HALF, save_best=None)
    cfg.merge_from_dict(RUNS[name])
    cfg.experiment_name = f'{folder.name}_{resume}'
    if resume:
        apis.set_resume(cfg, 'auto')
    return apis.build_runner(cfg)


@pytest.mark.usefixtures('quick_probes')
@pytest.mark.parametrize('name', [
    pytest.param(name, marks=[pytest.mark.slow] * name.startswith('concl'))
    for name in RUNS])
def test_resumed_is_uninterrupted(name, tmp_path, drawn_data):
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    build(name, whole, drawn_data).train()
    interrupted = build(name, parts, drawn_data)
    interrupted.register_hook(Stop())
    with pytest.raises(KeyboardInterrupt):
        interrupted.train()
    resumed = build(name, parts, drawn_data, resume=True)
    resumed.train()
    assert resumed.iter == resumed.max_iters
    assert interrupted.iter == resumed.iter / 2
    last = (whole / 'run' / 'last_checkpoint').read_text().rpartition('/')[2]
    states = [read_checkpoint(folder / 'run' / last)
              for folder in (whole, parts)]
    for part in ('state_dict', 'optimizer'):
        wanted, given = (dict(tensors_of(state[part])) for state in states)
        assert wanted
        assert wanted.keys() == given.keys()
        assert [place for place, value in wanted.items()
                if not torch.equal(value, given[place])] == []
