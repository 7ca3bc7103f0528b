"""Give SimCLR on several GPUs the gradient of the whole batch.

``GatherLayer`` gathers the features of all ranks, and each rank computes the
loss of all. Backwards it keeps what its own loss asks of its features, not
what the others' ask: after DistributedDataParallel's mean a gradient is
divided by the number of ranks, as in lightly#1528 (mmselfsup#107 shows the
code). Delete when ``GatherLayer.backward`` adds up over the ranks.
"""

from mmmedmask.compat.replacing import replaces


def add_up_gathered_gradients() -> None:
    """Let mmpretrain's ``GatherLayer`` add up the gradients of all ranks."""
    import torch
    from mmengine.dist import all_reduce
    from mmpretrain.models.selfsup.simclr import GatherLayer

    @replaces(GatherLayer, 'backward')
    def backward(keep_own, ctx, *gradients):
        gradients = torch.stack(gradients)
        all_reduce(gradients)
        return keep_own(ctx, *gradients)
