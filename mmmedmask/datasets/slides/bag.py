"""All slides of a patient as one bag of patches."""

from collections.abc import Sequence

import torch

from mmmedmask.datasets.slides.feature_readers import SlideFeatures


class SlideBag:
    """Slides one behind the other, read a slice at a time.

    Rows are counted through all slides. Coordinates stay those of each
    slide, so that patches of different slides can have the same.

    Attributes:
        slides: The slides.
        lengths: Number of patches of each.
        num_patches: Number of all patches N.
        dims: Size of a feature D.

    Args:
        slides: The slides, at least one.

    Raises:
        ValueError: If there is no slide, or features differ in size.
    """

    def __init__(self, slides: Sequence[SlideFeatures]) -> None:
        if not slides:
            raise ValueError('a bag needs at least one slide, got none')
        for slide in slides:
            if slide.dims != slides[0].dims:
                raise ValueError(
                    f'{slides[0].path} holds features of size '
                    f'{slides[0].dims} (encoder {slides[0].encoder}), '
                    f'{slide.path} of size {slide.dims} (encoder '
                    f'{slide.encoder}): one bag takes one encoder')
        self.slides = tuple(slides)
        self.lengths = [len(slide) for slide in slides]
        self.num_patches = sum(self.lengths)
        self.dims = slides[0].dims

    def __len__(self) -> int:
        return self.num_patches

    @property
    def has_coords(self) -> bool:
        """Whether all slides have coordinates."""
        return all(slide.has_coords for slide in self.slides)

    def coords(self) -> list[torch.Tensor]:
        """Coordinates of each slide, int64 of shape (N_i, 2).

        Raises:
            ValueError: If a slide has none.
        """
        for slide in self.slides:
            if not slide.has_coords:
                raise ValueError(
                    f'{slide.path} ({slide.layout}) has no coordinates')
        return [slide.coords for slide in self.slides]

    def take(self, rows: torch.Tensor) -> torch.Tensor:
        """Read chosen rows, in any order and more than once.

        Args:
            rows: int64 of shape (R, ), counted through all slides.

        Returns:
            float32 of shape (R, D).

        Raises:
            ValueError: If a row is out of range.
        """
        if len(self.slides) == 1:
            return self.slides[0].take(rows)
        if len(rows) and not 0 <= int(rows.min()) <= int(
                rows.max()) < self.num_patches:
            raise ValueError(
                f'Rows {int(rows.min())} to {int(rows.max())} are out of '
                f'range for {self.num_patches} patches')
        taken = torch.empty(len(rows), self.dims)
        start = 0
        for slide in self.slides:
            inside = ((rows >= start)
                      & (rows < start + len(slide))).nonzero().flatten()
            if len(inside):
                taken[inside] = slide.take(rows[inside] - start)
            start += len(slide)
        return taken
