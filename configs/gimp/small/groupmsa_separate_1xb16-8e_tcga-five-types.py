"""GroupMSA on 56,537 genes, five tumour types; see docs/results.md.

tools/dataset_converters/convert.py tcga_counts writes the data. 960 fragments
of 59 genes in 32 groups, as many as for the paper's 60,480.
"""

_base_ = './groupmsa_separate_1xb32-6e_tcga-brca.py'

# ========================= Frequently modified =========================
num_genes = 56537
batch_size = 16

# ====================== Unmodified in most cases =======================
classes = ('ACC', 'CHOL', 'KICH', 'UCS', 'UVM')
model = dict(
    gene_encoder=dict(
        num_genes=num_genes, num_fragments=960, num_groups=32),
    head=dict(num_classes=len(classes)))
cohort = dict(
    data_root='data/tcga-five-types/', metainfo=dict(classes=classes))
train_dataloader = dict(batch_size=batch_size, dataset=cohort)
val_dataloader = dict(dataset=cohort)
test_dataloader = dict(dataset=cohort)
auto_scale_lr = dict(base_batch_size=batch_size)
train_cfg = dict(max_epochs=8)
