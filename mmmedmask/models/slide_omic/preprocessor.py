"""From a list of patients with slides and genes to padded, scaled batches."""

from collections.abc import Mapping, Sequence

import torch
from mmengine.model import BaseDataPreprocessor, initialize

from mmmedmask.models.slide_omic.gene_scale import GeneScale
from mmmedmask.registry import MODELS
from mmmedmask.util.checks import check_shape
from mmmedmask.util.nested import split_init

INPUT_KEYS = ('patches', 'coords', 'mask', 'genes')


@MODELS.register_module()
class SlideOmicDataPreprocessor(BaseDataPreprocessor):
    """Pad bags at their ends, scale genes, and say what each patient has.

    Genes are brought to ``clip((log2(x + 1) - mean) / std)`` per gene (no
    logarithm of logarithms and z-scores), with what
    ``mmmedmask.GeneStatsHook`` fitted to the training cases. This scale and
    the list of genes are in the checkpoint, so that a later stage or a test
    scales the same genes in the same way. A ValueError if ``init_cfg`` is of
    another kind.

    Args:
        init_cfg: Where a later stage takes the scale from:
            ``dict(type='Pretrained', checkpoint=..., prefix=
            'data_preprocessor.')``. None: from the training cases, or from
            the checkpoint that the runner loads or resumes.
        non_blocking: Copy to the device without waiting.
    """

    def __init__(self, init_cfg: dict | None = None,
                 non_blocking: bool = True) -> None:
        super().__init__(non_blocking=non_blocking)
        if init_cfg is not None and split_init(init_cfg)[0] != [init_cfg]:
            raise ValueError(
                "init_cfg must be None or dict(type='Pretrained', "
                f'checkpoint=..., prefix=...), got {init_cfg}')
        self.init_cfg = init_cfg
        self.gene_scale = GeneScale()

    def init_weights(self) -> None:
        """Take the scale from the checkpoint of ``init_cfg``.

        Nothing happens without one, or if there is a scale already. A
        ValueError if the checkpoint has no scale of genes.
        """
        if self.init_cfg is None or self.gene_scale.is_set:
            return
        initialize(self, dict(self.init_cfg))
        if not self.gene_scale.is_set:
            raise ValueError(
                f'{self.init_cfg["checkpoint"]!r} has no scale of genes '
                f'under the prefix {self.init_cfg.get("prefix")!r}: '
                "'data_preprocessor.' is that of a model trained with genes")

    def forward(self, data: dict, training: bool = False) -> dict:
        """Make a batch.

        Args:
            data: ``inputs``, a dict of lists with one entry per patient,
                tensors or None (as ``pseudo_collate`` makes it):
                ``patches`` (N_i, D), ``coords`` (N_i, 2), ``mask`` (N_i, ),
                1 = masked, and ``genes`` (G, ), NaN where missing; what no
                patient has may be left out. ``data_samples`` or None.

        Returns:
            ``data_samples`` as they came and ``inputs``, a dict of
            ``patches`` (B, N, D), float32, zero behind a bag's end, and
            ``valid`` (B, N), bool, False there, None without any patch;
            ``mask`` (B, N), bool, or None; ``coords`` (B, N, 2), int64, or
            None, also if one bag lacks them; ``genes`` (B, G), float32,
            scaled, 0 where missing and for patients without, None if no
            patient has any; ``has_genes`` and ``has_patches`` (B, ), bool.

        Raises:
            ValueError: If tensors do not fit each other or the scale.
        """
        inputs = data['inputs']
        if not isinstance(inputs, Mapping) or not set(inputs) <= set(
                INPUT_KEYS):
            given = (sorted(inputs) if isinstance(inputs, Mapping) else
                     type(inputs).__name__)
            raise ValueError(
                f'inputs must be a dict of {INPUT_KEYS}, got {given}: the '
                'pipeline ends with mmmedmask.PackSlideOmicInputs, the '
                "collate_fn is dict(type='pseudo_collate')")
        # Whole lists: a batch that default_collate has stacked is one, too.
        lists = {key: None if value is None else list(value)
                 for key, value in inputs.items()}
        sizes = {len(value) for value in lists.values() if value is not None}
        if len(sizes) != 1:
            raise ValueError('inputs must have one entry per patient for each '
                             f'key, got lists of {sorted(sizes)}')
        empty = [None] * sizes.pop()
        patches, coords, mask, genes = (
            self.cast_data(lists.get(key) or empty) for key in INPUT_KEYS)
        counts = _check_bags(patches, coords, mask)
        device = self.device
        # No autocast: a scale in 16 bits would not be the fitted one.
        with torch.autocast(device.type, enabled=False):
            batch = dict(
                patches=pad_bags(patches, counts, torch.float32),
                mask=pad_bags(mask, counts, torch.bool),
                genes=self.scale_genes(genes), has_genes=_flags(genes, device),
                has_patches=_flags([c or None for c in counts], device))
        batch['valid'] = batch['coords'] = None
        if batch['patches'] is not None:
            length = torch.tensor(counts, device=device)
            batch['valid'] = torch.arange(
                max(counts), device=device) < length[:, None]
        if all(bag is not None
               for bag, count in zip(coords, counts, strict=True) if count):
            batch['coords'] = pad_bags(coords, counts, torch.int64)
        return dict(inputs=batch, data_samples=self.cast_data(
            data.get('data_samples')))

    def scale_genes(
            self, genes: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
        """Scale the genes (G, ) of those who have some, to (B, G), float32.

        Rows of others are 0; None if no patient has any. A ValueError if
        numbers of genes differ or there is no scale.
        """
        known = [row for row in genes if row is not None]
        if not known:
            return None
        if len({row.shape for row in known}) > 1 or known[0].ndim != 1:
            raise ValueError(
                'genes must have the shape (G, ) with one G for all '
                f'patients, got {[tuple(row.shape) for row in known]}')
        scaled = self.gene_scale(torch.stack(known).float())
        batch = scaled.new_zeros(len(genes), scaled.shape[1])
        batch[_flags(genes, scaled.device)] = scaled
        return batch


def _flags(values: Sequence, device: torch.device) -> torch.Tensor:
    """Say which values are not None, bool (B, )."""
    return torch.tensor([value is not None for value in values],
                        dtype=torch.bool, device=device)


def _check_bags(patches: Sequence[torch.Tensor | None],
                coords: Sequence[torch.Tensor | None],
                mask: Sequence[torch.Tensor | None]) -> list[int]:
    """Check that the parts (N_i, ...) of the bags fit; count patches N_i."""
    shapes = [tuple(bag.shape) for bag in patches if bag is not None]
    if any(len(shape) != 2 for shape in shapes) or len(
            {shape[1] for shape in shapes}) > 1:
        raise ValueError(
            'patches must have the shape (N, D) with one D for all bags, '
            f'the size of the features of one encoder, got {shapes}')
    counts = [0 if bag is None else len(bag) for bag in patches]
    for name, values, rest in (('coords', coords, (2, )), ('mask', mask, ())):
        for value, count in zip(values, counts, strict=True):
            if value is not None:
                check_shape(f'{name} of a bag of {count} patches', value,
                            (count, *rest))
    masked = [value is not None
              for value, count in zip(mask, counts, strict=True) if count]
    if any(masked) and not all(masked):
        raise ValueError(f'{sum(masked)} of {len(masked)} bags have a mask: '
                         'all or none must')
    return counts


def pad_bags(bags: Sequence[torch.Tensor | None], counts: Sequence[int],
             dtype: torch.dtype) -> torch.Tensor | None:
    """Stack bags (N_i, ...), with zeros behind the ends of the shorter ones.

    The whole row of None is padding. Gives (B, max N_i, ...), of a single
    bag without a copy where the type is the same; None if no bag has a patch
    or a tensor.
    """
    known = [bag for bag in bags if bag is not None]
    if not known or not max(counts):
        return None
    if len(bags) == 1:
        # Nothing to pad: a whole bag may be half a gigabyte.
        return known[0][None].to(dtype)
    padded = known[0].new_zeros(
        (len(bags), max(counts), *known[0].shape[1:]), dtype=dtype)
    for row, bag in zip(padded, bags, strict=True):
        if bag is not None:
            row[:len(bag)] = bag
    return padded
