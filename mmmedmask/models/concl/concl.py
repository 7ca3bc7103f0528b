"""ConCL: concept contrastive learning (ECCV 2022).

Yang et al., "ConCL: Concept Contrastive Learning for Dense Prediction
Pre-training in Pathology Images". MoCo v2, whose instances become concepts:
clusters of the momentum encoder's features of a view that holds both crops.
"""

import torch
import torch.nn.functional as F
from mmengine.dist import get_world_size
from mmengine.model import ExponentialMovingAverage
from mmpretrain.models.selfsup.base import BaseSelfSupervisor
from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS
from torch import Tensor, nn

from mmmedmask.functional import concepts
from mmmedmask.models.concl.batch_shuffle import (
    shuffle_batch,
    unshuffle_batch,
)
from mmmedmask.models.concl.key_queue import KeyQueue
from mmmedmask.models.layers.data_samples import run_info
from mmmedmask.registry import MODELS
from mmmedmask.util.checks import check_integer, check_range


@MODELS.register_module()
class ConCL(BaseSelfSupervisor):
    """Contrast the concepts that two views of a tile share.

    Args:
        backbone: Query encoder. Its first output is clustered (a ResNet's
            ``layer3``), its last is contrasted (``layer4``): with mmpretrain
            ``out_indices=(2, 3)``.
        neck: From pooled features to keys, as ``MoCoV2Neck`` with
            ``with_avg_pool=False``. Without BatchNorm: concepts that only
            one view shows pass through it, too, and count for nothing.
        head: A :class:`~mmmedmask.models.concl.ConCLHead`.
        data_preprocessor: Options of
            :class:`~mmmedmask.models.concl.ConCLDataPreprocessor`.
        queue_len: Keys in each of the two queues, at least as many as all
            ranks have concepts in a step.
        feat_dims: Length of a key.
        momentum: What the momentum encoder takes of the query encoder at
            each step: 0.001 is what MoCo calls 0.999.
        num_concepts: Clusters per tile, at most as many as the clustered
            map has cells.
        concept_weight: Weight of the concepts, in [0, 1]; the rest is that
            of the instances. With 1 they count in the warm-up only.
        warm_up_epochs: Epochs of an epoch-based loop in which the instances
            alone count, as in MoCo, until the features are worth clustering.

    Raises:
        ValueError: If an argument is outside its range; in the first step,
            if there are more concepts than the map or the queue takes, or
            if :meth:`check_epochs` has not been asked and refuses.
    """

    #: What data preprocessors without a type are.
    default_preprocessor = 'mmmedmask.ConCLDataPreprocessor'

    def __init__(self, backbone: dict, neck: dict, head: dict,
                 data_preprocessor: dict | None = None, queue_len: int = 16384,
                 feat_dims: int = 128, momentum: float = 0.001,
                 num_concepts: int = 8, kmeans_iterations: int = 10,
                 concept_weight: float = 1.0, warm_up_epochs: int = 20,
                 init_cfg: dict | None = None) -> None:
        check_range('momentum', momentum, 0, 1, True, True)
        super().__init__(
            backbone=backbone, neck=neck, head=head, init_cfg=init_cfg,
            data_preprocessor=MMPRETRAIN_MODELS.build(
                dict(type=self.default_preprocessor) |
                dict(data_preprocessor or {})))
        # It copies the query encoder at the first step.
        self.key_encoder = ExponentialMovingAverage(
            nn.Sequential(self.backbone, self.neck), momentum)
        self.instance_queue = KeyQueue(queue_len, feat_dims)
        self.concept_queue = KeyQueue(queue_len, feat_dims)
        self.num_concepts = check_integer('num_concepts', num_concepts)
        self.kmeans_iterations = check_integer('kmeans_iterations',
                                               kmeans_iterations)
        self.concept_weight = check_range('concept_weight', concept_weight,
                                          0, 1)
        self.warm_up_epochs = check_integer('warm_up_epochs', warm_up_epochs,
                                            low=0)

    def check_epochs(self, max_epochs: int) -> None:
        """Raise a ValueError if the warm-up takes all epochs; 0 is unknown."""
        if 0 < max_epochs <= self.warm_up_epochs and self.concept_weight:
            raise ValueError(
                f'warm_up_epochs {self.warm_up_epochs} leaves the concepts '
                f'none of {max_epochs} epochs (a loop of iterations counts as '
                'one): it must be below that, e.g. --cfg-options '
                f'model.warm_up_epochs={max_epochs // 10}')

    @property
    def warming_up(self) -> bool:
        """Whether instances alone count; a ValueError if they always would."""
        self.check_epochs(run_info('max_epochs'))
        return run_info('epoch') < self.warm_up_epochs

    def loss(self, inputs: dict, data_samples: list | None = None) -> dict:
        """One training step, with what the data preprocessor makes.

        Gives ``loss``, and its parts ``instance_nce`` and, after the warm-up,
        ``concept_nce`` and ``concept_pairs``, the mean number of shared
        concepts (MMEngine adds up whatever has "loss" in its name).
        """
        query_map = self.encode(self.backbone, inputs['query'])[-1]
        key_map, reference_map = self.encode_keys(inputs)
        with torch.autocast(query_map.device.type, enabled=False):
            instance = self.contrast_instances(query_map, key_map)  # MoCo
            losses = dict(loss=instance, instance_nce=instance.detach())
            if self.warming_up:
                return losses
            labels = self.find_concepts(reference_map, data_samples)
            concept, pairs = self.contrast_concepts(query_map, key_map,
                                                    labels, inputs)
            weight = self.concept_weight
            loss = weight * concept + (1 - weight) * instance
        return losses | dict(loss=loss, concept_nce=concept.detach(),
                             concept_pairs=pairs)

    def encode(self, encoder: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
        """Feature maps of images, out of autocast's reduced precision."""
        dtype = next(encoder.parameters()).dtype
        return tuple(level.to(dtype) for level in encoder(images))

    @torch.no_grad()
    def encode_keys(self, inputs: dict) -> tuple[Tensor, Tensor | None]:
        """Advance the momentum encoder and let it see its views.

        Keys are shuffled over the ranks, as in MoCo; the reference, with
        which nothing is contrasted, is not. Gives the key's map that is
        contrasted and the reference's that is clustered, (B, channels, h, w);
        None for this in the warm-up.
        """
        self.key_encoder.update_parameters(
            nn.Sequential(self.backbone, self.neck))
        encoder = self.key_encoder.module[0]
        shuffled, order = shuffle_batch(inputs['key'],
                                        self.data_preprocessor.seed)
        key_maps = self.encode(encoder, shuffled)
        self.check_concepts(key_maps[0])
        key_map = unshuffle_batch(key_maps[-1], order)
        if self.warming_up:
            return key_map, None
        return key_map, self.encode(encoder, inputs['reference'])[0]

    def check_concepts(self, first_map: Tensor) -> None:
        """Raise a ValueError if concepts cannot work, not after the warm-up.

        ``first_map`` (B, channels, h, w) of a view is as large as the one of
        the reference that is clustered.
        """
        height, width = first_map.shape[-2:]
        check_integer(f'num_concepts (of a map of {height} x {width} cells)',
                      self.num_concepts, 1, height * width)
        self.concept_queue.check_room(
            get_world_size() * len(first_map) * self.num_concepts)

    def embed(self, neck: nn.Module, features: Tensor) -> Tensor:
        """Project pooled features (N, C) to unit length, (N, D)."""
        return F.normalize(neck((features, ))[0], dim=1)

    def contrast_instances(self, query_map: Tensor, key_map: Tensor) -> Tensor:
        """MoCo's loss of whole views (B, C, h, w); then queue their keys."""
        query = self.embed(self.neck, query_map.mean(dim=(2, 3)))
        key = self.embed(self.key_encoder.module[1], key_map.mean(dim=(2, 3)))
        loss = self.head.loss(query, key, self.instance_queue.keys)
        self.instance_queue.enqueue(key)
        return loss

    @torch.no_grad()
    def find_concepts(self, reference_map: Tensor,
                      data_samples: list) -> Tensor:
        """Cluster each reference view to concepts in [0, K), (B, h, w).

        The cells at which the clusters start follow from the seed of the
        run, the iteration and the sample's index.
        """
        height, width = reference_map.shape[-2:]
        uniform = self.data_preprocessor.draw(data_samples, height * width,
                                              stream='concepts')
        start = concepts.random_cells(uniform, self.num_concepts)
        labels, _ = concepts.cosine_kmeans(
            reference_map.flatten(2).mT, start.to(reference_map.device),
            self.kmeans_iterations)
        return labels.view(-1, height, width)

    def contrast_concepts(self, query_map: Tensor,
                          key_map: Tensor, labels: Tensor,
                          inputs: dict) -> tuple[Tensor, Tensor]:
        """The loss of the concepts that both views of a tile show.

        Both maps are (B, C, h, w), ``labels`` of the reference (B, H, W).
        Gives the loss and the mean number of such concepts, scalars.
        """
        shared, vectors = True, []
        for features, view, neck in (
                (query_map, 'query', self.neck),
                (key_map, 'key', self.key_encoder.module[1])):
            carried = concepts.carry_labels(labels, self.num_concepts,
                                            inputs[f'theta_{view}'],
                                            tuple(features.shape[-2:]))
            prototypes, present = concepts.pool_labels(features, carried,
                                                       self.num_concepts)
            shared = present & shared
            vectors.append(self.embed(neck, prototypes.flatten(0, 1)))
        query, key = vectors
        loss = self.head.loss(query, key, self.concept_queue.keys,
                              shared.flatten())
        self.concept_queue.enqueue(key, shared.flatten())
        return loss, shared.to(loss.dtype).sum(dim=1).mean()
