"""One tensor per training image, such as its attention map.

Buffers of the model would travel with its weights, and be averaged by EMA.
"""

from collections.abc import Sequence

import torch

from mmmedmask.engine.attention.whole_images import ImageIndex

VERSION = 1


class ImageStore:
    """Tensors of the images of a training set, float16 in CPU memory.

    Attributes:
        values: Shape (N, ...), float16, in the order of ``images.keys``;
            None before the first are made. Rows of files that could not be
            read are NaN.
        epoch: Epoch before which they were made; None before that.
    """

    def __init__(self, images: ImageIndex, name: str = 'maps') -> None:
        self.images = images
        self.name = name
        self.values: torch.Tensor | None = None
        self.epoch: int | None = None

    def __len__(self) -> int:
        return len(self.images.keys)

    @property
    def is_filled(self) -> bool:
        """Whether there are values."""
        return self.values is not None

    def fill(self, values: torch.Tensor, epoch: int) -> None:
        """Replace all values by those made before ``epoch``, one per image."""
        if len(values) != len(self):
            raise ValueError(f'{self.name} must have shape ({len(self)}, '
                             f'...), got {tuple(values.shape)}')
        self.values = values.to(device='cpu', dtype=torch.float16)
        self.epoch = epoch

    def lookup(self, img_path: str) -> torch.Tensor | None:
        """Get a copy of the value of an image; None if there is none."""
        row = self.images.rows.get(img_path)
        if self.values is None or row is None:
            return None
        value = self.values[row].clone()
        return None if value.isnan().any() else value

    def gather(self, img_paths: Sequence[str]) -> torch.Tensor:
        """Get copies for B images, (B, ...); a ValueError says which lacks."""
        values = {path: self.lookup(path) for path in img_paths}
        for path, value in values.items():
            if value is None:
                reason = ('its file could not be read when they were made'
                          if path in self.images.rows else
                          f'it is not among the {len(self)} images of the '
                          'training set')
                raise ValueError(f'{path} has no attention map: {reason}')
        return torch.stack([values[path] for path in img_paths])

    def state_dict(self) -> dict:
        """Collect what a checkpoint needs: tensors and plain data."""
        return {'version': VERSION, 'fingerprint': self.images.fingerprint,
                'epoch': self.epoch, 'keys': list(self.images.keys),
                self.name: self.values}

    def why_not(self, state: dict) -> str | None:
        """Say why a saved state does not fit this store; None if it does."""
        if state.get('version') != VERSION:
            return (f'they have version {state.get("version")!r}, supported '
                    f'is {VERSION}')
        if state.get('fingerprint') != self.images.fingerprint:
            there = f'{len(state["keys"])} there, ' if 'keys' in state else ''
            return (f'they belong to another set of images ({there}'
                    f'{len(self)} here; what counts are the paths relative '
                    'to the data root)')
        return None

    def load_state_dict(self, state: dict) -> None:
        """Take the values of a saved state that fits, see :meth:`why_not`."""
        self.fill(state[self.name], state['epoch'])
