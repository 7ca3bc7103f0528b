"""TCGA-NSCLC for GiMP's pre-training: runs of 6,000 patches, half masked.

Sections 2.3 and 3.1 of the paper. The training split alone; the files are
those of slide_omic_nsclc.py.
"""

_base_ = './slide_omic_nsclc.py'

# ========================= Frequently modified =========================
batch_size = 16  # per GPU; the paper does not say
# Patches of a run, L; slides with fewer are repeated.
length = 6000
# Share of them that is masked.
mask_ratio = 0.5

# ========================== Possibly modified ==========================
# Neighbours in the 'file', or along a 'hilbert' curve over the slide.
order = 'file'

# ====================== Unmodified in most cases =======================
take_run = dict(
    type='mmmedmask.ContiguousSubsequence', length=length, order=order)
draw_mask = dict(type='mmmedmask.GenerateSequenceMask', ratio=mask_ratio)
train_dataloader = dict(
    batch_size=batch_size,
    prefetch_factor=2 if _base_.num_workers > 0 else None,
    # Triplets need two patients of one class and one of another in a batch.
    batch_sampler=dict(
        _delete_=True, type='mmmedmask.ClassBalancedBatchSampler'),
    dataset=dict(
        pipeline=[
            _base_.load_features,
            take_run,
            draw_mask,
            _base_.load_genes,
            _base_.pack_inputs,
        ]))
val_dataloader = None
test_dataloader = None
val_evaluator = None
test_evaluator = None
