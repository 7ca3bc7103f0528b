"""RetinaNet with ResNet-18 and FPN, as ConCL and CMIM fine-tune it.

mmdet's RetinaNet; nothing frozen, BatchNorm synchronised over the GPUs in
backbone and FPN. Deviation: ConCL leaves Detectron2's default of 80 classes,
79 of which stay empty; here there are as many logits as classes.
"""

_base_ = 'mmdet::_base_/models/retinanet_r50_fpn.py'

# ========================= Frequently modified =========================
num_classes = 1
# Weights of the backbone; child configs set their own.
checkpoint = None

# ====================== Unmodified in most cases =======================
norm_cfg = dict(type='SyncBN', requires_grad=True)

model = dict(
    backbone=dict(
        depth=18,
        frozen_stages=-1,
        norm_eval=False,
        norm_cfg=norm_cfg,
        zero_init_residual=False,
        init_cfg=dict(
            type='Pretrained', checkpoint=checkpoint, prefix='backbone.')),
    neck=dict(in_channels=[64, 128, 256, 512], norm_cfg=norm_cfg),
    bbox_head=dict(num_classes=num_classes))
