"""The demo's drawn cohort, see mmmedmask.phantoms.slide_omic_cohort.

tools/demo.py writes it.
"""

_base_ = './slide_omic_base.py'

# ========================= Frequently modified =========================
data_root = 'demo_output/data/cohort_phantoms/'

# ========================== Possibly modified ==========================
modalities = ('slides', 'genes')

# ====================== Unmodified in most cases =======================
dataset = dict(
    data_root=data_root,
    feature_root='features',
    expression=dict(path='expression.tsv', unit='fpkm'),
    modalities=modalities,
    # A drawn cohort may lack some on purpose.
    missing_slides='keep',
    missing_genes='keep')
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = dict(dataset=dataset)
