"""The gene encoder stays frozen in fine-tuning, too."""

_base_ = '../gimp_groupmsa-nystrom_1xb8-coslr-70e-finetune_tcga-nsclc.py'

model = dict(freeze_gene_encoder=True)
