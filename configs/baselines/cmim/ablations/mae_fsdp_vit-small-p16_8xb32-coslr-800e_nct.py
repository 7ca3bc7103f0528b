"""MAE with parameters, gradients and optimiser states sharded over the GPUs.

For transformers that do not fit into one GPU. Each process keeps its share of
every block; a checkpoint is one file with all of it, as without sharding.
Hooks that look into the model (movement, floors, panels) are off: a process
has no whole weights to look at.
"""

_base_ = '../mae_vit-small-p16_8xb32-coslr-800e_nct.py'

# ========================= Frequently modified =========================
# Parts with at least so many parameters are sharded on their own: a block of
# ViT-S has 1.8 million.
min_params = 1_000_000

# ====================== Unmodified in most cases =======================
runner_type = 'FlexibleRunner'
strategy = dict(
    type='FSDPStrategy',
    model_wrapper=dict(
        auto_wrap_policy=dict(
            type='torch.distributed.fsdp.wrap.size_based_auto_wrap_policy',
            min_num_params=min_params),
        use_orig_params=True),
    state_dict_cfg='full')
default_hooks = dict(
    checkpoint=dict(type='CheckpointHook'),
    loss_floors=None,
    movement=None,
    nan_guard=None)
