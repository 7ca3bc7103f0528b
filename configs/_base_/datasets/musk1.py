"""musk1: 92 molecules as bags of 2 to 40 shapes, a fold at a time.

tools/dataset_converters/convert.py musk writes the data set, and
tools/cross_validate.py puts each fold's split_file in. Whole bags and no
validation split, as for LC25000: training runs to its last epoch, as in
published results.
"""

_base_ = './lc25000_bags.py'

# ========================= Frequently modified =========================
data_root = 'data/musk1/'
split_file = 'folds/splits_0.csv'

# ====================== Unmodified in most cases =======================
classes = ('non-musk', 'musk')
dataset = dict(
    data_root=data_root,
    split_file=split_file,
    dims=166,
    metainfo=dict(classes=classes))
train_dataloader = dict(dataset=dataset)
test_dataloader = dict(dataset=dataset)
