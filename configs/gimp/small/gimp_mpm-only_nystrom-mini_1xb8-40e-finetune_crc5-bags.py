"""GiMP's aggregator on bags of CRC5's tiles, after masked patches."""

_base_ = './gimp_mpm-only_nystrom-mini_1xb8-40e-finetune_lc25000-bags.py'

# ========================= Frequently modified =========================
data_root = 'data/crc5-bags/'
classes = ('AC', 'H', 'S', 'T', 'V')
checkpoint = (
    'work_dirs/gimp_mpm-only_nystrom-mini_1xb8-100e-pretrain_crc5-bags/'
    'epoch_100.pth')

# ====================== Unmodified in most cases =======================
model = dict(
    aggregator=dict(init_cfg=dict(checkpoint=checkpoint)),
    head=dict(num_classes=len(classes)))
source = dict(data_root=data_root, metainfo=dict(classes=classes))
train_dataloader = dict(dataset=source)
test_dataloader = dict(dataset=source)
test_evaluator = dict(num_bootstrap=1000)
