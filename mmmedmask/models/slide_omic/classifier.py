"""One classifier for slides, genes or both: a vector of each, fused."""

from collections.abc import Mapping, Sequence
from itertools import compress
from typing import NamedTuple

import torch
from mmpretrain.models.classifiers import BaseClassifier
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmmedmask.models.layers.data_samples import class_labels
from mmmedmask.registry import MODELS
from mmmedmask.util.checks import check_choice

MODES = ('tensor', 'loss', 'predict')
MODALITIES = ('slides', 'genes')


def build_part(part: dict | nn.Module | None,
               **filled_in: int) -> nn.Module | None:
    """Build a part with dimensions that follow from other parts.

    ``filled_in`` are arguments that a config need not name, and attributes
    of the part; a ValueError if it has others.
    """
    if part is None:
        return None
    if not isinstance(part, nn.Module):
        part = MODELS.build({**filled_in, **part})
    for name, value in filled_in.items():
        own = getattr(part, name)
        if own != value:
            raise ValueError(f'{type(part).__name__} has {name}={own}, the '
                             f'parts before it give {value}')
    return part


def freeze_mask_token(aggregator: nn.Module | None) -> None:
    """Do not train the token of an aggregator of which nothing is masked.

    Its gradient would never come, and distributed training waits for it.
    """
    token = getattr(aggregator, 'mask_token', None)
    if token is not None:
        token.requires_grad_(False)


def build_preprocessor(config: dict | nn.Module | None) -> nn.Module:
    """Build a preprocessor, by default that of slides and genes.

    A config without a type, or None, is that of
    ``mmmedmask.SlideOmicDataPreprocessor``.
    """
    if isinstance(config, nn.Module):
        return config
    return MODELS.build(
        dict(type='mmmedmask.SlideOmicDataPreprocessor') | dict(config or {}))


def one_of_inputs(inputs: Mapping) -> Tensor:
    """Take a tensor with a row per patient; a ValueError if there is none."""
    for key in ('patches', 'genes', 'has_genes'):
        if inputs.get(key) is not None:
            return inputs[key]
    raise ValueError('inputs have neither patches nor genes, they have '
                     f'{sorted(inputs)}')


def fill_in_bags(inputs: dict, in_dims: int, dtype: torch.dtype) -> dict:
    """Give patients empty bags if nobody in the batch has slides."""
    if inputs.get('patches') is not None:
        return inputs
    like = one_of_inputs(inputs)
    size = len(like), 0
    return dict(inputs,
                patches=like.new_zeros(*size, in_dims, dtype=dtype),
                valid=like.new_zeros(size, dtype=torch.bool),
                coords=like.new_zeros(*size, 2, dtype=torch.int64))


class GeneEncoderOwner:
    """What models with a ``gene_encoder`` that may be frozen share."""

    def set_gene_encoder(self, config: dict | nn.Module | None,
                         freeze: bool) -> None:
        """Build the encoder; frozen, it has no gradient and never trains."""
        self.gene_encoder = build_part(config)
        self.freeze_gene_encoder = freeze
        if freeze and self.gene_encoder is not None:
            self.gene_encoder.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> nn.Module:
        """Set the training mode; a frozen gene encoder stays out of it."""
        super().train(mode)
        if self.freeze_gene_encoder and self.gene_encoder is not None:
            self.gene_encoder.eval()
        return self


class Encoded(NamedTuple):
    """What the parts of the classifier make of a batch."""

    # The slides' vectors CLS_img, (B, d) or (B, K, d), and the genes' CLS_ge,
    # (B, e); None without the part that makes them.
    image: Tensor | None
    genes: Tensor | None
    patient: Tensor  # The patients' vectors CLS_pat, (B, f) or (B, K, f).
    tokens: Tensor | None  # The patches' tokens, (B, N, d).
    valid: Tensor | None  # (B, N), bool, False = padding; None: no padding.
    # (B, ), bool, False where the model has seen no slide or no genes.
    has_image: Tensor
    has_genes: Tensor


