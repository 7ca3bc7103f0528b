"""Time CMIM against plain supervision and SparK, in one run on one machine.

    python tools/analysis_tools/benchmark_cmim.py --device cpu --threads 2

Prints the time of a training step (data preprocessor, forward, backward and
optimizer) of each, their ratios, the share of CMIM's time in views, encoder,
warp, decoder and the rest, the tiles per second whose views are drawn
without colours, with them, and with stains besides, and the tiles per second
and core that the loader delivers. The steps take turns, so that a machine
whose speed drifts treats them alike; figures are medians over the rounds.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

GOAL_PLAIN = 1.5
GOAL_SPARK = 2.9
GOAL_LOADER = 2000


def build_models(size: int, channels_last: bool) -> dict:
    """Build the three models around one ResNet-18."""
    import torch
    from mmengine.registry import init_default_scope
    from mmpretrain.registry import MODELS

    import mmmedmask  # noqa: F401
    init_default_scope('mmpretrain')
    normalise = dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
    cmim = dict(
        type='mmmedmask.CMIM',
        data_preprocessor=dict(view_size=size, color=dict()),
        backbone=dict(
            type='mmmedmask.CMIMResNet', depth=18, zero_init_residual=False),
        neck=dict(type='mmmedmask.CMIMNeck'),
        head=dict(type='mmmedmask.CMIMHead'),
        channels_last=channels_last)
    plain = dict(
        type='ImageClassifier',
        data_preprocessor=dict(type='ClsDataPreprocessor', **normalise),
        backbone=dict(type='ResNet', depth=18),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=9, in_channels=512,
                  loss=dict(type='CrossEntropyLoss')))
    # SparK as mmpretrain configures it, with the widths of a ResNet-18.
    spark = dict(
        type='SparK',
        input_size=size,
        downsample_raito=32,
        mask_ratio=0.6,
        enc_dec_norm_cfg=dict(type='SparseBatchNorm2d'),
        enc_dec_norm_dim=512,
        data_preprocessor=dict(type='SelfSupDataPreprocessor', **normalise),
        backbone=dict(type='SparseResNet', depth=18, out_indices=(0, 1, 2, 3),
                      drop_path_rate=0.05,
                      norm_cfg=dict(type='SparseBatchNorm2d')),
        neck=dict(type='SparKLightDecoder', feature_dim=512, upsample_ratio=32,
                  mid_channels=0, norm_cfg=dict(type='BN'), last_act=False),
        head=dict(type='SparKPretrainHead',
                  loss=dict(type='PixelReconstructionLoss', criterion='L2')))
    models = {
        name: MODELS.build(config).train()
        for name, config in dict(cmim=cmim, plain=plain, spark=spark).items()}
    if channels_last:
        models['plain'].to(memory_format=torch.channels_last)
    return models


def make_batch(name: str, batch_size: int, size: int) -> dict:
    """Make a batch of random uint8 tiles as each model's loader gives it."""
    import torch
    from mmpretrain.structures import DataSample
    generator = torch.Generator().manual_seed(0)
    tiles = [
        torch.randint(
            0, 256, (3, size, size), dtype=torch.uint8, generator=generator)
        for _ in range(batch_size)]
    samples = [DataSample(metainfo=dict(sample_idx=index))
               for index in range(batch_size)]
    for index, sample in enumerate(samples):
        sample.set_gt_label(index % 9)
    return dict(inputs=torch.stack(tiles) if name == 'spark' else tiles,
                data_samples=samples)


def make_step(model, batch: dict, bf16: bool) -> Callable[[], None]:
    """Make a function that takes one training step."""
    import torch
    from mmengine.optim import OptimWrapper

    from mmmedmask.engine import Bfloat16OptimWrapper
    optimizer = torch.optim.SGD(
        model.parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4)
    wrapper = (Bfloat16OptimWrapper if bf16 else OptimWrapper)(optimizer)
    device = next(model.parameters()).device

    def step() -> None:
        model.train_step(batch, wrapper)
        synchronise(device)

    return step


