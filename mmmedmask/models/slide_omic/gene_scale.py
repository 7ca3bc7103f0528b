"""The scale of every gene and the list of genes, inside a checkpoint."""

import json
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from mmmedmask.functional.gene_scaling import is_linear_unit, scale_genes
from mmmedmask.util.checks import check_shape

# What is kept besides the numbers per gene.
FACTS = ('gene_ids', 'unit', 'log2_offset', 'clip', 'num_cases', 'cases_hash')
LISTED_GENES = 5


class GeneScale(nn.Module):
    """Mean and standard deviation per gene, and whose they are.

    Empty at first: :meth:`set` or a checkpoint fills it. In a checkpoint it
    is two float32 buffers and one of bytes (JSON in UTF-8) with the names of
    the genes, so that a checkpoint stays a dictionary of tensors.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer('mean', None)
        self.register_buffer('std', None)
        self.register_buffer('facts', None)
        # Tells the device while there is nothing else.
        self.register_buffer('anchor', torch.empty(0), persistent=False)
        self._facts: dict = {}

    @property
    def is_set(self) -> bool:
        """Whether there is a scale."""
        return self.mean is not None

    @property
    def gene_ids(self) -> tuple[str, ...]:
        """Genes in order, empty without a scale."""
        return tuple(self._facts.get('gene_ids', ()))

    def set(self, state: Mapping) -> None:
        """Take a scale over, as ``fit_gene_scale`` of the data sets gives it.

        It has ``gene_ids``, ``mean`` and ``std`` (G, ), ``unit``,
        ``log2_offset``, ``clip``, ``num_cases``, ``cases_hash``. A ValueError
        if something is missing, not known or does not fit.
        """
        names = {'mean', 'std', *FACTS}
        if set(state) != names:
            raise ValueError(f'a scale of genes must have {sorted(names)}, '
                             f'got {sorted(state)}')
        facts = {name: state[name] for name in FACTS}
        facts['gene_ids'] = list(facts['gene_ids'])
        if not facts['gene_ids']:
            raise ValueError('a scale of genes needs at least one gene')
        for name in ('mean', 'std'):
            check_shape(name, state[name], (len(facts['gene_ids']), ),
                        'one number for each gene')
        device = self.anchor.device
        self.mean = state['mean'].detach().clone().to(device, torch.float32)
        self.std = state['std'].detach().clone().to(device, torch.float32)
        text = bytearray(json.dumps(facts).encode())
        self.facts = torch.frombuffer(text, dtype=torch.uint8).to(device)
        self._facts = facts

    def state(self) -> dict:
        """Give what :meth:`set` takes; a ValueError if there is no scale."""
        if not self.is_set:
            raise ValueError('there is no scale of genes')
        return {**self._facts, 'gene_ids': self.gene_ids,
                'mean': self.mean.clone(), 'std': self.std.clone()}

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Scale expression; missing genes (NaN) become 0, the mean.

        Values (B, G) are in the unit of the scale; the result is float32 in
        [-clip, clip]. A ValueError if there is no scale or the number of genes
        differs.
        """
        if not self.is_set:
            raise ValueError(
                'samples have genes, but there is no scale for them: train '
                'with mmmedmask.GeneStatsHook in default_hooks, which fits it '
                'to the training cases, or load a checkpoint that has one')
        if values.shape[-1] != len(self.mean):
            raise ValueError(
                f'samples have {values.shape[-1]} genes, the scale of genes '
                f'is of {len(self.mean)}: the data set must align them to '
                "the model's gene_list")
        return scale_genes(values.float(), self.mean.float(), self.std.float(),
                           is_linear_unit(self._facts['unit']),
                           self._facts['clip'])

    def check_genes(self, gene_ids: Sequence[str], source: str) -> None:
        """Raise a ValueError unless genes are the scale's, in its order.

        The message says where they come from (``source``).
        """
        mine, others = self.gene_ids, tuple(gene_ids)
        if mine == others:
            return
        lacks = sorted(set(mine) - set(others))
        extra = sorted(set(others) - set(mine))
        if lacks or extra:
            difference = ' and '.join(
                f'{what} {len(names)} ({", ".join(names[:LISTED_GENES])}'
                f'{", ..." if len(names) > LISTED_GENES else ""})'
                for what, names in (('lacks', lacks), ('adds', extra))
                if names)
        else:
            place = next((place for place, pair in enumerate(
                zip(mine, others, strict=False)) if pair[0] != pair[1]),
                min(len(mine), len(others)))
            difference = f'has them in another order, from place {place} on'
        raise ValueError(
            f'{source} has {len(others)} genes, which are not the '
            f'{len(mine)} of the checkpoint: it {difference}. Give the data '
            'set the list of the checkpoint as gene_list, to which it aligns '
            'its table: genes.txt in the work folder of the training, by its '
            'absolute path, since others count from data_root')

    def check_model(self, model: nn.Module, source: str) -> None:
        """Raise a ValueError unless there is a scale of the model's genes.

        The message says what has genes (``source``).
        """
        if not self.is_set:
            raise ValueError(
                f'{source} has genes, but neither was a scale for them '
                'fitted nor is there one in the checkpoint: was its '
                'model trained with genes and GeneStatsHook?')
        for key in ('gene_encoder', 'aggregator'):
            part = getattr(model, key, None)
            listed = getattr(part, 'gene_ids', None)
            if listed is not None:
                self.check_genes(listed, "gene_list of the model's "
                                 f'{type(part).__name__}')

    def check_unit(self, unit: str, log2_offset: float, source: str) -> None:
        """Raise a ValueError if the scale was fitted to another unit."""
        fitted = self._facts['unit'], self._facts['log2_offset']
        if (unit, log2_offset) != fitted:
            raise ValueError(
                f'{source} holds {unit} (log2_offset {log2_offset:g}), but '
                f'the scale of genes was fitted to {fitted[0]} (log2_offset '
                f'{fitted[1]:g}): convert={fitted[0]!r} may convert it')

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args,
                              **kwargs) -> None:
        buffers = {name: state_dict.get(prefix + name)
                   for name in ('mean', 'std', 'facts')}
        if all(value is not None for value in buffers.values()):
            facts = json.loads(buffers.pop('facts').cpu().numpy().tobytes())
            if self.is_set:
                self.check_genes(facts['gene_ids'],
                                 'the checkpoint that is loaded')
            self.set({**facts, **buffers})
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