@MODELS.register_module()
class SlideOmicClassifier(GeneEncoderOwner, BaseClassifier):
    """Classify patients by their slides, their gene expression or both.

    The parts that are given decide: an aggregator alone looks at slides, a
    gene encoder alone at genes, and with both (or with an aggregator that
    takes genes itself) the model is image-omic: GiMP's first stage, its
    fine-tuning, and all bag classifiers of its Table 1.

    A patient may lack slides or genes at training and at test. An image-omic
    model replaces the missing vector (see
    :class:`~mmmedmask.models.slide_omic.fusion.Fusion`) and says in
    ``modalities`` what a prediction rests on. A patient with nothing that the
    model looks at is an error, which names the case. A ValueError if the parts
    do not fit each other.

    Args:
        aggregator: Config of a patch aggregator; None: no slides. Its mask
            token is not trained.
        gene_encoder: Config of a gene encoder; None: no genes, unless the
            aggregator takes them.
        fusion: Config of a fusion, used if slides and genes each have a
            vector. None is ``mmmedmask.ConcatFusion``. Dimensions are filled
            in.
        head: Config of a head. ``in_dims`` is filled in.
        data_preprocessor: Config of the preprocessor; None is
            ``mmmedmask.SlideOmicDataPreprocessor``.
        freeze_gene_encoder: Whether the gene encoder stays as it is: no
            gradient, and never in training mode.
    """

    def __init__(self, aggregator: dict | nn.Module | None = None,
                 gene_encoder: dict | nn.Module | None = None,
                 fusion: dict | nn.Module | None = None,
                 head: dict | nn.Module | None = None,
                 data_preprocessor: dict | nn.Module | None = None,
                 freeze_gene_encoder: bool = False,
                 init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(
            init_cfg=init_cfg,
            data_preprocessor=build_preprocessor(data_preprocessor))
        if aggregator is None and gene_encoder is None:
            raise ValueError('give an aggregator, a gene_encoder or both, '
                             'got neither')
        if head is None:
            raise ValueError('head must be the config of a head, got None')
        if freeze_gene_encoder and gene_encoder is None:
            raise ValueError('freeze_gene_encoder=True needs a gene_encoder, '
                             'got None')
        self.aggregator = build_part(aggregator)
        freeze_mask_token(self.aggregator)
        self.set_gene_encoder(gene_encoder, freeze_gene_encoder)
        dims = (self.gene_encoder if aggregator is None
                else self.aggregator).embed_dims
        self.fusion = None
        if aggregator is not None and gene_encoder is not None:
            self.fusion = build_part(
                fusion or dict(type='mmmedmask.ConcatFusion'), image_dims=dims,
                gene_dims=self.gene_encoder.embed_dims)
            dims = self.fusion.out_dims
        self.head = build_part(head, in_dims=dims)
        self._check_head()

    def _check_head(self) -> None:
        aggregator, head = self.aggregator, self.head
        source = type(aggregator or self.gene_encoder).__name__
        wants = getattr(head, 'class_wise', False)
        gives = getattr(aggregator, 'class_wise', False)
        if wants != gives:
            raise ValueError(
                f'{source} gives '
                f'{"a vector per class" if gives else "one vector"}, '
                f'{type(head).__name__} takes '
                f'{"a vector per class" if wants else "one vector"}')
        given, taken = (getattr(part, 'num_classes', None)
                        for part in (aggregator, head))
        if given is not None and given != taken:
            raise ValueError(f'{source} has num_classes={given}, '
                             f'{type(head).__name__} has num_classes={taken}')

    @property
    def uses_slides(self) -> bool:
        """Whether the model looks at slides."""
        return self.aggregator is not None

    @property
    def uses_genes(self) -> bool:
        """Whether the model looks at genes."""
        return self.gene_encoder is not None or getattr(
            self.aggregator, 'uses_genes', False)

    def forward(self, inputs: dict,
                data_samples: Sequence[DataSample] | None = None,
                mode: str = 'tensor') -> Tensor | dict | list[DataSample]:
        """The head's output (B, K), losses, or samples with predictions.

        Args:
            inputs: Batch as the data preprocessor gives it: ``patches``
                (B, N, D), ``valid`` (B, N), ``coords`` (B, N, 2), ``genes``
                (B, G), each of them None or absent if no patient has any,
                and ``has_genes`` (B, ), bool.
            data_samples: Samples; needed for the loss.
            mode: ``'tensor'`` for logits, ``'loss'`` or ``'predict'``.

        Raises:
            ValueError: If a patient has nothing that the model looks at, or
                patches are masked.
        """
        if check_choice('mode', mode, MODES) == 'loss':
            return self.loss(inputs, data_samples)
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        encoded = self.encode(inputs, data_samples)
        logits = self.head(encoded.patient)
        stream = self.second_stream(encoded)
        return logits if stream is None else (logits + stream) / 2

    def loss(self, inputs: dict, data_samples: Sequence[DataSample]) -> dict:
        """The head's losses and those of the aggregator, if it has any.

        Logits of an aggregator's own are trained as the head's are:
        ``loss_instance``, over bags with a patch.
        """
        encoded = self.encode(inputs, data_samples)
        losses = self.head.loss(encoded.patient, data_samples)
        if not hasattr(self.aggregator, 'num_classes'):
            return losses
        labels = class_labels(data_samples, self.aggregator.num_classes).to(
            encoded.tokens.device)
        if hasattr(self.aggregator, 'auxiliary_losses'):
            losses.update(self.aggregator.auxiliary_losses(
                encoded.tokens, encoded.valid, labels))
        if hasattr(self.aggregator, 'instance_logits'):
            stream = self.head.cross_entropy(self.aggregator.instance_logits(
                encoded.tokens, encoded.valid), labels)
            filled = encoded.has_image
            losses['loss_instance'] = self.aggregator.instance_weight * (
                stream * filled).sum() / filled.sum().clamp(min=1)
        return losses

    def predict(self, inputs: dict,
                data_samples: Sequence[DataSample] | None = None
    ) -> list[DataSample]:
        """The head's predictions, and what they rest on.

        Gives the samples (new ones for None) with what the head predicts and
        ``modalities``: ``'slides+genes'``, ``'slides'`` or ``'genes'``. Those
        of patients who have both also have ``slides_hidden`` and
        ``genes_hidden``, samples with what the head predicts without the one
        or the other.
        """
        encoded = self.encode(inputs, data_samples)
        samples = self._predict(encoded, data_samples)
        both = encoded.has_image & encoded.has_genes
        if both.any():
            for name in MODALITIES:
                hidden = self._predict(self.hide(name, inputs, encoded))
                for place in both.nonzero()[:, 0].tolist():
                    samples[place].set_field(hidden[place], f'{name}_hidden')
        return samples

    def _predict(self, encoded: Encoded,
                 data_samples: Sequence[DataSample] | None = None
                 ) -> list[DataSample]:
        stream = self.second_stream(encoded)
        streams = () if stream is None else (stream, )
        samples = self.head.predict(encoded.patient, data_samples, *streams)
        for sample, *has in zip(samples, encoded.has_image.tolist(),
                                encoded.has_genes.tolist(), strict=True):
            sample.modalities = '+'.join(compress(MODALITIES, has))
        return samples

    def hide(self, name: str, inputs: dict, encoded: Encoded) -> Encoded:
        """What the model sees if those who have both lacked one of them.

        ``name`` is ``'slides'`` or ``'genes'``, ``encoded`` what
        :meth:`encode` made of the inputs. Where the aggregator takes no
        genes, its vectors are used again.
        """
        check_choice('name', name, MODALITIES)
        both = encoded.has_image & encoded.has_genes
        has_image, has_genes = encoded.has_image, encoded.has_genes
        if name == 'slides':
            has_image = has_image & ~both
        else:
            has_genes = has_genes & ~both
        if not getattr(self.aggregator, 'uses_genes', False):
            patient = self.fusion(encoded.image, encoded.genes, has_image,
                                  has_genes)
            return encoded._replace(
                patient=patient, has_image=has_image, has_genes=has_genes)
        if name == 'genes':
            return self.encode({**inputs, 'has_genes': has_genes})
        valid = inputs.get('valid')
        if valid is None:
            valid = both.new_ones(inputs['patches'].shape[:2])
        return self.encode({**inputs, 'valid': valid & ~both[:, None]})

    def extract_feat(self, inputs: dict) -> dict:
        """The vectors of slides, genes and patients, for plots.

        Gives ``image`` (B, d), ``genes`` (B, e), each of them None without the
        part that makes it, and ``patient`` (B, f). Aggregators that look at a
        bag once per class have ``image`` and ``patient`` of shape (B, K, ...).
        Rows of patients who lack a modality are what the parts make of an
        empty bag or of mean expression; in ``patient`` they are replaced.
        """
        encoded = self.encode(inputs)
        return dict(image=encoded.image, genes=encoded.genes,
                    patient=encoded.patient)

    def second_stream(self, encoded: Encoded) -> Tensor | None:
        """Logits (B, K) of an aggregator's own classifier, or None.

        A patient without a patch has none; there it is what the head says.
        """
        if not hasattr(self.aggregator, 'instance_logits'):
            return None
        stream = self.aggregator.instance_logits(encoded.tokens, encoded.valid)
        return torch.where(encoded.has_image[:, None], stream,
                           self.head(encoded.patient).to(stream.dtype))

    def encode(self, inputs: dict,
               data_samples: Sequence[DataSample] | None = None) -> Encoded:
        """Vectors of slides and genes, and the patients'.

        A ValueError if a patient has nothing that the model looks at; the
        samples name the case.
        """
        if inputs.get('mask') is not None:
            raise ValueError(
                'a classifier looks at all patches, got some that are masked: '
                'leave mmmedmask.GenerateSequenceMask out of the pipeline')
        inputs, has_image, has_genes = self._present(inputs)
        self._check_present(has_image, has_genes, data_samples)
        patches, valid, genes = (inputs.get(key)
                                 for key in ('patches', 'valid', 'genes'))
        image = tokens = gene_vector = None
        if self.aggregator is not None:
            extra = {}
            if getattr(self.aggregator, 'uses_genes', False):
                extra = dict(genes=genes, has_genes=has_genes)
            image, tokens = self.aggregator(patches, valid, None,
                                            inputs.get('coords'), **extra)
        if self.gene_encoder is not None:
            with torch.set_grad_enabled(torch.is_grad_enabled() and
                                        not self.freeze_gene_encoder):
                gene_vector = self.gene_encoder(genes)
        if self.fusion is not None:
            patient = self.fusion(image, gene_vector, has_image, has_genes)
        else:
            patient = gene_vector if image is None else image
        return Encoded(image, gene_vector, patient, tokens, valid, has_image,
                       has_genes)

    def _present(self, inputs: dict) -> tuple[dict, Tensor, Tensor]:
        """Fill in what no patient of the batch has, so that all parts run."""
        patches, valid, genes, has_genes = map(
            inputs.get, ('patches', 'valid', 'genes', 'has_genes'))
        like = one_of_inputs(inputs)
        nobody = torch.zeros(len(like), dtype=torch.bool, device=like.device)
        has_image = nobody
        if patches is not None and patches.shape[1]:
            has_image = ~nobody if valid is None else valid.any(dim=1)
        if genes is None:
            has_genes = nobody
        elif has_genes is None:
            has_genes = ~nobody
        dtype = next(self.parameters()).dtype
        if self.uses_slides:
            inputs = fill_in_bags(inputs, self.aggregator.in_dims, dtype)
        if self.uses_genes and genes is None:
            part = self.aggregator if self.gene_encoder is None \
                else self.gene_encoder
            inputs = dict(inputs, genes=like.new_zeros(
                len(like), part.num_genes, dtype=dtype))
        return (inputs, has_image if self.uses_slides else nobody,
                has_genes if self.uses_genes else nobody)

    def _check_present(self, has_image: Tensor, has_genes: Tensor,
                       data_samples: Sequence[DataSample] | None) -> None:
        empty = (~(has_image | has_genes)).nonzero()[:, 0].tolist()
        if not empty:
            return
        names = empty if data_samples is None else [
            data_samples[place].get('case_id') for place in empty]
        wants = ' nor '.join(
            compress(MODALITIES, (self.uses_slides, self.uses_genes)))
        raise ValueError(
            f'cases {names} of the batch have no {wants}, there is nothing '
            'to classify: leave them out, for instance by '
            "missing_slides='drop' or missing_genes='drop' of the data set")
