"""Probes for the small runs on H&E tiles: ``probe=_base_.he_tiles_probe``.

Where one of the two folders is not there, the run says so and goes on.
"""

# ========================= Frequently modified =========================
# A folder per class below training and test, as CRC5 has them.
he_labelled_tiles = 'data/crc5'
# A folder of tools/dataset_converters/convert.py glas.
he_masked_images = 'data/glas'

# ====================== Unmodified in most cases =======================
he_tiles_probe = dict(
    type='mmmedmask.ProbeHook',
    data=he_labelled_tiles,
    dense=he_masked_images,
    # Without their colour.
    colors=['gray'],
    size=128,
    few=[5, None],
    max_images=400,
    interval=10,
    optional=True)
