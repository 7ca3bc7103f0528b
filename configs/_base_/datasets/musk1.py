"""musk1: 92 molecules as bags of 2 to 40 shapes, a fold at a time.

tools/dataset_converters/convert.py musk writes the data set, and
tools/cross_validate.py puts each fold's split_file in. There is no
validation split: training runs to its last epoch, as in published results.
"""

_base_ = './slide_omic_base.py'

# ========================= Frequently modified =========================
data_root = 'data/musk1/'
split_file = 'folds/splits_0.csv'

# ====================== Unmodified in most cases =======================
classes = ('non-musk', 'musk')
dataset = dict(
    data_root=data_root,
    split_file=split_file,
    modalities=['slides'],
    feature_root='features',
    dims=166,
    metainfo=dict(classes=classes),
    pipeline=[
        dict(_base_.load_features, slice='all', max_open=128),
        _base_.pack_inputs,
    ])
train_dataloader = dict(dataset=dataset)
val_dataloader = None
test_dataloader = dict(dataset=dataset)
val_evaluator = None
# Intervals are those of all folds together; a fold has nine bags.
test_evaluator = dict(num_bootstrap=0)
