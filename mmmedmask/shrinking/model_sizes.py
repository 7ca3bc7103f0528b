"""Models that a test can afford: narrow and shallow, alike in all stages."""

from collections.abc import Iterable, Mapping, Sequence

from mmengine.config import Config

from mmmedmask.config_files import find_hooks
from mmmedmask.registry import MODELS
from mmmedmask.shrinking.drawn_data import (
    COHORT_GENES,
    RESIZE_SCALE,
    DrawnKind,
)
from mmmedmask.util.nested import nested_dicts

#: Of every transformer. BEiT v2 reads the fourth layer from the end.
DIMS, HEADS, LAYERS = 16, 2, 4
#: Side of views and images of networks with strides up to 32, and with
#: enough patches of 16 or 32 that every masking ratio masks some.
VIEW_SIZE = 96
#: Patches along a side of MSMAE's images.
MSMAE_GRID = 4
MSMAE = ('MSMAE', 'MSMAEClassifier')
SLIDE_MODELS = ('GiMP', 'SlideOmicClassifier')
#: Channels of SETR's heads.
SETR_CHANNELS = 8
#: Models of mmpretrain whose backbone is looked at.
MMPRETRAIN = ('BEiT', 'BYOL', 'DenseCL', 'EVA', 'ImageClassifier', 'MAE',
              'MaskRCNN', 'MoCo', 'SimCLR', 'SparK')
TRANSFORMERS = ('VisionTransformer', 'WindowedViT', 'MAEViT', 'BEiTViT',
                'BEiTPretrainViT', 'BEiTFeatureViT')
