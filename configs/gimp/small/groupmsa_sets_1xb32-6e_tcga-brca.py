"""GroupMSA with gene sets as groups: MCAT's six, by function.

signatures.csv of PORPOISE's repository goes to data_root. A .gmt file of
pathways is taken in the same way.
"""

_base_ = './groupmsa_separate_1xb32-6e_tcga-brca.py'

# ========================= Frequently modified =========================
gene_sets = 'data/tcga-brca/signatures.csv'
gene_list = 'data/tcga-brca/genes.txt'  # written with the data
# Groups of genes in no set, instead of neighbours in the alphabet.
num_groups = 8

# ====================== Unmodified in most cases =======================
model = dict(
    gene_encoder=dict(
        gene_sets=gene_sets, gene_list=gene_list, num_groups=num_groups))
