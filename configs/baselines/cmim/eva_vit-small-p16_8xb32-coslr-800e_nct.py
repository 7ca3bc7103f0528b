"""EVA, ViT-S/16, 800 epochs on NCT-CRC-HE-100K (Table 1).

mmpretrain's EVA, which predicts CLIP's features with MAE's encoder and
decoder; size of the batch, epochs and data are CMIM's. CLIP sees the images
with ImageNet's normalisation, as in mmpretrain.
"""

_base_ = './mae_vit-small-p16_8xb32-coslr-800e_nct.py'

# ========================= Frequently modified =========================
# CLIP ViT-B/16, see below where it comes from.
teacher_checkpoint = 'data/weights/clip_vit_base_16.pth.tar'

# ====================== Unmodified in most cases =======================
teacher_source = (
    'https://download.openmmlab.com/mmselfsup/1.x/target_generator_ckpt/'
    'clip_vit_base_16.pth.tar (or the same path below '
    'https://mmassets.onedl.ai). It is OpenAI\'s ViT-B-16.pt, '
    'https://openaipublic.azureedge.net/clip/models/5806e77cd80f8b59890b7e101e'
    'abd078d9fb84e6937f9e85e4ecb61988df416f/ViT-B-16.pt, as a plain '
    'dictionary: torch.save(torch.jit.load("ViT-B-16.pt", '
    'map_location="cpu").state_dict(), "clip_vit_base_16.pth.tar")')
init_cfg = [
    dict(type='Xavier', layer='Linear', distribution='uniform'),
    dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0)
]
model = dict(
    type='EVA',
    backbone=dict(init_cfg=init_cfg),
    # As many channels as CLIP's features.
    neck=dict(predict_feature_dim=512, init_cfg=init_cfg),
    head=dict(
        _delete_=True,
        type='MIMHead',
        loss=dict(
            type='CosineSimilarityLoss', shift_factor=2.0,
            scale_factor=2.0)),
    target_generator=dict(
        type='mmmedmask.FrozenTeacher',
        teacher=dict(type='CLIPGenerator', tokenizer_path=teacher_checkpoint),
        source=teacher_source),
    # On the whole model it would overwrite the teacher.
    init_cfg=None)
