"""Time MSMAE against full tokens and against MAE, in one run.

    python tools/analysis_tools/benchmark_msmae.py --device cpu --threads 2

Prints the time of forward and backward of fine-tuning on visible tokens and
on all tokens, of pre-training with MSMAE and with mmpretrain's MAE, and of
making attention maps; their ratios, also with the refreshes of the maps
counted in; and the floating-point operations that torch counts. The steps
take turns, so that a machine whose speed drifts treats them alike; figures
are medians over the rounds. Test time is not compared: it uses all tokens,
with MSMAE and without.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext

GOAL_FINETUNE = 3.7
GOAL_FINETUNE_REFRESHED = 3.4
GOAL_PRETRAIN = 0.80
GOAL_REFRESH_SHARE = 0.02
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
    from mmpretrain.models import VisionTransformer
    from mmpretrain.registry import MODELS

    import mmmedmask  # noqa: F401
    init_default_scope('mmpretrain')
    dims = VisionTransformer.arch_zoo[arch]['embed_dims']
    shape = dict(arch=arch, img_size=size, patch_size=patch_size)
    head = dict(
        type='LinearClsHead',
        num_classes=NUM_CLASSES,
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


def make_steps(models: dict, args: argparse.Namespace) -> dict:
    """Make what is timed: forward and backward of each, and the maps."""
    import torch
    images, samples = make_batch(args)

    def autocast():
        return torch.autocast(images.device.type, torch.bfloat16) \
            if args.bf16 else nullcontext()

    def train(name: str) -> Callable[[], None]:
        model = models[name]

        def step() -> None:
            model.zero_grad()
            with autocast():
                losses = model.loss(images, samples)
            sum(value for key, value in losses.items()
                if 'loss' in key).backward()
            synchronise(images.device)

        return step

    def maps() -> None:
        with torch.inference_mode(), autocast():
            models['msmae'].attention_maps(images)
        synchronise(images.device)

    return dict(masked=train('masked'), full=train('full'),
                msmae=train('msmae'), mae=train('mae'), maps=maps)


def synchronise(device) -> None:
    """Wait for a GPU."""
    import torch
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def measure(steps: dict, args: argparse.Namespace) -> dict:
    """Time the steps in turns."""
    for step in steps.values():
        for _ in range(args.warmup):
            step()
    times = {name: [] for name in steps}
    for _ in range(args.rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    return times


def count_flops(steps: dict, args: argparse.Namespace) -> dict:
    """Count floating-point operations per image with torch's counter."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode
    counts = {}
    for name, step in steps.items():
        # The counter knows no backward pass of the CPU's fused attention.
        with sdpa_kernel(SDPBackend.MATH), \
                FlopCounterMode(display=False) as counter:
            step()
        counts[name] = counter.get_total_flops() / args.batch_size
    return counts


def ratio_line(what: str, ratios: list[float], goal: float,
               at_least: bool) -> str:
    """One line of the report."""
    ratio = statistics.median(ratios)
    reached = ratio >= goal if at_least else ratio <= goal
    return (f'{what}: {ratio:.3f} (rounds {min(ratios):.3f} to '
            f'{max(ratios):.3f}; goal {"at least" if at_least else "at most"} '
            f'{goal}: {"reached" if reached else "missed"})')


def report(times: dict, flops: dict, args: argparse.Namespace) -> str:
    """Put the figures into text."""
    lines = []
    for name, values in times.items():
        milliseconds = 1e3 * statistics.median(values) / args.batch_size
        lines.append(f'{name:7s} {milliseconds:9.2f} ms and '
                     f'{flops[name] / 1e9:8.3f} GFLOP per image')
    pairs = list(zip(times['masked'], times['full'], times['msmae'],
                     times['mae'], times['maps'], strict=True))
    lines += [ratio_line('fine-tuning, all tokens / visible tokens',
                         [full / masked for masked, full, *_ in pairs],
                         GOAL_FINETUNE, True),
              ratio_line(
                  f'the same with maps made every {FINETUNE_INTERVAL} epochs',
                  [full / (masked + maps / FINETUNE_INTERVAL)
                   for masked, full, _, _, maps in pairs],
                  GOAL_FINETUNE_REFRESHED, True),
              ratio_line('pre-training, MSMAE / MAE',
                         [own / mae for _, _, own, mae, _ in pairs],
                         GOAL_PRETRAIN, False)]
    refreshes = len(range(PRETRAIN_BEGIN, PRETRAIN_EPOCHS, PRETRAIN_INTERVAL))
    shares = []
    for _, _, own, mae, maps in pairs:
        # Until the first maps, masking is that of MAE.
        training = (PRETRAIN_BEGIN * mae
                    + (PRETRAIN_EPOCHS - PRETRAIN_BEGIN) * own)
        shares.append(refreshes * maps / (training + refreshes * maps))
    lines.append(ratio_line(
        f'share of {refreshes} refreshes in {PRETRAIN_EPOCHS} epochs of '
        'pre-training', shares, GOAL_REFRESH_SHARE, False))
    for what, one, other in (('fine-tuning, all / visible', 'full', 'masked'),
                             ('pre-training, MSMAE / MAE', 'msmae', 'mae')):
        lines.append(f'operations, {what}: {flops[one] / flops[other]:.3f}')
    return '\n'.join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--arch', default='base')
    parser.add_argument('--batch-size', type=int, default=8)
    parser.add_argument('--size', type=int, default=224)
    parser.add_argument('--patch-size', type=int, default=16)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--warmup', type=int, default=1)
    parser.add_argument(
        '--threads', type=int, default=0, help='CPU threads, 0: all cores')
    parser.add_argument('--bf16', action='store_true')
    args = parser.parse_args(argv)

    import torch
    from mmengine.logging import MMLogger
    MMLogger.get_instance('mmengine', log_level='ERROR')
    if args.threads:
        torch.set_num_threads(args.threads)
    models = build_models(args.arch, args.size, args.patch_size)
    for model in models.values():
        model.to(args.device)
    print(f'{args.device}, {torch.get_num_threads()} threads, '
          f'torch {torch.__version__}, ViT {args.arch}, patch '
          f'{args.patch_size}, batch {args.batch_size}, {args.size} px, '
          f'{"bfloat16" if args.bf16 else "float32"}')
    steps = make_steps(models, args)
    flops = count_flops(steps, args)
    print(report(measure(steps, args), flops, args))


if __name__ == '__main__':
    main()
