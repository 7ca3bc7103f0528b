"""The contract catches aggregators that break a promise.

That the shipped ones keep it is tested beside them.
"""

import pytest
import torch
from torch import nn

from mmmedmask.models.mil import ABMIL, MCAT, MeanPool
from mmmedmask.testing.aggregator_contract import check_aggregator_contract
from mmmedmask.testing.backbone_contract import ContractError


class PoolsPadding(MeanPool):
    def pool(self, tokens, valid):
        return tokens.mean(dim=1)


class EmbedsPadding(MeanPool):
    def embed_patches(self, patches, valid):
        return self.embed(patches) * valid[..., None]


class DividesByZero(MeanPool):
    def pool(self, tokens, valid):
        if valid is None:
            return tokens.mean(dim=1)
        return tokens.sum(dim=1) / valid.sum(dim=1, keepdim=True)


class LooksAtItsBatch(MeanPool):
    def pool(self, tokens, valid):
        return super().pool(tokens, valid) / (1 + tokens.abs().max()) if \
            tokens.numel() else super().pool(tokens, valid)


class LooksAtTheOrder(MeanPool):
    def pool(self, tokens, valid):
        return super().pool(tokens, valid) + tokens[:, :1].sum(dim=1)


class LeavesPadding(MeanPool):
    def forward(self, patches, valid=None, mask=None, coords=None):
        vector, tokens = super().forward(patches, valid, mask, coords)
        return vector, tokens + 1


class Unused(MeanPool):
    def __init__(self):
        super().__init__(4, 8)
        self.unused = nn.Linear(2, 2)


class Uneven(MeanPool):
    """Without patches nothing is left of its parameters."""

    def pool(self, tokens, valid):
        pooled = super().pool(tokens, valid)
        return pooled if tokens.numel() else torch.zeros_like(pooled)


class MaskedOnly(MeanPool):
    """A parameter beside the token serves masked patches alone."""

    def __init__(self):
        super().__init__(4, 8)
        self.mask_token = nn.Parameter(torch.zeros(8))
        self.shift = nn.Linear(8, 8)

    def forward(self, patches, valid=None, mask=None, coords=None):
        vector, tokens = super().forward(patches, valid, None, coords)
        if mask is not None:
            vector = vector + self.shift(self.mask_token)
        return vector, tokens


class LogitsAsWeights(ABMIL):
    def weights(self, tokens, valid):
        return self.scores(tokens)

    def pool(self, tokens, valid):
        return (super().weights(tokens, valid) @ tokens)[:, 0]


class HalfWeights(ABMIL):
    def weights(self, tokens, valid):
        return super().weights(tokens, valid).to(tokens.dtype)


class Deaf(MCAT):
    def embed_genes(self, genes, has_genes, batch_size):
        return super().embed_genes(0 * genes, has_genes, batch_size)


class OneVector(MeanPool):
    class_wise = True
    num_classes = 3


class NotAnAggregator(nn.Module):
    in_dims = 4


@pytest.mark.parametrize(('make', 'message'), [
    (lambda: PoolsPadding(4, 8), 'the vector of a batch'),
    (lambda: EmbedsPadding(4, 8), 'padding of nan reaches the vector'),
    (lambda: DividesByZero(4, 8), 'the vector of a batch .* is not finite'),
    (lambda: LooksAtItsBatch(4, 8), 'a bag of .* patches alone against in'),
    (lambda: LooksAtTheOrder(4, 8), 'but the order of patches counts'),
    (lambda: LeavesPadding(4, 8), 'tokens must be zero at padding'),
    (Unused, r'the vector of a batch does not depend on unused\.weight'),
    (lambda: Uneven(4, 8), r'without patches does not depend on embed\.0\.w'),
    (MaskedOnly, r'of a batch does not depend on shift\.weight'),
    (lambda: LogitsAsWeights(4, 8), 'attention must be'),
    (lambda: HalfWeights(4, 8), 'attention under autocast must stay float32'),
    (lambda: Deaf(4, 10, 2, embed_dims=16),
     'uses_genes, but genes make no difference'),
    (lambda: OneVector(4, 8),
     r'vector of a batch has the shape \(5, 8\), expected \(5, 3, 8\)'),
    (NotAnAggregator, r'NotAnAggregator has no embed_dims \(int\)')])
def test_broken_aggregators(make, message):
    torch.manual_seed(0)
    with pytest.raises(ContractError, match=message):
        check_aggregator_contract(make())
