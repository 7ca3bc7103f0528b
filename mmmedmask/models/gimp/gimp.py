"""GiMP: gene-induced multimodal pre-training (MICCAI 2023).

Jin et al., "Gene-Induced Multimodal Pre-training for Image-Omic
Classification". The authors published no code; what the text leaves open is
listed with our choices in docs/methods/gimp.md.
"""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModel
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmmedmask.models.gimp import gene_cache
from mmmedmask.models.gimp.group_msa import GroupMSA
from mmmedmask.models.gimp.image_text_heads import SlidesAndGenes
from mmmedmask.models.layers.data_samples import class_labels, draw_for_samples
from mmmedmask.models.slide_omic.classifier import (
    GeneEncoderOwner,
    build_part,
    build_preprocessor,
    fill_in_bags,
    freeze_mask_token,
)
from mmmedmask.registry import MODELS
from mmmedmask.util.checks import check_choice, check_seed

MODES = ('loss', 'tensor')


@MODELS.register_module()
class GiMP(GeneEncoderOwner, BaseModel):
    """Reconstruct masked patches, and tell patients apart with their genes.

    Leaving ``mpm_head`` or ``contrast_head`` out makes the rows of Table 2;
    without ``gene_encoder`` the triplets are of images alone. Patients who
    lack slides or genes take no part in the contrast, those with slides do in
    the reconstruction; a batch without any of them has losses of 0.
    :class:`~mmmedmask.models.slide_omic.SlideOmicClassifier` takes
    ``aggregator`` and ``gene_encoder`` over under the same names. A ValueError
    if parts are missing or do not fit each other.

    Args:
        aggregator: Config of a patch aggregator with one vector per slide,
            such as ``mmmedmask.NystromAggregator``.
        gene_encoder: Config of a gene encoder, such as ``mmmedmask.GroupMSA``;
            its ``init_cfg`` loads the first stage. None: no genes.
        mpm_head: Config of ``mmmedmask.MPMHead``; dimensions are filled in.
            None: nothing is masked or reconstructed.
        contrast_head: Config of ``mmmedmask.TripletHead``, or of
            ``mmmedmask.InfoNCEHead``, ``BioViLHead``, ``MGCAHead`` or
            ``REFERSHead``, of which dimensions are filled in. The last three
            train the gene encoder. None: no contrast.
        data_preprocessor: Config of the preprocessor; None is
            ``mmmedmask.SlideOmicDataPreprocessor``.
        freeze_gene_encoder: Whether the gene encoder stays as it is, as in
            the paper: no gradient, never in training mode, and its vectors
            are computed once per patient.
        seed: Seed of ``mining='random'`` and of hidden fragments; None takes
            the run's.
    """

    def __init__(self, aggregator: dict, gene_encoder: dict | None = None,
                 mpm_head: dict | None = None,
                 contrast_head: dict | None = None,
                 data_preprocessor: dict | None = None,
                 freeze_gene_encoder: bool = True, seed: int | None = None,
                 init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(build_preprocessor(data_preprocessor), init_cfg)
        self.aggregator = build_part(aggregator)
        self.set_gene_encoder(gene_encoder, freeze_gene_encoder)
        dims = self.aggregator.embed_dims
        self.mpm_head = build_part(
            mpm_head, in_dims=dims, out_dims=self.aggregator.in_dims)
        if self.mpm_head is None:
            freeze_mask_token(self.aggregator)
        self.contrast_head = build_part(
            contrast_head, **self._contrast_dims(contrast_head))
        self._check_parts()
        self.seed = check_seed(seed)
        self.gene_cache = gene_cache.GeneVectorCache()

    def _contrast_dims(self, head: dict | nn.Module | None) -> dict:
        """Dimensions that a head for pairs of slides and genes takes."""
        if head is None or self.gene_encoder is None:
            return {}
        kind = MODELS.get(head['type']) if isinstance(head, dict) else head
        return {} if kind.uses_labels else dict(
            image_dims=self.aggregator.embed_dims,
            gene_dims=self.gene_encoder.embed_dims)

    def _check_parts(self) -> None:
        genes, contrast = self.gene_encoder, self.contrast_head
        name = type(contrast).__name__
        if getattr(self.aggregator, 'class_wise', False):
            raise ValueError(
                f'{type(self.aggregator).__name__} gives a vector per class, '
                'GiMP needs one vector per slide')
        if getattr(self.aggregator, 'uses_genes', False):
            raise ValueError(
                f'{type(self.aggregator).__name__} looks at genes, GiMP needs '
                'an aggregator of patches alone, such as NystromAggregator')
        if self.mpm_head is None and contrast is None:
            raise ValueError('give mpm_head, contrast_head or both, got '
                             'neither: there is nothing to learn')
        if genes is None:
            if contrast is not None and not contrast.uses_labels:
                raise ValueError(f'{name} contrasts slides with genes and '
                                 'needs a gene_encoder, got None')
        elif contrast is None:
            raise ValueError(
                'only contrast_head looks at genes: without it gene_encoder '
                f'must be None, got {type(genes).__name__}')
        elif contrast.uses_tokens and not isinstance(genes, GroupMSA):
            raise ValueError(f'{name} looks at groups of genes: gene_encoder '
                             f'must be GroupMSA, got {type(genes).__name__}')
        elif contrast.uses_tokens and self.freeze_gene_encoder:
            raise ValueError(f'{name} trains the gene encoder: '
                             'freeze_gene_encoder must be False, got True')

    def forward(self, inputs: dict,
                data_samples: Sequence[DataSample] | None = None,
                mode: str = 'tensor') -> dict:
        """Losses, or with ``mode='tensor'`` vectors, of a batch.

        ``inputs`` are as ``mmmedmask.SlideOmicDataPreprocessor`` gives them;
        see :meth:`loss` and :meth:`extract_feat`.
        """
        run = self.loss if check_choice('mode', mode, MODES) == 'loss' \
            else self.extract_feat
        return run(inputs, data_samples)

    def loss(self, inputs: dict, data_samples: Sequence[DataSample]) -> dict:
        """One training step, Eq. 1 to 4.

        Args:
            inputs: See :meth:`forward`; ``mask`` is needed by ``mpm_head``.
            data_samples: Samples with ``gt_label`` for triplets,
                ``case_id`` for the cache, ``sample_idx`` for
                ``mining='random'`` and hidden fragments.

        Returns:
            ``loss_rec`` and what the contrast gives, such as ``loss_tri``
            with ``tri_active``.

        Raises:
            ValueError: If the pipeline loads no slides, or lacks masks.
        """
        check_slides(inputs, data_samples)
        inputs = self.fill_in(inputs)
        mask = self.mask_of(inputs)  # M, section 2.3
        image, tokens = self.aggregator(inputs['patches'], inputs['valid'],
                                        mask, inputs['coords'])  # Eq. 1, 2
        losses = {}
        if self.mpm_head is not None:
            losses['loss_rec'] = self.mpm_head.loss(
                tokens, inputs['patches'], mask)  # Eq. 3
        if self.contrast_head is not None:
            compare = self.align if self.contrast_head.uses_tokens \
                else self.contrast  # Eq. 4
            losses.update(compare(image, tokens, inputs, data_samples))
        return losses  # of which MMEngine takes the sum, L_pre

    def fill_in(self, inputs: dict) -> dict:
        """Give empty bags if nobody in the batch has slides.

        They take all parameters into the graph, for which distributed
        training waits.
        """
        filled = fill_in_bags(inputs, self.aggregator.in_dims,
                              next(self.aggregator.parameters()).dtype)
        return inputs if filled is inputs else dict(
            filled, mask=filled['valid'])

    def mask_of(self, inputs: dict) -> Tensor | None:
        """Which patches are masked, (B, N), bool; None without ``mpm_head``.

        A ValueError says what the pipeline lacks.
        """
        if self.mpm_head is None:
            return None
        if inputs.get('mask') is None:
            raise ValueError('mpm_head needs masks: the pipeline lacks '
                             'mmmedmask.GenerateSequenceMask')
        return inputs['mask']

    def encode_genes(self, inputs: dict,
                     data_samples: Sequence[DataSample] | None = None
    ) -> Tensor | None:
        """The genes' vectors CLS_ge; patients without genes get those of 0.

        Vectors of a frozen encoder are kept under the samples' ``case_id``. In
        training those that ``mmmedmask.CrossFittedGenesHook`` has given count.
        Gives (B, d'), or None without a gene encoder.
        """
        if self.gene_encoder is None:
            return None
        genes = self.genes_of(inputs)
        if not self.freeze_gene_encoder:
            return self.gene_encoder(genes)
        known = inputs['has_genes'].tolist()
        cases = [sample.get('case_id') if has else gene_cache.WITHOUT_GENES
                 for sample, has in zip(data_samples or [{}] * len(genes),
                                        known, strict=True)]
        return self.gene_cache(self.gene_encoder, genes, cases, self.training)

    def genes_of(self, inputs: dict) -> Tensor:
        """The scaled expression, (B, G); 0 without any in the batch."""
        if inputs.get('genes') is not None:
            return inputs['genes']
        like = inputs['patches']
        return like.new_zeros(len(like), self.gene_encoder.num_genes)

    def align(self, image: Tensor, tokens: Tensor, inputs: dict,
              data_samples: Sequence[DataSample]) -> dict:
        """Compare tokens of slides and of genes; as :meth:`contrast`."""
        draws = self.contrast_head.num_draws(self.gene_encoder)
        return self.contrast_head.loss(
            SlidesAndGenes(
                image, tokens, inputs['valid'], self.genes_of(inputs),
                inputs['has_patches'], inputs['has_genes'],
                draw_for_samples(data_samples, draws, self.seed, 'fragments')
                if draws else None), self.gene_encoder)

    def contrast(self, image: Tensor, tokens: Tensor, inputs: dict,
                 data_samples: Sequence[DataSample]) -> dict:
        """Compare the patients of a batch, those who have all it takes.

        By the slides' vectors CLS_img (B, d); the patches' tokens are not
        used. Gives what the head's ``loss`` gives. A ValueError if a sample
        has no label, or no index to draw from.
        """
        genes = self.encode_genes(inputs, data_samples)  # section 2.1
        whole = inputs['has_patches']
        if genes is not None:
            whole = whole & inputs['has_genes']
        if not self.contrast_head.uses_labels:
            return self.contrast_head.loss(image, genes, whole)
        labels = class_labels(data_samples).to(image.device)
        return self.contrast_head.loss(image, genes, labels.where(whole, -1),
                                       self.draw_triplets(data_samples))

    def draw_triplets(
            self, data_samples: Sequence[DataSample]) -> Tensor | None:
        """What ``mining='random'`` draws from, (B, 2); None for the others."""
        if getattr(self.contrast_head, 'mining', None) != 'random':
            return None
        return draw_for_samples(data_samples, 2, self.seed, 'triplets')

    def extract_feat(self, inputs: dict,
                     data_samples: Sequence[DataSample] | None = None) -> dict:
        """The vectors of whole bags; a mask is not looked at.

        Gives ``image`` (B, d); ``genes`` (B, d'), or None without a gene
        encoder; ``patient``, both side by side. Patients without slides have
        the image vector of an empty bag.
        """
        inputs = self.fill_in(inputs)
        image, _ = self.aggregator(inputs['patches'], inputs['valid'], None,
                                   inputs['coords'])
        genes = self.encode_genes(inputs, data_samples)
        patient = image if genes is None else torch.cat(
            [image, genes.to(image.dtype)], dim=1)
        return dict(image=image, genes=genes, patient=patient)


def check_slides(inputs: dict,
                 data_samples: Sequence[DataSample] | None) -> None:
    """Refuse a pipeline without slides, of which nothing would be learned.

    A batch of patients who have none is not refused.
    """
    if inputs.get('patches') is None and data_samples and not any(
            sample.get('loads_slides', True) for sample in data_samples):
        raise ValueError(
            "GiMP learns from slides, and the pipeline loads none: 'slides' "
            'must be among the modalities of the data set, and '
            'mmmedmask.LoadSlideFeatures in its pipeline')