def synchronise(device) -> None:
    """Wait for a GPU."""
    import torch
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def seconds(function: Callable[[], None]) -> float:
    """Time one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def measure_steps(models: dict, args: argparse.Namespace) -> dict:
    """Time the steps in turns."""
    steps = {
        name: make_step(model, make_batch(name, args.batch_size, args.size),
                        args.bf16)
        for name, model in models.items()}
    for step in steps.values():
        for _ in range(args.warmup):
            step()
    times = {name: [] for name in steps}
    for _ in range(args.rounds):
        for name, step in steps.items():
            times[name].append(seconds(step))
    return times


def measure_parts(model, args: argparse.Namespace) -> dict:
    """Time the parts of a CMIM step, forward and backward.

    Each part is run by itself on what the part before it gave.
    """
    import torch

    from mmmedmask.functional.affine import relative_theta
    device = next(model.parameters()).device
    batch = make_batch('cmim', args.batch_size, args.size)
    autocast = (
        torch.autocast(device.type, torch.bfloat16)
        if args.bf16 else nullcontext())
    inputs = model.data_preprocessor(batch, True)['inputs']
    theta = relative_theta(inputs['theta_query'], inputs['theta_key'])

    def leaves(maps: tuple) -> tuple:
        return tuple(level.detach().requires_grad_() for level in maps)

    with autocast:
        embeddings = leaves(model.encode(inputs['query'], inputs['mask']))
        warped = leaves(
            model.neck.warp(embeddings, theta, inputs['separable']))

    def views() -> None:
        model.data_preprocessor(batch, True)

    def backward(outputs) -> None:
        torch.autograd.backward(outputs,
                                [torch.ones_like(map_) for map_ in outputs])

    def encoder() -> None:
        with autocast:
            maps = model.encode(inputs['query'], inputs['mask'])
        backward(maps)

    def warp() -> None:
        with autocast:
            maps = model.neck.warp(embeddings, theta, inputs['separable'])
        backward(maps)

    def decoder() -> None:
        with autocast:
            prediction = model.neck(warped)
        backward([prediction])

    parts = dict(views=views, encoder=encoder, warp=warp, decoder=decoder)
    times = {}
    for name, part in parts.items():
        rounds = []
        for index in range(args.warmup + args.rounds):
            model.zero_grad()
            for leaf in (*embeddings, *warped):
                leaf.grad = None
            synchronise(device)

            def timed(part=part) -> None:
                part()
                synchronise(device)

            duration = seconds(timed)
            if index >= args.warmup:
                rounds.append(duration)
        times[name] = statistics.median(rounds)
    return times


def measure_views(args: argparse.Namespace) -> dict:
    """Count the tiles per second whose two views are drawn."""
    from mmmedmask.models.cmim import CMIMDataPreprocessor
    batch = make_batch('cmim', args.batch_size, args.size)
    speeds = {}
    for name, color in (('no colours', None), ('colours', dict()),
                        ('colours and stains', dict(stain_prob=1))):
        preprocessor = CMIMDataPreprocessor(
            view_size=args.size, color=color).to(args.device)

        def draw(preprocessor=preprocessor) -> None:
            preprocessor(batch, True)
            synchronise(preprocessor.mean.device)

        draw()
        best = min(seconds(draw) for _ in range(args.rounds))
        speeds[name] = args.batch_size / best
    return speeds


def measure_loader(args: argparse.Namespace) -> dict:
    """Count the tiles per second that one core reads, decodes and packs."""
    import cv2
    import numpy as np
    from mmengine.dataset import pseudo_collate

    from mmmedmask.datasets import TileFolder
    cv2.setNumThreads(1)
    pixels = np.random.default_rng(0)
    speeds = {}
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ('tif', 'png', 'jpg'):
            root = Path(folder) / suffix
            root.mkdir()
            for index in range(args.tiles):
                # Smooth noise compresses about as tissue does.
                tile = pixels.integers(0, 256, (56, 56, 3), dtype=np.uint8)
                tile = cv2.resize(tile, (224, 224))
                options = [cv2.IMWRITE_TIFF_COMPRESSION, 1
                           ] if suffix == 'tif' else []
                cv2.imwrite(str(root / f'{index}.{suffix}'), tile, options)
            dataset = TileFolder(
                str(root),
                pipeline=[dict(type='mmmedmask.LoadTile', in_channels=3),
                          dict(type='mmmedmask.PackTile')])

            def read(dataset=dataset) -> None:
                for start in range(0, len(dataset), 32):
                    stop = min(start + 32, len(dataset))
                    pseudo_collate(
                        [dataset[index] for index in range(start, stop)])

            read()
            best = min(seconds(read) for _ in range(args.rounds))
            speeds[suffix] = args.tiles / best
    return speeds


def report(times: dict, parts: dict, views: dict, loader: dict,
           args: argparse.Namespace) -> str:
    """Put the figures into text."""
    lines = []
    per_tile = {name: 1e3 * statistics.median(values) / args.batch_size
                for name, values in times.items()}
    for name, value in per_tile.items():
        lines.append(f'{name:8s} {value:8.2f} ms per tile and step')
    for name, goal, above in (('plain', GOAL_PLAIN, False),
                              ('spark', GOAL_SPARK, True)):
        if name not in times:
            continue
        pairs = zip(times['cmim'], times[name], strict=True)
        ratios = [other / own if above else own / other
                  for own, other in pairs]
        ratio = statistics.median(ratios)
        reached = ratio >= goal if above else ratio <= goal
        what = 'SparK / CMIM' if above else 'CMIM / plain'
        lines.append(
            f'{what}: {ratio:.2f} (rounds {min(ratios):.2f} to '
            f'{max(ratios):.2f}; goal {"at least" if above else "at most"} '
            f'{goal}: {"reached" if reached else "missed"})')
    whole = per_tile['cmim'] / 1e3 * args.batch_size
    lines.append('share of a CMIM step:')
    rest = whole - sum(parts.values())
    for name, value in dict(**parts, rest=rest).items():
        lines.append(f'  {name:8s} {100 * value / whole:5.1f} %')
    for name, speed in views.items():
        lines.append(f'views, {name}: {speed:,.0f} tiles per second')
    for suffix, speed in loader.items():
        lines.append(f'loader, {suffix}: {speed:,.0f} tiles per second and '
                     f'core (goal for decoding: {GOAL_LOADER:,})')
    return '\n'.join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--batch-size', type=int, default=16)
    parser.add_argument('--size', type=int, default=224)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--warmup', type=int, default=1)
    parser.add_argument(
        '--tiles', type=int, default=512, help='files the loader reads')
    parser.add_argument(
        '--threads', type=int, default=0, help='CPU threads, 0: all cores')
    parser.add_argument('--bf16', action='store_true')
    parser.add_argument('--channels-last', action='store_true')
    parser.add_argument('--skip-spark', action='store_true')
    args = parser.parse_args(argv)

    import torch
    from mmengine.logging import MMLogger
    MMLogger.get_instance('mmengine', log_level='ERROR')
    if args.threads:
        torch.set_num_threads(args.threads)
    models = build_models(args.size, args.channels_last)
    if args.skip_spark:
        del models['spark']
    for model in models.values():
        model.to(args.device)
    print(f'{args.device}, {torch.get_num_threads()} threads, '
          f'torch {torch.__version__}, batch {args.batch_size}, '
          f'{args.size} px, {"bfloat16" if args.bf16 else "float32"}'
          f'{", channels last" if args.channels_last else ""}')
    loader = measure_loader(args)
    times = measure_steps(models, args)
    parts = measure_parts(models['cmim'], args)
    print(report(times, parts, measure_views(args), loader, args))


if __name__ == '__main__':
    main()
