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

    They are those of all ranks, which meet in each forward pass in training
    mode, as in ``SyncBatchNorm``: all have to take it, also without patches.
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
        if self.training:
            self._add(patches.detach())
        return (patches - self.running_mean) * (
            self.running_var + EPS).rsqrt()

    def _add(self, patches: Tensor) -> None:
        count, mean = len(patches), torch.zeros_like(self.running_mean)
        var = mean
        if count:
            var, mean = torch.var_mean(patches, dim=0, correction=0)
        if get_world_size() > 1:
            count, mean, var = _of_all_ranks(count, mean, var)
        self.num_patches += count
        share = (count / self.num_patches.clamp(min=1)).to(patches.dtype)
        shift = mean - self.running_mean
        self.running_mean += shift * share
        self.running_var.lerp_(var, share).add_(
            shift.square() * share * (1 - share))

    def reset(self) -> None:
        """Forget all patches."""
        self.running_mean.zero_()
        self.running_var.fill_(1)
        self.num_patches.zero_()


def _of_all_ranks(count: int, mean: Tensor,
                  var: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Number, means and variances of the patches of all ranks."""
    means = mean.double()
    sums = count * torch.cat(
        [means.new_ones(1), means, var.double() + means.square()])
    all_reduce(sums, op='sum')
    means, squares = (sums[1:] / sums[0].clamp(min=1)).chunk(2)
    return sums[0].long(), means.to(mean), (squares - means.square()).to(var)
