"""ABMIL that predicts survival instead of the class.

Cox's loss compares the patients of a batch, so there are many in one, of
each a random part of the patches. The cohort csv needs the columns
survival_months and censorship.
"""

_base_ = '../abmil_1xb8-coslr-70e_tcga-nsclc.py'

# ========================= Frequently modified =========================
batch_size = 32
max_patches = 4096

# ====================== Unmodified in most cases =======================
model = dict(head=dict(_delete_=True, type='mmmedmask.CoxHead'))
train_dataloader = dict(
    batch_size=batch_size,
    batch_sampler=None,
    dataset=dict(pipeline=[
        _base_.load_features,
        dict(type='mmmedmask.RandomSubsample', max_patches=max_patches),
        _base_.pack_inputs,
    ]))
auto_scale_lr = dict(base_batch_size=batch_size)
val_evaluator = dict(_delete_=True, type='mmmedmask.SurvivalConcordance')
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(save_best='survival/c_index'))
