"""GiMP's gene encoder: attention inside groups of genes, then among them.

Jin et al., "Gene-Induced Multimodal Pre-training for Image-Omic
Classification", MICCAI 2023, section 2.1.
"""

import logging
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from mmmedmask.models.gimp.gene_encoders import GeneEncoder
from mmmedmask.models.layers import gene_names, gene_set_places
from mmmedmask.registry import MODELS
from mmmedmask.util.checks import check_choice, check_integer, check_multiple

PROJECTIONS = ('shared', 'separate')
# Hidden dimensions of an MLP per dimension of a token.
MLP_RATIO = 4


class SelfAttentionBlock(BaseModule):
    """Multi-head self-attention and an MLP, each behind a LayerNorm."""

    def __init__(self, embed_dims: int, num_heads: int,
                 drop_rate: float) -> None:
        super().__init__()
        check_multiple('embed_dims', embed_dims, num_heads, 'num_heads')
        hidden = MLP_RATIO * embed_dims
        self.num_heads = num_heads
        self.drop_rate = drop_rate
        self.norm1 = nn.LayerNorm(embed_dims)
        self.query = nn.Linear(embed_dims, embed_dims)
        self.key_value = nn.Linear(embed_dims, 2 * embed_dims)
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.norm2 = nn.LayerNorm(embed_dims)
        self.mlp = nn.Sequential(
            nn.Linear(embed_dims, hidden), nn.GELU(), nn.Dropout(drop_rate),
            nn.Linear(hidden, embed_dims))
        self.drop = nn.Dropout(drop_rate)

    def forward(self, tokens: Tensor, outputs: int,
                mask: Tensor | None = None) -> Tensor:
        """Let tokens (B, N, d) attend to all; give out the first ones.

        The rest is not needed and not computed: (B, outputs, d). No token
        attends to those of ``mask`` (B, N), bool, 1 = masked.
        """
        normed = self.norm1(tokens)
        query, key, value = (
            part.unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for part in (self.query(normed[:, :outputs]),
                         *self.key_value(normed).chunk(2, dim=2)))
        mixed = F.scaled_dot_product_attention(
            query, key, value,
            attn_mask=None if mask is None else ~mask[:, None, None],
            dropout_p=self.drop_rate if self.training else 0.0)
        tokens = tokens[:, :outputs] + self.drop(
            self.proj(mixed.transpose(1, 2).flatten(2)))
        return tokens + self.drop(self.mlp(self.norm2(tokens)))


class FragmentProjection(BaseModule):
    """A linear layer without bias, of its own for each of N_f fragments.

    Its weights are (N_f, f, d), for f genes of a fragment.
    """

    def __init__(self, num_fragments: int, fragment_size: int,
                 embed_dims: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(
            torch.empty(num_fragments, fragment_size, embed_dims))
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self, fragments: Tensor) -> Tensor:
        """Project (B, N_f, f) to (B, N_f, d)."""
        return torch.bmm(fragments.transpose(0, 1),
                         self.weight).transpose(0, 1)


