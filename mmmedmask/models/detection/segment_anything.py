"""Segment Anything as an instance segmenter: Table 6 of CMIM's paper.

Kirillov et al., "Segment Anything", ICCV 2023, by the network of the package
transformers. It is not trained: the paper asks it with points on a grid, with
the centre of each true box and with the true boxes themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement, InstanceData
from torch import Tensor

from mmmedmask.functional.masking import boxes_of_masks
from mmmedmask.registry import MODELS
from mmmedmask.util.checks import check_choice, check_integer, check_range
from mmmedmask.util.extras import import_extra

PROMPTS = ('automatic', 'point', 'box')
#: Where the weights of each size come from, on the Hugging Face Hub.
SOURCES = ('facebook/sam-vit-huge', 'facebook/sam-vit-large',
           'facebook/sam-vit-base')
_FILES = ('config.json', 'preprocessor_config.json')


@MODELS.register_module()
class SegmentAnything(BaseModel):
    """Masks of one class, each with SAM's own guess of its IoU as score.

    Boxes are those around the masks. Images come one at a time or in
    batches, at their own size: SAM resizes them itself.

    Args:
        weights: Folder with ``config.json``, ``preprocessor_config.json``
            and ``model.safetensors``, as :data:`SOURCES` have them. None
            draws random weights of ``architecture``.
        prompts: ``'automatic'`` (a grid of points, with SAM's own filters),
            ``'point'`` (the centre of each true box; of three masks the one
            of the best score) or ``'box'`` (each true box).
        min_score: Automatic masks with a lower guess of the IoU are left
            out, in [0, 1]; SAM's default.
        min_stability: So are masks that change with the threshold of their
            logits: IoU between one above and one below, in [0, 1].
        architecture: Parts of transformers' ``SamConfig``, only without
            ``weights``.
        data_preprocessor: mmdet's, with ``bgr_to_rgb`` and without a mean.

    Raises:
        FileNotFoundError: If the folder or one of its files is missing.
        ModuleNotFoundError: If transformers is not installed.
        ValueError: If an argument is outside its range.
    """

    def __init__(self, weights: str | None, prompts: str = 'automatic',
                 points_per_side: int = 32, prompts_per_batch: int = 64,
                 min_score: float = 0.88, min_stability: float = 0.95,
                 architecture: Mapping | None = None,
                 data_preprocessor: dict | None = None) -> None:
        super().__init__(data_preprocessor)
        self.prompts = check_choice('prompts', prompts, PROMPTS)
        self.points_per_side = check_integer('points_per_side',
                                             points_per_side)
        self.prompts_per_batch = check_integer('prompts_per_batch',
                                               prompts_per_batch)
        self.min_score = check_range('min_score', min_score, 0, 1)
        self.min_stability = check_range('min_stability', min_stability, 0, 1)
        if (weights is None) == (architecture is None):
            raise ValueError('either weights or architecture must be given, '
                             f'got weights={weights!r} and architecture='
                             f'{architecture!r}')
        transformers = import_extra('transformers', 'sam', 'SegmentAnything')
        reader = transformers.SamImageProcessor
        if weights is None:
            self.sam = transformers.SamModel(
                transformers.SamConfig(**architecture))
            side = self.sam.config.vision_config.image_size
            self.image_processor = reader(
                size=dict(longest_edge=side),
                pad_size=dict(height=side, width=side))
        else:
            _check_folder(Path(weights))
            self.sam = transformers.SamModel.from_pretrained(
                weights, local_files_only=True, use_safetensors=True)
            self.image_processor = reader.from_pretrained(
                weights, local_files_only=True)
        self.processor = transformers.SamProcessor(self.image_processor)

    @torch.no_grad()
    def forward(self, inputs: Tensor, data_samples: Sequence[BaseDataElement],
                mode: str = 'predict') -> Sequence[BaseDataElement]:
        """Add ``pred_instances`` to mmdet's samples; there is no training.

        Images (B, 3, H, W) are RGB in [0, 255], padded at the bottom and on
        the right. Prompts that are true points or boxes need
        ``gt_instances.bboxes``. A ValueError names an image that was resized:
        true boxes would lie elsewhere.
        """
        check_choice('mode', mode, ('predict', ))
        for pixels, sample in zip(inputs, data_samples, strict=True):
            height, width = sample.img_shape
            if tuple(sample.get('ori_shape', sample.img_shape)) != (
                    height, width):
                raise ValueError(
                    f'SegmentAnything resizes images itself, got one of '
                    f'{sample.ori_shape} at {sample.img_shape}: take Resize '
                    'out of the pipeline')
            image = pixels[:, :height, :width].round().clamp(0, 255).byte()
            image = image.permute(1, 2, 0).cpu().numpy()
            if self.prompts == 'automatic':
                masks, scores = self.segment_everything(image)
            else:
                boxes = sample.gt_instances.bboxes
                masks, scores = self.segment_boxes(
                    image, getattr(boxes, 'tensor', boxes))
            sample.pred_instances = InstanceData(
                masks=masks, scores=scores, bboxes=boxes_of_masks(masks),
                labels=torch.zeros(len(masks), dtype=torch.long,
                                   device=masks.device))
        return data_samples

    def segment_everything(self, image: np.ndarray) -> tuple[Tensor, Tensor]:
        """Find masks by a grid of points, as :meth:`segment_boxes` does."""
        from PIL import Image
        from transformers import MaskGenerationPipeline
        generate = MaskGenerationPipeline(
            model=self.sam, image_processor=self.image_processor,
            device=self.sam.device)
        output = generate(
            Image.fromarray(image), points_per_batch=self.prompts_per_batch,
            points_per_crop=self.points_per_side,
            pred_iou_thresh=self.min_score,
            stability_score_thresh=self.min_stability)
        masks = [torch.as_tensor(np.asarray(mask), dtype=torch.bool)
                 for mask in output['masks']]
        if not masks:
            return self._no_masks(image)
        return (torch.stack(masks).to(self.sam.device),
                torch.as_tensor(output['scores']).to(self.sam.device))

    def segment_boxes(self, image: np.ndarray,
                      boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Find the mask of each true box, or of its centre.

        ``image`` is uint8 RGB (H, W, 3); boxes (N, 4) are (x1, y1, x2, y2)
        in pixels. Gives masks (N, H, W), bool, and their scores (N, ).
        """
        if not len(boxes):
            return self._no_masks(image)
        device = self.sam.device
        pixels = self.processor(image, return_tensors='pt').to(device)
        embeddings = self.sam.get_image_embeddings(pixels['pixel_values'])
        masks, scores = [], []
        for part in boxes.float().cpu().split(self.prompts_per_batch):
            centres = (part[:, :2] + part[:, 2:]) / 2
            asked = (dict(input_boxes=[part.tolist()]) if self.prompts == 'box'
                     else dict(input_points=[centres[:, None].tolist()]))
            inputs = self.processor(image, return_tensors='pt', **asked)
            sizes = [inputs.pop(name) for name in (
                'original_sizes', 'reshaped_input_sizes')]
            del inputs['pixel_values']
            output = self.sam(image_embeddings=embeddings,
                              multimask_output=self.prompts == 'point',
                              **inputs.to(device, torch.float32))
            candidates = self.image_processor.post_process_masks(
                output.pred_masks.cpu(), *sizes)[0]
            values = output.iou_scores[0].cpu()
            best = values.argmax(dim=1)
            rows = torch.arange(len(best))
            masks.append(candidates[rows, best])
            scores.append(values[rows, best])
        return torch.cat(masks).to(device), torch.cat(scores).to(device)

    def _no_masks(self, image: np.ndarray) -> tuple[Tensor, Tensor]:
        masks = torch.zeros(0, *image.shape[:2], device=self.sam.device)
        return masks.bool(), masks[:, 0, 0]


def _check_folder(folder: Path) -> None:
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if not list(folder.glob('*.safetensors')):
        missing.append('model.safetensors')
    if missing:
        raise FileNotFoundError(
            f'{folder} lacks {", ".join(missing)}: download the folder of '
            f'one of {", ".join(SOURCES)} from the Hugging Face Hub, for '
            f'example with `hf download {SOURCES[0]} --local-dir {folder}`')
