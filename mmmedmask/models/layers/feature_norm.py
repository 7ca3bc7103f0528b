"""Features of slides brought to one scale, by statistics of training bags."""

import torch.nn.functional as F
from torch import Tensor, nn


class FeatureNorm(nn.Module):
    """Batch normalisation of patches without affine parameters.

    Features of many encoders vary little around a large mean; a linear
    layer at its usual initialisation then sees the mean alone. The averages
    for evaluation are over all training batches, as features do not change
    while a model is trained (Ioffe and Szegedy, ICML 2015, algorithm 1, with
    a cumulative average). Batches of fewer than two patches have no variance:
    they are scaled as in evaluation and teach nothing.
    """

    def __init__(self, in_dims: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(in_dims, momentum=None, affine=False)

    def forward(self, patches: Tensor) -> Tensor:
        """Scale patches (T, D) of all bags without padding.

        In the type of the statistics: float32 under autocast, too.
        """
        patches = patches.to(self.norm.running_mean.dtype)
        # Probes measure statistics with this layer alone in training mode.
        if not self.norm.training or len(patches) > 1:
            return self.norm(patches)
        return F.batch_norm(patches, self.norm.running_mean,
                            self.norm.running_var, eps=self.norm.eps)
