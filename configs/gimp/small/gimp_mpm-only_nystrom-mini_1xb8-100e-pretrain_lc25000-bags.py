"""Masked patches alone, on bags of LC25000's tiles as CMIM sees them."""

_base_ = './gimp_mpm-only_nystrom-mini_1xb8-100e-pretrain_musk1.py'

# ========================= Frequently modified =========================
data_root = 'data/lc25000-cmim/'
classes = ('lung_aca', 'lung_scc')
split_file = None  # the column split of cohort.csv, if not folds
in_dims = 256  # of the half ResNet-18 that CMIM has trained
length = 10

# ====================== Unmodified in most cases =======================
model = dict(aggregator=dict(in_dims=in_dims, norm_features=True))
train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        dims=in_dims,
        split_file=split_file,
        metainfo=dict(classes=classes),
        pipeline=[
            dict(_base_.load_features, max_open=128),
            dict(type='mmmedmask.ContiguousSubsequence', length=length),
            dict(
                type='mmmedmask.GenerateSequenceMask',
                ratio=_base_.mask_ratio),
            _base_.pack_inputs,
        ]))
