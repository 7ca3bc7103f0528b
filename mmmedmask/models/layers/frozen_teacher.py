"""A downloaded network that makes targets and never learns."""

from pathlib import Path

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmmedmask.registry import MODELS
from mmmedmask.util.nested import split_init


@MODELS.register_module()
class FrozenTeacher(BaseModule):
    """Wrap a target generator: fixed weights, always in evaluation mode.

    mmpretrain's tokenizer and CLIP are trained on otherwise: their parameters
    reach the optimiser without a gradient, and in training mode VQKD moves its
    codebook with every batch. A ValueError if ``teacher`` names no file, and a
    FileNotFoundError if the file does not exist; says ``source``.

    Args:
        teacher: Config of the target generator. The file of its weights is
            what its ``tokenizer_path`` names, or its ``init_cfg`` of type
            ``Pretrained``.
        source: Where this file comes from, for those who do not have it.
    """

    def __init__(self, teacher: dict, source: str) -> None:
        super().__init__()
        path = _weights_of(teacher)
        if '://' not in path and not Path(path).expanduser().is_file():
            raise FileNotFoundError(
                f'there are no weights {path!r} (working folder '
                f'{str(Path.cwd())!r}) for the teacher {teacher["type"]}. '
                f'They come from: {source}')
        self.teacher = MODELS.build(teacher)
        for parameter in self.teacher.parameters():
            parameter.requires_grad_(False)
        self.teacher.eval()

    def train(self, mode: bool = True) -> nn.Module:
        """Set the mode of this module; the teacher stays in evaluation."""
        super().train(mode)
        self.teacher.eval()
        return self

    @torch.no_grad()
    def forward(self, images: Tensor) -> object:
        """Make targets of images (B, C, H, W), normalised as it needs them."""
        return self.teacher(images)


def _weights_of(teacher: dict) -> str:
    loaded, _ = split_init(teacher.get('init_cfg'))
    named = teacher.get('tokenizer_path') or next(
        (entry.get('checkpoint') for entry in loaded), None)
    if not named:
        raise ValueError(
            "teacher must name a file in 'tokenizer_path' or in an init_cfg "
            f"of type 'Pretrained', got {dict(teacher)}")
    return str(named)
