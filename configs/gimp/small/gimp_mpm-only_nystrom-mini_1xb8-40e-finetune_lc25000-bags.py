"""GiMP's aggregator on bags of LC25000's tiles, after masked patches."""

_base_ = './gimp_mpm-only_nystrom-mini_1xb8-40e-finetune_musk1.py'

# ========================= Frequently modified =========================
data_root = 'data/lc25000-cmim/'
classes = ('lung_aca', 'lung_scc')
split_file = None  # the column split of cohort.csv, if not folds
in_dims = 256  # of the half ResNet-18 that CMIM has trained
checkpoint = (
    'work_dirs/gimp_mpm-only_nystrom-mini_1xb8-100e-pretrain_lc25000-bags/'
    'epoch_100.pth')

# ====================== Unmodified in most cases =======================
model = dict(
    aggregator=dict(
        in_dims=in_dims,
        norm_features=True,
        init_cfg=dict(checkpoint=checkpoint)),
    head=dict(num_classes=len(classes)))
source = dict(
    data_root=data_root,
    dims=in_dims,
    split_file=split_file,
    metainfo=dict(classes=classes))
train_dataloader = dict(dataset=source)
test_dataloader = dict(dataset=source)
