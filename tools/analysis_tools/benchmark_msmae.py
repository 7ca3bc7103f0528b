"""Time MSMAE against full tokens and against MAE, in one run.

    python tools/analysis_tools/benchmark_msmae.py

Figures are the ratios of forward and backward of fine-tuning on all and on
visible tokens, and of pre-training with MSMAE and with mmpretrain's MAE, also
with the refreshes of the maps counted in; the parts of MSMAE's pre-training
step, measured inside of it; and the floating-point operations that torch
counts. Test time is not compared: it uses all tokens, with MSMAE and without.
"""

import argparse
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import benchmarking as bench

from mmmedmask.util.run_tool import run_tool

GOAL_FINETUNE = bench.Goal(3.9, at_least=True)
GOAL_FINETUNE_REFRESHED = bench.Goal(3.4, at_least=True)
GOAL_PRETRAIN = bench.Goal(0.78)
GOAL_REFRESH_SHARE = bench.Goal(0.02)
NUM_CLASSES = 4
# The paper's schedules: epochs, first refresh, epochs between two.
FINETUNE_INTERVAL = 20
PRETRAIN_EPOCHS, PRETRAIN_BEGIN, PRETRAIN_INTERVAL = 300, 40, 40


def build_models(arch: str, size: int, patch_size: int) -> dict:
    """Build the classifiers and the algorithms around one ViT.

    Returns:
        Model by name: ``masked`` and ``full`` fine-tuning, ``msmae`` and
        ``mae`` pre-training.
    """
    from mmengine.registry import init_default_scope
    from mmpretrain.registry import MODELS

    # Loads mmpretrain's models, which do not load beside every transformers.
    from mmmedmask.models.msmae import MSMAEViT
    init_default_scope('mmpretrain')
    dims = MSMAEViT.arch_zoo[arch]['embed_dims']
    shape = dict(arch=arch, img_size=size, patch_size=patch_size)
    head = dict(type='LinearClsHead', num_classes=NUM_CLASSES,
                in_channels=dims,
                loss=dict(type='LabelSmoothLoss', label_smooth_val=.1,
                          mode='original'))
    pooled = dict(out_type='avg_featmap', final_norm=False, **shape)
    configs = dict(
        masked=dict(
            type='mmmedmask.MSMAEClassifier',
            backbone=dict(
                type='mmmedmask.MSMAEViT', fixed_pos_embed=False, **pooled),
            head=head),
        full=dict(type='ImageClassifier',
                  backbone=dict(type='VisionTransformer', **pooled),
                  head=head),
        msmae=dict(
            type='mmmedmask.MSMAE',
            backbone=dict(type='mmmedmask.MSMAEViT', **shape),
            neck=dict(type='mmmedmask.MSMAEDecoder'),
            head=dict(type='mmmedmask.MSMAEHead', num_classes=NUM_CLASSES)),
        mae=dict(
            type='MAE',
            data_preprocessor=dict(type='SelfSupDataPreprocessor'),
            backbone=dict(type='MAEViT', mask_ratio=0.75, **shape),
            neck=dict(
                type='MAEPretrainDecoder', num_patches=(size // patch_size)**2,
                patch_size=patch_size, embed_dim=dims, decoder_embed_dim=512,
                decoder_depth=8, decoder_num_heads=16),
            head=dict(
                type='MAEPretrainHead', patch_size=patch_size,
                loss=dict(type='PixelReconstructionLoss', criterion='L2'))))
    return {name: MODELS.build(config).train()
            for name, config in configs.items()}


def make_batch(args: argparse.Namespace) -> tuple:
    """Make random images and samples with random maps."""
    import torch
    from mmpretrain.structures import DataSample
    torch.manual_seed(0)
    grid = args.size // args.patch_size
    images = torch.randn(
        args.batch_size, 3, args.size, args.size).to(args.device)
    samples = []
    for index in range(args.batch_size):
        sample = DataSample(
            metainfo=dict(img_path=f'{index}.png', sample_idx=index,
                          crop_box=(0.1, 0.2, 0.9, 0.8), flip=index % 2 == 0,
                          flip_direction='horizontal'))
        sample.set_gt_label(index % NUM_CLASSES)
        sample.set_field(torch.rand(grid, grid).half(), 'attention_map',
                         field_type='data')
        samples.append(sample.to(args.device))
    return images, samples


def make_steps(models: dict, parts: bench.Parts,
               args: argparse.Namespace) -> dict:
    """Make what is timed: forward and backward of each, and the maps."""
    import torch
    images, samples = make_batch(args)

    def autocast():
        return torch.autocast(images.device.type, torch.bfloat16) \
            if args.bf16 else nullcontext()

    def train(name: str) -> Callable[[], None]:
        model = models[name].to(args.device)

        def step() -> None:
            model.zero_grad()
            with autocast():
                losses = model.loss(images, samples)
            sum(value for key, value in losses.items()
                if 'loss' in key).backward()

        return step

    def maps() -> None:
        with torch.inference_mode(), autocast():
            models['msmae'].attention_maps(images)

    steps = {name: train(name) for name in models}
    for owner, name in (('backbone', 'encoder'), ('neck', 'decoder')):
        parts.mark(getattr(models['msmae'], owner), 'forward', name)
    steps['msmae'] = parts.around(steps['msmae'])
    return dict(**steps, maps=maps)


def measure(args: argparse.Namespace) -> list[bench.Figure]:
    """Take turns, and compare times and operations."""
    clock = bench.make_clock(args.device)
    parts = bench.Parts(clock)
    steps = make_steps(build_models(args.arch, args.size, args.patch_size),
                       parts, args)
    flops = {name: bench.count_operations(step) / args.batch_size
             for name, step in steps.items()}
    turns = bench.take_turns(steps, args.rounds, args.warmup, clock)
    rounds = list(zip(*map(turns.values, (
        'masked', 'full', 'msmae', 'mae', 'maps')), strict=True))
    refreshes = len(range(PRETRAIN_BEGIN, PRETRAIN_EPOCHS, PRETRAIN_INTERVAL))

    def share(own: float, mae: float, maps: float) -> float:
        # Until the first maps, masking is that of MAE.
        training = (PRETRAIN_BEGIN * mae
                    + (PRETRAIN_EPOCHS - PRETRAIN_BEGIN) * own)
        return refreshes * maps / (training + refreshes * maps)

    figures = [
        bench.figure_of('fine-tuning, all / visible tokens',
                        turns.ratios('full', 'masked'), GOAL_FINETUNE),
        bench.figure_of('the same with maps made every '
                        f'{FINETUNE_INTERVAL} epochs',
                        [full / (masked + maps / FINETUNE_INTERVAL)
                         for masked, full, _, _, maps in rounds],
                        GOAL_FINETUNE_REFRESHED),
        bench.figure_of('pre-training step, MSMAE / MAE',
                        turns.ratios('msmae', 'mae'), GOAL_PRETRAIN),
        bench.figure_of(f'share of {refreshes} refreshes in {PRETRAIN_EPOCHS} '
                        'epochs of pre-training',
                        [share(*times) for _, _, *times in rounds],
                        GOAL_REFRESH_SHARE)]
    for what, over, under in (
            ('fine-tuning, all / visible tokens', 'full', 'masked'),
            ('pre-training step, MSMAE / MAE', 'msmae', 'mae')):
        figures.append(bench.figure_of(f'operations, {what}',
                                       [flops[over] / flops[under]]))
    for name in turns:
        figures += [
            bench.figure_of(f'operations, {name}', [flops[name] / 1e9],
                            unit='GFLOP per image'),
            bench.figure_of(f'{name} step', [
                1e3 * value / args.batch_size for value in turns.values(name)],
                unit='ms per image')]
    figures += bench.speeds(
        'MSMAE pre-training', turns.values('msmae'), args.batch_size,
        flops['msmae'] * args.batch_size, args.peak_tflops)
    return figures + [
        bench.figure_of(f'share of {name} in MSMAE pre-training step',
                        [100 * value for value in values], unit='%')
        for name, values in parts.shares(args.rounds).items()]


def main(argv: Sequence[str] | None = None) -> None:
    parser = bench.make_parser(__doc__, peak=True)
    parser.add_argument('--arch', default='base')
    parser.add_argument('--batch-size', type=int, default=8)
    parser.add_argument('--size', type=int, default=224)
    parser.add_argument('--patch-size', type=int, default=16)
    parser.add_argument('--bf16', action='store_true')
    args = parser.parse_args(argv)
    machine = bench.set_up(
        args, f'ViT {args.arch}', f'patch {args.patch_size}',
        f'batch {args.batch_size}', f'{args.size} px',
        'bfloat16' if args.bf16 else 'float32')
    bench.report(measure(args), args, machine)


if __name__ == '__main__':
    run_tool(main)
