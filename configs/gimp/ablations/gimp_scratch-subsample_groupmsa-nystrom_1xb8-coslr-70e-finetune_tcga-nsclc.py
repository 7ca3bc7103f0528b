"""No pre-training; some patches of each slide, other ones in each epoch."""

_base_ = (
    './gimp_scratch_groupmsa-nystrom_1xb8-coslr-70e-finetune_tcga-nsclc.py')

# ========================= Frequently modified =========================
max_patches = 2000

# ====================== Unmodified in most cases =======================
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            _base_.load_features,
            dict(type='mmmedmask.RandomSubsample', max_patches=max_patches),
            _base_.load_genes,
            _base_.pack_inputs,
        ]))
