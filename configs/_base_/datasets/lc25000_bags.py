"""LC25000, adenocarcinoma against squamous: bags of tiles, by their source.

tools/wsi/tiles_to_bags.py writes the bags (docs/datasets.md): all tiles of a
source are in one bag, so that folds by bag are folds by source.
"""

_base_ = './slide_omic_base.py'

# ========================= Frequently modified =========================
data_root = 'data/lc25000-resnet18-untrained/'

# ====================== Unmodified in most cases =======================
classes = ('lung_aca', 'lung_scc')
dataset = dict(
    data_root=data_root,
    modalities=['slides'],
    feature_root='features',
    metainfo=dict(classes=classes),
    pipeline=[
        dict(_base_.load_features, slice='all', max_open=128),
        _base_.pack_inputs,
    ])
train_dataloader = dict(dataset=dataset)
val_dataloader = None
test_dataloader = dict(dataset=dataset)
val_evaluator = None
# Intervals are those of all folds together; a fold has eleven bags.
test_evaluator = dict(num_bootstrap=0)
