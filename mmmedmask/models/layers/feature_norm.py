"""Features of slides brought to one scale, by statistics of training bags."""

import torch
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor, nn

EPS = 1e-5


class FeatureNorm(nn.Module):
    """Scale each dimension by its mean and variance over training patches.

    Features of many encoders vary little around a large mean; a linear
    layer at its usual initialisation then sees the mean alone. They do not
    change while a model is trained, so that the statistics are those of all
    patches that training has seen so far (a running sum: Chan, Golub and
    LeVeque, 1979), in training as in evaluation. Statistics of the batch
    alone, as batch normalisation has them, would take from a bag that is by
    itself what tells it from others.
    """

    def __init__(self, in_dims: int) -> None:
        super().__init__()
        self.register_buffer('running_mean', torch.zeros(in_dims))
        self.register_buffer('running_var', torch.ones(in_dims))
        self.register_buffer('num_patches', torch.tensor(0))

    def forward(self, patches: Tensor) -> Tensor:
        """Scale patches (T, D) of all bags without padding.

        In the type of the statistics: float32 under autocast, too.
        """
        patches = patches.to(self.running_mean.dtype)
        if self.training and len(patches):
            self._add(patches.detach())
        return (patches - self.running_mean) * (
            self.running_var + EPS).rsqrt()

    def _add(self, patches: Tensor) -> None:
        self.num_patches += len(patches)
        share = (len(patches) / self.num_patches).to(patches.dtype)
        var, mean = torch.var_mean(patches, dim=0, correction=0)
        shift = mean - self.running_mean
        self.running_mean += shift * share
        self.running_var.lerp_(var, share).add_(
            shift.square() * share * (1 - share))

    def reset(self) -> None:
        """Forget all patches."""
        self.running_mean.zero_()
        self.running_var.fill_(1)
        self.num_patches.zero_()

    @torch.no_grad()
    def share_statistics(self) -> None:
        """Give all ranks the statistics of the patches of all of them."""
        count = self.num_patches.double()
        mean = self.running_mean.double()
        sums = torch.cat([count[None], count * mean, count * (
            self.running_var.double() + mean.square())])
        all_reduce(sums, op='sum')
        if sums[0] == 0:
            return
        mean, square = (sums[1:] / sums[0]).chunk(2)
        self.running_mean.copy_(mean)
        self.running_var.copy_(square - mean.square())
        # So that they add up to what all have seen, next time as well.
        self.num_patches.copy_(sums[0] / get_world_size())
