"""One attention map per training image, kept outside the model.

Maps are derived from training images: as buffers they would travel with
published weights, be averaged by EMA and broadcast by DDP.
"""

from collections.abc import Sequence

import torch

from mmmedmask.engine.attention.whole_images import ImageIndex

VERSION = 1


class AttentionMapStore:
    """Maps of the images of a training set, float16 in CPU memory.

    Args:
        images: The images.

    Attributes:
        maps: Shape (N, rows, columns), float16, in the order of ``keys``;
            None before the first maps are made. Rows of files that could not
            be read are NaN.
        epoch: Epoch before which the maps were made; None before that.
        fingerprint: Hash of the keys: maps fit a store with the same one.
    """

    def __init__(self, images: ImageIndex) -> None:
        self._images = images
        self.maps: torch.Tensor | None = None
        self.epoch: int | None = None
        self.fingerprint = images.fingerprint

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def keys(self) -> tuple[str, ...]:
        """Sorted keys of the images, see :class:`ImageIndex`."""
        return self._images.keys

    @property
    def is_filled(self) -> bool:
        """Whether there are maps."""
        return self.maps is not None

    def fill(self, maps: torch.Tensor, epoch: int) -> None:
        """Replace all maps.

        Args:
            maps: Shape (N, rows, columns), on any device, in the order of
                ``keys``.
            epoch: Epoch before which they were made.

        Raises:
            ValueError: If there is not one map per image.
        """
        if maps.ndim != 3 or len(maps) != len(self):
            raise ValueError(f'maps must have shape ({len(self)}, rows, '
                             f'columns), got {tuple(maps.shape)}')
        self.maps = maps.to(device='cpu', dtype=torch.float16)
        self.epoch = epoch

    def lookup(self, img_path: str) -> torch.Tensor | None:
        """Get the map of an image.

        Args:
            img_path: Path as in the sample's metainfo.

        Returns:
            A copy, shape (rows, columns), float16; None if there is none.
        """
        row = self._images.row(img_path)
        if self.maps is None or row is None:
            return None
        one = self.maps[row].clone()
        return None if one.isnan().any() else one

    def gather(self, img_paths: Sequence[str]) -> torch.Tensor:
        """Get the maps of several images.

        Args:
            img_paths: Paths as in the samples' metainfo, B of them.

        Returns:
            A copy, shape (B, rows, columns), float16.

        Raises:
            ValueError: If there is none for an image.
        """
        if self.maps is None:
            raise ValueError('there are no attention maps yet')
        rows = [self._images.row(path) for path in img_paths]
        maps = self.maps[[-1 if row is None else row for row in rows]]
        unusable = maps.isnan().flatten(1).any(dim=1).tolist()
        for path, row, missing in zip(img_paths, rows, unusable, strict=True):
            if row is None or missing:
                reason = ('its file could not be read when they were made'
                          if missing and row is not None else
                          f'it is none of the {len(self)} images of the '
                          'training set')
                raise ValueError(f'{path} has no attention map: {reason}')
        return maps

    def state_dict(self) -> dict:
        """Collect what a checkpoint needs: tensors and plain data.

        Returns:
            ``version``, ``fingerprint``, ``epoch``, ``keys`` and ``maps``.
        """
        return dict(
            version=VERSION,
            fingerprint=self.fingerprint,
            epoch=self.epoch,
            keys=list(self.keys),
            maps=self.maps)

    def why_not(self, state: dict) -> str | None:
        """Say why a saved state does not fit this store.

        Args:
            state: What :meth:`state_dict` returned, with or without ``keys``
                and ``maps``.

        Returns:
            The reason; None if it fits.
        """
        if state.get('version') != VERSION:
            return (f'they have version {state.get("version")!r}, supported '
                    f'is {VERSION}')
        if state.get('fingerprint') != self.fingerprint:
            there = f'{len(state["keys"])} there, ' if 'keys' in state else ''
            return (f'they belong to another set of images ({there}'
                    f'{len(self)} here; what counts are the paths relative '
                    'to the data root)')
        return None

    def load_state_dict(self, state: dict) -> None:
        """Take the maps of a saved state.

        Args:
            state: What :meth:`state_dict` returned.

        Raises:
            ValueError: If it does not fit, see :meth:`why_not`.
        """
        reason = self.why_not(state)
        if reason:
            raise ValueError(f'the attention maps do not fit: {reason}')
        self.fill(state['maps'], state['epoch'])
