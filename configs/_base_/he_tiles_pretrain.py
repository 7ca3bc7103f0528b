"""What the small pre-training runs on H&E tiles have in common: the tiles,
their loader, and hooks with probes.

The keys are taken up by name, ``default_hooks = _base_.he_tiles_hooks``: a run
inherits its method from another file. Where a folder of the probes
or of the held-out tiles is not there, the run says so and goes on.
"""

# ========================= Frequently modified =========================
# Tiles of LC25000 and crops of GlaS's training images.
he_tiles_roots = ['data/lc25000/tiles', 'data/glas_tiles']
# A folder per class below training and test, as CRC5 has them.
he_labelled_tiles = 'data/crc5'
# Tiles that are not trained on, of other slides.
he_held_out_tiles = 'data/crc5/test'
# A folder of tools/dataset_converters/convert.py glas.
he_masked_images = 'data/glas'

# ====================== Unmodified in most cases =======================
# In the place of NCT.
he_tiles = dict(
    _delete_=True, type='mmmedmask.TileFolder', data_root=he_tiles_roots)
he_tiles_loader = dict(batch_size=32, num_workers=1)
he_tiles_floors = dict(
    held_out=dict(data_root=he_held_out_tiles), optional=True)
he_tiles_hooks = dict(
    logger=dict(interval=20),
    checkpoint=dict(interval=5, max_keep_ckpts=1),
    probe=dict(
        type='mmmedmask.ProbeHook',
        data=he_labelled_tiles,
        dense=he_masked_images,
        # Without their colour.
        colors=['gray'],
        size=128,
        few=[5, None],
        max_images=400,
        interval=10,
        optional=True))
