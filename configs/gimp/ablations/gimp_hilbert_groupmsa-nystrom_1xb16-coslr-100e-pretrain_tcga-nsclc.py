"""Runs along a Hilbert curve over the slide, not in file order."""

_base_ = '../gimp_groupmsa-nystrom_1xb16-coslr-100e-pretrain_tcga-nsclc.py'

take_run = dict(_base_.take_run, order='hilbert')
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            _base_.load_features,
            take_run,
            _base_.draw_mask,
            _base_.load_genes,
            _base_.pack_inputs,
        ]))