#: Parts of Segment Anything, for images of 64 pixels.
SEGMENT_ANYTHING = dict(
    vision_config=dict(
        image_size=64, patch_size=16, hidden_size=DIMS, mlp_dim=2 * DIMS,
        num_hidden_layers=2, num_attention_heads=HEADS, output_channels=DIMS,
        window_size=2, global_attn_indexes=[1], num_pos_feats=DIMS // 2),
    prompt_encoder_config=dict(
        hidden_size=DIMS, image_size=64, patch_size=16, mask_input_channels=4),
    mask_decoder_config=dict(
        hidden_size=DIMS, mlp_dim=2 * DIMS, num_attention_heads=HEADS,
        num_hidden_layers=2, iou_head_depth=2, iou_head_hidden_dim=DIMS))
#: Codes of BEiT v2's tokenizer, and channels of CLIP's features.
CODES, CLIP_DIMS = 32, 8
#: Width of the first stage of a ResNet or Swin transformer; the last has 8
#: times as many, with bottlenecks (ResNet-50 and deeper) 32 times.
STAGE_DIMS = dict(resnet=4, swin=8)
#: Width of projections, and what comes out of them.
HIDDEN, OUT = 16, 8
#: What is known by its key; detectors have few RoIs and small linear layers,
#: a queue a multiple of a shrunk batch, and no fewer than the concepts of one.
KEYS = dict(fc_out_channels=32, nms_pre=50, max_per_img=50, queue_len=64,
            view_size=VIEW_SIZE)
#: Parts of models of slides and genes.
SLIDE_OMIC = dict(
    embed_dims=DIMS, num_heads=HEADS, num_landmarks=6, num_genes=COHORT_GENES,
    num_fragments=8, num_groups=2, hidden_dims=8, attention_dims=8,
    query_dims=8, proj_dims=8, image_dims=DIMS, gene_dims=DIMS)
RUN_LENGTH = 24
#: The least batch that has triplets.
TRIPLET_BATCH = 4
#: What is known by its type. Hooks work on a few images, from the first step
#: on.
KINDS = dict(AttentionMaskHook=dict(begin=0, num_workers=0),
             AttentionPanelHook=dict(num_samples=1, min_side=32),
             BEiTV2Head=dict(embed_dims=DIMS, num_embed=CODES),
             ConCL=dict(warm_up_epochs=0),
             ContrastiveCropHook=dict(begin=0, num_workers=0),
             CrossFittedGenesHook=dict(num_folds=2, max_epochs=1),
             DenseCLHook=dict(start_iters=0),
             # Its defaults need more genes.
             GroupMSA=dict(num_fragments=8, num_groups=2),
             LesionCoverageHook=dict(num_images=2, num_draws=1),
             LoadCheckHook=dict(allow_scratch=True),
             MAEPretrainDecoder=dict(
                 embed_dim=DIMS, decoder_embed_dim=DIMS, decoder_depth=1,
                 decoder_num_heads=HEADS),
             PreciseBNHook=dict(num_batches=2),
             RandomResize=dict(scale=[(128, 64), (128, 96)]),
             Resize=dict(scale=RESIZE_SCALE),
             SegmentAnything=dict(
                 weights=None, architecture=SEGMENT_ANYTHING,
                 points_per_side=4, min_score=0.0, min_stability=0.0),
             SimpleFeaturePyramid=dict(in_channels=DIMS))


def kind_of(node: Mapping | None) -> str:
    """Return the type of a part without its scope."""
    return str((node or {}).get('type')).rpartition('.')[2]


def _family_of(model: Mapping, known: Sequence[str]) -> str:
    """Return which of some models this is, or is a subclass of."""
    bases = getattr(MODELS.get(str(model.get('type'))), '__mro__', ())
    return next((base.__name__ for base in bases if base.__name__ in known),
                kind_of(model))


def tiny_arch() -> dict:
    """Return an architecture for any transformer."""
    # BEiTV2Neck reads the depth by another name.
    return dict(embed_dims=DIMS, num_layers=LAYERS, depth=LAYERS,
                num_heads=HEADS, feedforward_channels=2 * DIMS)


def detach_model(model: Mapping) -> None:
    """Let a model's config build on one CPU, without weights to load."""
    for node in nested_dicts(model):
        if node.get('type') == 'SyncBN':
            node['type'] = 'BN'
        if any(part.get('type') == 'Pretrained'
               for part in nested_dicts(node.get('init_cfg'))):
            node['init_cfg'] = None
        if node.get('pretrained') is not None:
            node['pretrained'] = None
        if node.get('compile_encoder'):
            node['compile_encoder'] = False


def shrink_model(cfg: Config) -> None:
    """Make the model of a config, and what its loaders deliver, small."""
    model = cfg.model
    detach_model(model)
    kind = _family_of(model, (*MSMAE, *MMPRETRAIN, *SLIDE_MODELS))
    backbone = model.get('backbone') or {}
    loaders = [cfg.get(f'{split}_dataloader')
               for split in ('train', 'val', 'test')]
    if kind_of(backbone) == 'MSMAEViT':
        _shrink_msmae(model)
    if kind in MMPRETRAIN and kind_of(backbone) in TRANSFORMERS:
        _shrink_transformer(model)
    if kind == 'MoCoV3':
        backbone.arch = tiny_arch()
        _set_width(model, DIMS)
    # Small configs have a small one already, with other windows.
    if kind_of(backbone).endswith('SwinTransformer') \
            and isinstance(backbone.arch, str):
        dims = STAGE_DIMS['swin']
        backbone.arch = dict(
            embed_dims=dims, depths=[2, 2, 2, 2], num_heads=[1, 1, 2, 2])
        _set_width(model, 8 * dims)
    # Detectors inherit the others, at their full width.
    if kind_of(backbone) == 'ResNet' and kind in MMPRETRAIN \
            and kind_of(cfg.train_dataloader.dataset) == 'LabelledImages':
        dims = STAGE_DIMS['resnet']
        backbone.update(stem_channels=dims, base_channels=dims)
        _set_width(model, dims * (8 if backbone.depth < 50 else 32))
    if 'input_size' in model:
        model.input_size = VIEW_SIZE
    if kind in SLIDE_MODELS:
        _shrink_slide_omic(cfg)
    side = None
    if kind in MSMAE:
        side = MSMAE_GRID * backbone.patch_size
    elif kind in MMPRETRAIN and kind_of(backbone).endswith('ResNet'):
        side = VIEW_SIZE
    _shrink_parts(nested_dicts([
        model, *loaders, *find_hooks(cfg).values(),
        cfg.get('tta_pipeline')]), side)


def _shrink_parts(parts: Iterable[dict], side: int | None) -> None:
    """Shrink what is known by key or type, and images if there is a side."""
    for part in parts:
        kind = kind_of(part)
        part.update({key: size for key, size in KEYS.items() if key in part},
                    **KINDS.get(kind, {}))
        if kind == 'RandomSampler' and 'num' in part:
            part['num'] = 16
        elif side is not None and kind in (
                'ContrastiveCrop', 'RandomResizedCrop', 'ResizeImage'):
            part['scale'] = side


def _shrink_msmae(model: dict) -> None:
    """Give MSMAE's encoder one shape in pre-training, classifier and SETR."""
    backbone, head = model.backbone, model.get('head') or {}
    backbone.update(
        arch=tiny_arch(), img_size=MSMAE_GRID * backbone.patch_size)
    if model.get('decode_head') is not None:
        backbone.out_indices = tuple(range(LAYERS))[
            -len(backbone.out_indices):]
        for part in nested_dicts(
                [model.decode_head, model.get('auxiliary_head')]):
            if 'in_channels' in part:
                part.update(in_channels=DIMS, channels=SETR_CHANNELS)
    if model.get('neck') is not None:
        model.neck.update(embed_dims=DIMS, num_layers=1, num_heads=HEADS)
    if 'in_channels' in head:
        head['in_channels'] = DIMS


def _shrink_transformer(model: dict) -> None:
    model.backbone.arch = tiny_arch()
    neck, head = model.get('neck') or {}, model.get('head') or {}
    if neck.get('type') == 'BEiTV2Neck':
        neck.backbone_arch = tiny_arch()
    if 'in_channels' in head:
        head.in_channels = DIMS
    for node in nested_dicts(model):
        if node.get('type') == 'CLIPGenerator':
            neck.predict_feature_dim = CLIP_DIMS
        if node.get('type') == 'VQKD':
            node.update(num_embed=CODES)
            node['encoder_config']['arch'] = tiny_arch()


def _set_width(model: dict, width: int) -> None:
    """Fit neck and head to a backbone with another width."""
    for part in (model.get('neck'), model.get('head')):
        if part is not None and 'in_channels' in part:
            part['in_channels'] = width
        for node in nested_dicts(part):
            if 'hid_channels' in node:
                node.update(hid_channels=HIDDEN, out_channels=OUT)
                if node is not part:
                    node['in_channels'] = OUT
    if 'feat_dim' in model:
        model['feat_dim'] = OUT


def _shrink_slide_omic(cfg: Config) -> None:
    """Make a model of slides and genes narrow, with short runs of patches."""
    for part in nested_dicts(cfg.model):
        for key in SLIDE_OMIC.keys() & part.keys():
            size = part[key]
            if isinstance(size, (list, tuple)):
                part[key] = [SLIDE_OMIC[key]] * len(size)
            elif size is not None:
                part[key] = SLIDE_OMIC[key]
    loader = cfg.train_dataloader
    if cfg.model.get('aggregator') is not None:
        cfg.model.aggregator.in_dims = DrawnKind.wanted_by(
            loader.dataset, cfg.model).cohort_dims
    if kind_of(loader.get('batch_sampler')) == 'ClassBalancedBatchSampler':
        loader.batch_size = TRIPLET_BATCH
    for transform in nested_dicts(loader.dataset.pipeline):
        if kind_of(transform) == 'ContiguousSubsequence':
            transform['length'] = RUN_LENGTH
