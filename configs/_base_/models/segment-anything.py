"""Segment Anything, ViT-H, as CMIM's paper compares with it; not trained."""

# ========================= Frequently modified =========================
# Folder of facebook/sam-vit-huge, -large or -base on the Hugging Face Hub.
weights = 'data/weights/sam-vit-huge'
# 'automatic' (a grid of points), 'point' (centre of each true box) or 'box'.
prompts = 'automatic'

# ====================== Unmodified in most cases =======================
model = dict(
    type='mmmedmask.SegmentAnything',
    weights=weights,
    prompts=prompts,
    data_preprocessor=dict(
        type='DetDataPreprocessor', bgr_to_rgb=True, pad_mask=False))
