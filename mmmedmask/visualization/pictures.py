"""From files and normalised tensors to pictures that a screen can show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from mmmedmask.util.input_units import input_units

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

SHOWN_AS_THEY_ARE = (1, 3)


@dataclass(frozen=True)
class PictureUnits:
    """How normalised images are turned back into 8-bit RGB pictures.

    Attributes:
        mean: What the data preprocessor subtracted, one value per channel,
            in stored units.
        window: Stored values that become black and white, e.g. (0, 255) for
            8 bits; microscopes often fill only a part of 16.
        channels: Channels to show: one as gray, three as red, green and
            blue. None shows images with one or three channels as they are.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    window: tuple[float, float] = (0.0, 255.0)
    channels: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std):
            raise ValueError('mean and std need one value per channel, got '
                             f'{len(self.mean)} and {len(self.std)} values')
        if not self.window[0] < self.window[1]:
            raise ValueError('window must be (black, white) with black < '
                             f'white, got {self.window}')
        available = len(self.mean)
        if self.channels is None:
            if available not in SHOWN_AS_THEY_ARE:
                raise ValueError(
                    f'images with {available} channels have no colours of '
                    'their own: name one (gray) or three (red, green, blue) '
                    f'of 0 to {available - 1} in channels')
        elif len(self.channels) not in SHOWN_AS_THEY_ARE or not all(
                0 <= channel < available for channel in self.channels):
            raise ValueError('channels must name one or three channels of 0 '
                             f'to {available - 1}, got {self.channels}')

    @classmethod
    def from_preprocessor(
            cls, preprocessor: torch.nn.Module,
            channels: Sequence[int] | None = None,
            window: Sequence[float] | None = None,
            config: Mapping | None = None) -> 'PictureUnits':
        """Take the units from a data preprocessor.

        With the ``config`` of its data, see
        :func:`~mmmedmask.util.input_units.input_units`. Without a ``window``
        it is (0, ``data_range``), and where no range is known, from the least
        to the largest ``mean`` -+ 2 ``std`` of the channels.
        """
        units = input_units(preprocessor, config)
        if window is None and units.data_range is None:
            ends = [center + 2 * sign * width for sign in (-1, 1)
                    for center, width in zip(units.mean, units.std,
                                             strict=True)]
            window = (min(ends), max(ends))
        elif window is None:
            window = (0.0, units.data_range)
        if channels is None and units.bgr:
            channels = (2, 1, 0)
        return cls(mean=units.mean, std=units.std, window=tuple(window),
                   channels=None if channels is None else tuple(channels))

    def to_pictures(self, images: torch.Tensor) -> np.ndarray:
        """Turn normalised images (B, C, H, W) into uint8 RGB (B, H, W, 3).

        Values that are not finite become black.
        """
        images = images.detach().float().cpu()
        shape = (1, -1, 1, 1)
        stored = (images * torch.tensor(self.std).view(shape) +
                  torch.tensor(self.mean).view(shape))
        if self.channels is not None:
            stored = stored[:, list(self.channels)]
        black, white = self.window
        shown = ((stored - black) / (white - black)).nan_to_num(0, 0, 0)
        shown = shown.clamp(0, 1).mul(255).round().byte()
        if shown.shape[1] == 1:
            shown = shown.expand(-1, 3, -1, -1)
        return shown.permute(0, 2, 3, 1).contiguous().numpy()


def legend_beside(figure: 'Figure', handles: Mapping[str, 'Artist'],
                  fontsize: float = 9) -> None:
    """Put a legend at the right of a figure, and widen the figure for it.

    The axes keep their width, however long the labels of ``handles`` are. The
    figure has the layout ``'constrained'``.
    """
    if handles:
        legend = figure.legend(
            handles.values(), handles.keys(), loc='outside right upper',
            frameon=False, fontsize=fontsize)
        figure.set_figwidth(figure.get_figwidth() +
                            legend.get_window_extent().width / figure.dpi)


def picture_of(image: Path | np.ndarray) -> np.ndarray:
    """Give a file or an array (H, W, C) as RGB that a screen can show, uint8.

    Values of more than 8 bits are spread from the least to the largest.

    Example:
        >>> picture_of(np.full((2, 2, 1), 7, 'uint8')).shape
        (2, 2, 3)
    """
    from mmmedmask.datasets.image_io import read_image
    pixels = read_image(image) if isinstance(image, Path) else image
    if pixels.dtype != np.uint8:
        low, high = float(pixels.min()), float(pixels.max())
        pixels = ((pixels - low) * (255 / max(high - low, 1e-9))).round(
        ).astype(np.uint8)
    # Gray may have alpha.
    return np.ascontiguousarray(
        pixels[..., :3] if pixels.shape[2] > 2 else pixels[..., [0, 0, 0]])


def draw_figure(figure: 'Figure') -> np.ndarray:
    """Draw a figure of matplotlib, uint8 RGB of shape (H, W, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
