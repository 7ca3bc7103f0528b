"""The scale of every gene, fitted on training cases alone."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mmmedmask.datasets.expression.table import ExpressionTable
from mmmedmask.datasets.expression.units import UNITS
from mmmedmask.functional.gene_scaling import is_linear_unit, scale_genes

# Genes at a time, so that float64 takes little memory.
_BLOCK = 4096


@dataclass(frozen=True, eq=False)
class GeneScaler:
    """log2(x + 1), then a z-score per gene, clipped.

    Fit it with :meth:`fit`. Logarithms and z-scores are not taken the
    logarithm of again. Counts are refused: they grow with the depth of
    sequencing, so convert them to CPM.

    Attributes:
        gene_ids: Genes in order.
        mean: Mean per gene of the fitted cases, after the logarithm,
            float32 (G, ).
        std: Standard deviation (of the population) likewise; 0 for genes
            that are constant or missing in all cases, which become 0.
        unit: Unit of what it was fitted to.
        log2_offset: What was added before the logarithm, if ``unit`` is one.
        clip: Largest absolute value.
        num_cases: Number of cases it was fitted to.
        cases_hash: :func:`names_hash` of these cases.
    """

    gene_ids: tuple[str, ...]
    mean: torch.Tensor
    std: torch.Tensor
    unit: str
    log2_offset: float
    clip: float
    num_cases: int
    cases_hash: str

    def __post_init__(self) -> None:
        if not self.clip > 0:
            raise ValueError(f'clip must be positive, got {self.clip}')
        if self.unit not in UNITS or self.unit.endswith('counts'):
            raise ValueError(
                'a GeneScaler scales CPM, FPKM, TPM, their logarithms or '
                f'z-scores, got {self.unit!r}; counts depend on the depth of '
                "sequencing: convert='cpm' makes CPM of them")
        for name in ('mean', 'std'):
            if getattr(self, name).shape != (len(self.gene_ids), ):
                raise ValueError(
                    f'{name} must have one number for each of '
                    f'{len(self.gene_ids)} genes, got '
                    f'{tuple(getattr(self, name).shape)}')

    @classmethod
    def fit(cls, table: ExpressionTable, clip: float = 10.0) -> 'GeneScaler':
        """Fit the scale to all rows of a table: the training cases.

        Args:
            table: Expression of the training cases and no other.
            clip: Largest absolute value that is given out.

        Returns:
            The scaler.

        Raises:
            ValueError: If the table holds counts or no case.
        """
        if not len(table.case_ids):
            raise ValueError(f'{table.source}: there is no case to fit to')
        log2 = is_linear_unit(table.unit)
        means, stds = [], []
        for start in range(0, len(table.gene_ids), _BLOCK):
            block = table.values[:, start:start + _BLOCK].astype(np.float64)
            if log2:
                block = np.log2(block + 1)
            known = ~np.isnan(block)
            count = np.maximum(known.sum(axis=0), 1)
            mean = np.where(known, block, 0).sum(axis=0) / count
            square = np.where(known, (block - mean)**2, 0).sum(axis=0)
            means.append(mean)
            stds.append(np.sqrt(square / count))
        return cls(table.gene_ids,
                   torch.from_numpy(np.concatenate(means)).float(),
                   torch.from_numpy(np.concatenate(stds)).float(),
                   table.unit, table.log2_offset, clip, len(table.case_ids),
                   names_hash(sorted(table.case_ids)))

    @property
    def log2(self) -> bool:
        """Whether it takes the logarithm."""
        return is_linear_unit(self.unit)

    @property
    def genes_hash(self) -> str:
        """:func:`names_hash` of the genes in their order."""
        return names_hash(self.gene_ids)

    def __call__(self, values: np.ndarray | torch.Tensor) -> torch.Tensor:
        """Scale expression, see :func:`~mmmedmask.functional.gene_scaling.\
scale_genes`.

        Args:
            values: Shape (..., G) in the fitted unit, genes in the fitted
                order, NaN where missing.

        Returns:
            float32 of the same shape, 0 where missing.

        Raises:
            ValueError: If the number of genes differs.
        """
        if values.shape[-1] != len(self.gene_ids):
            raise ValueError(
                f'expression has {values.shape[-1]} genes, the scaler was '
                f'fitted to {len(self.gene_ids)}')
        if isinstance(values, np.ndarray):
            # Tables are read-only, which torch would warn about.
            values = torch.from_numpy(np.array(values, np.float32))
        return scale_genes(values.float(), self.mean, self.std, self.log2,
                           self.clip)

    def check_unit(self, table: ExpressionTable) -> None:
        """Raise a ValueError if a table has another unit than the fitted."""
        if (table.unit, table.log2_offset) != (self.unit, self.log2_offset):
            raise ValueError(
                f'{table.source} holds {table.unit} (log2_offset '
                f'{table.log2_offset:g}), but the scale of genes was fitted '
                f'to {self.unit} (log2_offset {self.log2_offset:g}): '
                f'convert={self.unit!r} may convert it')

    def state(self) -> dict:
        """Give all that it takes to make it again, for a checkpoint.

        Returns:
            Tensors, numbers, texts and a list of texts; nothing of the
            cases but their number and hash.
        """
        return {
            'gene_ids': list(self.gene_ids),
            'mean': self.mean.clone(),
            'std': self.std.clone(),
            'unit': self.unit,
            'log2_offset': self.log2_offset,
            'clip': self.clip,
            'num_cases': self.num_cases,
            'cases_hash': self.cases_hash,
        }

    @classmethod
    def from_state(cls, state: Mapping) -> 'GeneScaler':
        """Make a scaler of what :meth:`state` gave.

        Raises:
            ValueError: If something is missing or not known.
        """
        names = set(cls.__dataclass_fields__)
        if set(state) != names:
            raise ValueError(
                f'the state of a GeneScaler must have {sorted(names)}, got '
                f'{sorted(state)}')
        return cls(**{**state, 'gene_ids': tuple(state['gene_ids'])})

    def save(self, path: str | Path) -> None:
        """Write it to a torch file, whole or not at all."""
        path = Path(path)
        partial = path.with_name(f'.{path.name}.{os.getpid()}.part')
        torch.save(self.state(), partial)
        os.replace(partial, path)

    @classmethod
    def load(cls, path: str | Path) -> 'GeneScaler':
        """Read what :meth:`save` wrote.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is no scaler.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f'The gene scaler {path} does not exist')
        return cls.from_state(
            torch.load(path, map_location='cpu', weights_only=True))


def names_hash(names: Sequence[str]) -> str:
    """Hash names in their order.

    Args:
        names: Genes or cases.

    Returns:
        32 hexadecimal digits.
    """
    return hashlib.blake2b(
        '\n'.join(names).encode(), digest_size=16).hexdigest()