@MODELS.register_module()
class GroupMSA(GeneEncoder):
    """Fragments of genes, attention inside groups of them and among groups.

    ``(B, G)`` is cut into N_f fragments of f = ceil(G / N_f) neighbours in
    the gene list, the last ones filled up with zeros; a projection makes
    tokens of them. Each of N_gr groups of N_f / N_gr neighbouring fragments
    gets a group token, which attends to them; a class token attends to the
    group tokens, and is the result (``CLS_ge``).

    With ``gene_sets``, such as pathways, each set is a group, cut into
    fragments of at most f genes; smaller sets have fewer, and what is
    missing to the largest one is masked in attention. A gene of several sets
    is in the group of each. Genes of no set make ``num_groups`` further
    groups of equal size, in the order of the gene list.

    Cost of attention: N_f (N_f / N_gr) + N_gr^2, instead of N_f^2; less still,
    since only group and class tokens are computed where no others are read.
    The log warns if whole groups are filling, as with the defaults and a list
    of a few hundred genes more than there are fragments. A ValueError if a set
    does not fit the genes, and a FileNotFoundError if a file is not there.

    Args:
        num_genes: Genes, G (60,480 in the paper).
        embed_dims: Dimensions of tokens and of the output, d.
        num_fragments: Fragments, N_f. With ``gene_sets`` there can be more:
            it says how many genes a fragment has.
        num_groups: Groups, N_gr, a divisor of N_f. With ``gene_sets`` those
            of genes in no set; 0 leaves these genes out.
        projection: ``'separate'``: a linear layer for each fragment, so that
            it can tell apart genes that stand at the same place in two
            fragments. ``'shared'``: one for all, as in the paper; from a
            cohort of hundreds it learns little.
        gene_sets: Groups of genes, a ``.gmt`` or ``.csv`` file, or places, see
            :func:`~mmmedmask.models.layers.gene_set_places`. None: neighbours
            in the gene list.
        gene_list: The genes in order, for a file: a list, or a text file
            with one per line. It has to be the data set's.
        position: Whether a learnable embedding per fragment tells fragments
            apart; without it those of a group can be permuted.
        drop_rate: Dropout of the tokens and in the layers.
        final_norm: Whether the output is normalised (LayerNorm).
    """

    def __init__(self, num_genes: int, embed_dims: int = 512,
                 num_fragments: int = 960, num_groups: int = 32,
                 num_heads: int = 8, intra_layers: int = 1,
                 inter_layers: int = 1, projection: str = 'separate',
                 gene_sets: str | Sequence[Sequence[int]] | None = None,
                 gene_list: str | Sequence[str] | None = None,
                 position: bool = True, drop_rate: float = 0.0,
                 gene_drop_rate: float = 0.0, final_norm: bool = True,
                 init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(
            num_genes, embed_dims,
            init_cfg or dict(type='TruncNormal', layer='Linear', std=0.02),
            drop_rate=drop_rate, gene_drop_rate=gene_drop_rate)
        check_integer('num_fragments', num_fragments, 1, num_genes)
        check_integer('num_groups', num_groups, 0 if gene_sets else 1)
        check_integer('intra_layers', intra_layers)
        check_integer('inter_layers', inter_layers)
        check_choice('projection', projection, PROJECTIONS)
        self.fragment_size = math.ceil(num_genes / num_fragments)
        self.gene_ids = gene_names(gene_list)
        if gene_sets is None:
            self._check_groups(num_fragments, num_groups)
            count = num_fragments // num_groups * self.fragment_size
            places = torch.arange(num_groups * count)
            places[num_genes:] = -1
            groups = places.split(count)
        else:
            groups = self._set_groups(gene_sets, num_groups)
        places, slots = cut_fragments(groups, self.fragment_size)
        num_fragments, num_groups = len(places), len(slots)
        self.num_fragments, self.num_groups = num_fragments, num_groups
        self.fragment_size = places.shape[1]
        self.has_empty_slots = bool((slots < 0).any())
        # Weights of a set are for its genes: a checkpoint has both.
        for name, value in (('places', places), ('slots', slots)):
            self.register_buffer(name, value, persistent=gene_sets is not None)
        self.gene_drop = nn.Dropout(gene_drop_rate)
        self.embed = nn.Linear(
            self.fragment_size,
            embed_dims) if projection == 'shared' else FragmentProjection(
                num_fragments, self.fragment_size, embed_dims)
        self.position = nn.Parameter(torch.empty(
            num_fragments, embed_dims)) if position else None
        self.group_tokens = nn.Parameter(torch.empty(num_groups, embed_dims))
        self.cls_token = nn.Parameter(torch.empty(1, embed_dims))
        for token in (self.position, self.group_tokens, self.cls_token):
            if token is not None:
                nn.init.trunc_normal_(token, std=0.02)
        self.drop = nn.Dropout(drop_rate)
        self.intra, self.inter = (
            nn.ModuleList(SelfAttentionBlock(embed_dims, num_heads, drop_rate)
                          for _ in range(layers))
            for layers in (intra_layers, inter_layers))
        self.norm = nn.LayerNorm(embed_dims) if final_norm else nn.Identity()

    def forward(self, genes: Tensor) -> Tensor:
        """Encode scaled expression (B, G) to ``CLS_ge`` (B, d).

        A ValueError if the shape is another.
        """
        return self.encode_class(self.encode_groups(genes))

    def encode_class(self, groups: Tensor) -> Tensor:
        """Encode patients by their groups: (B, N_gr, d) to (B, d)."""
        cls = self.cls_token.expand(len(groups), 1, -1)
        tokens = run_blocks(self.inter, torch.cat([cls, groups], dim=1), 1)
        return self.norm(tokens.squeeze(1))

    def encode_groups(self, genes: Tensor) -> Tensor:
        """Encode each group on its own: (B, G) to tokens (B, N_gr, d)."""
        return self._in_groups(self._embedded(genes), 1)[:, :, 0]

    def encode_fragments(self, genes: Tensor, mask: Tensor,
                         mask_token: Tensor) -> Tensor:
        """Encode fragments (B, N_f, d) of genes (B, G), some of them hidden.

        ``mask_token`` (d, ) stands for those of ``mask`` (B, N_f), bool,
        1 = masked.
        """
        tokens = self._embedded(genes, mask, mask_token)
        tokens = self._in_groups(tokens, 1 + self.slots.shape[1])[:, :, 1:]
        # Fragments are numbered group by group.
        return tokens[:, self.slots >= 0]

    def decode_fragments(self, tokens: Tensor) -> Tensor:
        """Turn tokens (B, N_f, d) back into genes (B, N_f, f).

        By the weights that made tokens of the genes, as a language model
        names words by their embeddings.
        """
        if isinstance(self.embed, FragmentProjection):
            return torch.einsum('bnd,nfd->bnf', tokens, self.embed.weight)
        return tokens @ self.embed.weight

    def fragment_genes(self, genes: Tensor) -> Tensor:
        """Cut genes (B, G) into fragments (B, N_f, f), 0 where none is."""
        self.check_genes(genes)
        return F.pad(genes, (0, 1))[:, self.places]

    def _embedded(self, genes: Tensor, mask: Tensor | None = None,
                  mask_token: Tensor | None = None) -> Tensor:
        """The tokens of fragments with their positions, (B, N_f, d)."""
        tokens = self.embed(self.fragment_genes(self.gene_drop(genes)))
        if mask is not None:
            tokens = torch.where(
                mask[:, :, None], mask_token.to(tokens.dtype), tokens)
        if self.position is not None:
            tokens = tokens + self.position
        return self.drop(tokens)

    def _in_groups(self, tokens: Tensor, outputs: int) -> Tensor:
        """Let groups attend; their first tokens, (B, N_gr, outputs, d).

        That of the group comes first, then its fragments, (B, N_f, d).
        """
        # An empty token stands at the place -1.
        tokens = F.pad(tokens, (0, 0, 0, 1))[:, self.slots]
        heads = self.group_tokens[:, None].expand(len(tokens), -1, -1, -1)
        tokens = torch.cat([heads.to(tokens.dtype), tokens], dim=2)
        mask = None
        if self.has_empty_slots:
            mask = F.pad(self.slots < 0, (1, 0)).repeat(len(tokens), 1)
        return run_blocks(self.intra, tokens.flatten(0, 1), outputs,
                          mask).unflatten(0, (-1, self.num_groups))

    def _set_groups(self, gene_sets: str | Sequence[Sequence[int]],
                    num_groups: int) -> list[Tensor]:
        """Genes of each group: the sets', and those of no set."""
        groups = gene_set_places(gene_sets, self.num_genes, self.gene_ids)
        left = torch.ones(self.num_genes, dtype=torch.bool)
        left[torch.cat(groups)] = False
        left = left.nonzero()[:, 0]
        if len(left) and num_groups:
            return [*groups, *left.tensor_split(min(num_groups, len(left)))]
        if len(left):
            print_log(f'GroupMSA: leaves out {len(left)} of {self.num_genes} '
                      'genes, which are in no set (num_groups=0).', 'current')
        return groups

    def _check_groups(self, num_fragments: int, num_groups: int) -> None:
        """Refuse groups of unequal size, and warn of those without a gene."""
        if num_fragments % num_groups:
            valid = [count for count in range(1, num_fragments + 1)
                     if num_fragments % count == 0]
            raise ValueError(
                f'num_groups must divide num_fragments {num_fragments}, got '
                f'{num_groups}; valid are {valid}')
        used = _used_groups(self.num_genes, num_fragments, num_groups)
        if used == num_groups:
            return
        fitting = [count for count in range(
            num_groups, num_fragments, num_groups)
            if _used_groups(self.num_genes, count, num_groups) == num_groups]
        advice = f'num_fragments={fitting[-1]} fills all' if fitting \
            else 'take a smaller num_groups'
        print_log(f'GroupMSA: {self.num_genes} genes in {num_fragments} '
                  f'fragments of {self.fragment_size} leave '
                  f'{num_groups - used} of {num_groups} groups without a '
                  f'gene: {advice}.', 'current', logging.WARNING)


def cut_fragments(groups: Sequence[Tensor],
                  size: int) -> tuple[Tensor, Tensor]:
    """Cut groups of genes, given by their places, into fragments of ``size``.

    Gives the genes of each fragment (N_f, f) and the fragments of each group
    (N_gr, F), int64, -1 where there is none.
    """
    fragments, slots = [], []
    for genes in groups:
        pieces = genes.split(size)
        slots.append(len(fragments) + torch.arange(len(pieces)))
        fragments.extend(pieces)
    return (pad_sequence(fragments, batch_first=True, padding_value=-1),
            pad_sequence(slots, batch_first=True, padding_value=-1))


def _used_groups(num_genes: int, num_fragments: int, num_groups: int) -> int:
    """Groups that have a gene."""
    fragment_size = math.ceil(num_genes / num_fragments)
    return math.ceil(
        num_genes / (fragment_size * (num_fragments // num_groups)))


def run_blocks(blocks: nn.ModuleList, tokens: Tensor, outputs: int,
               mask: Tensor | None = None) -> Tensor:
    """Run blocks; the last gives out the first tokens, (B, outputs, d)."""
    for block in blocks[:-1]:
        tokens = block(tokens, tokens.shape[1], mask)
    return blocks[-1](tokens, outputs, mask)
