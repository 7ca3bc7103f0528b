"""CMIM on shards of tiles, of which there may be a hundred million.

`tools/dataset_converters/convert.py pack_tiles` makes them, see
docs/datasets.md. Saved by iterations: a run goes on in the middle of an epoch.
"""

_base_ = './cmim_resnet18_1xb32-coslr-800e_tile-folder.py'

# ========================= Frequently modified =========================
# A folder, or an address such as 's3://bucket/tiles' with an index_dir.
data_root = 'data/shards/'
checkpoint_iterations = 1000

# ====================== Unmodified in most cases =======================
train_dataloader = dict(
    dataset=dict(type='mmmedmask.ShardedTiles', data_root=data_root),
    sampler=dict(
        _delete_=True,
        type='mmmedmask.BlockShuffleSampler',
        block_size=256,
        mixed_blocks=64))
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=checkpoint_iterations))
