"""Vectors of genes that a frozen encoder need not compute again."""

from collections.abc import Hashable, Mapping, Sequence

import torch
from torch import Tensor, nn

# The case of all patients without expression, whose rows are alike.
WITHOUT_GENES = ('patients without genes', )


class GeneVectorCache:
    """CLS_ge of each case, for as long as nothing it is made of changes.

    A vector is used again if the encoder's parameters and buffers are the
    same and the case's scaled expression is: another scale or another table
    makes another row. Vectors stay on the encoder's device. The cache is
    not a module, so checkpoints do not have it.

    Cases are encoded one by one, so that a vector does not depend on those
    in its batch, and a resumed run goes on with the very numbers.
    """

    def __init__(self) -> None:
        self._encoder: tuple = ()
        self._vectors: dict[Hashable, tuple[tuple[float, ...], Tensor]] = {}
        self._given: dict[Hashable, Tensor] = {}

    def clear(self) -> None:
        """Forget all vectors."""
        self._vectors.clear()

    def give(self, vectors: Mapping[Hashable, Tensor]) -> None:
        """Take vectors (d, ) by case to stand for the encoder's in training.

        They are those of encoders that have not seen the patient.
        """
        self._given = dict(vectors)

    def __call__(self, encoder: nn.Module, genes: Tensor,
                 case_ids: Sequence[Hashable | None],
                 training: bool = False) -> Tensor:
        """Give the vectors of a batch; encode those that are not known.

        Args:
            encoder: Gene encoder, in evaluation mode.
            genes: Scaled expression, shape (B, G).
            case_ids: Their patients, or ``WITHOUT_GENES``; None: never
                kept.
            training: Whether vectors that were given count.

        Returns:
            Shape (B, d), without a graph; in float32 under autocast, too.

        Raises:
            ValueError: If vectors were given, and none of a case.
        """
        given = self._given if training else {}
        lacking = [case for case in case_ids
                   if case not in given and case != WITHOUT_GENES]
        if given and lacking:
            raise ValueError(
                f'the cases {lacking} have genes, but no cross-fitted '
                f'vector; there are those of {len(given)} cases')
        with torch.no_grad(), torch.autocast(genes.device.type, enabled=False):
            *rows, state = _numbers(genes, encoder)
            # Where each tensor lies, how often it changed, and its numbers.
            encoder_key = ([(tensor.data_ptr(), tensor._version)
                            for tensor in _tensors(encoder)], state)
            if encoder_key != self._encoder:
                self.clear()
                self._encoder = encoder_key
            vectors = []
            for case, row, key in zip(case_ids, genes, rows, strict=True):
                if case in given:
                    vectors.append(given[case])
                    continue
                known = self._vectors.get(case)
                if known is None or known[0] != key:
                    known = key, encoder(row[None])[0]
                if case is not None:
                    self._vectors[case] = known
                vectors.append(known[1])
            return torch.stack(vectors)


def _tensors(encoder: nn.Module) -> tuple[Tensor, ...]:
    return *encoder.parameters(), *encoder.buffers()


def _numbers(genes: Tensor, encoder: nn.Module) -> list[tuple[float, ...]]:
    """Two numbers for each row, and one entry for the encoder's state.

    The latter, since writing to ``parameter.data``, as averaging of models
    does, is not counted as a change. All are read from the device at once.
    """
    places = torch.arange(
        1, genes.shape[1] + 1, dtype=torch.float64, device=genes.device)
    sums = [(genes * places.sin()).sum(dim=1),
            (genes * places.cos()).sum(dim=1)]
    for tensor in _tensors(encoder):
        if tensor.is_floating_point():
            sums += [tensor.sum(dtype=torch.float64).view(1),
                     torch.linalg.vector_norm(
                         tensor, dtype=torch.float64).view(1)]
    values = torch.cat(sums).tolist()
    count = len(genes)
    rows = list(zip(values[:count], values[count:2 * count], strict=True))
    return [*rows, tuple(values[2 * count:])]
