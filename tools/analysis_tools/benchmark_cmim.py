"""Time CMIM against plain supervision and SparK, in one run on one machine.

    python tools/analysis_tools/benchmark_cmim.py

A step is data preprocessor, forward, backward and optimizer. Figures are the
ratios of the steps, the shares of CMIM's parts, measured inside of these
steps, and how many tiles a second get their two views without colours, with
them, and with stains besides. In bfloat16 the models are channels-last, and
there is no SparK (but see --layouts); a CPU without its instructions is spared
it unless --precisions asks for it.
"""

import sys
from collections.abc import Callable, Sequence

import benchmarking as bench

from mmmedmask.util.run_tool import run_tool

PRECISIONS = ('float32', 'bfloat16')
GOALS_PLAIN = dict(float32=bench.Goal(1.4), bfloat16=bench.Goal(1.6))
GOAL_SPARK = bench.Goal(3.3, at_least=True)
# Methods of the model's modules ('' is the model) that make up a part.
PARTS = (('data_preprocessor', 'forward', 'views'), ('', 'encode', 'encoder'),
         ('neck', 'warp', 'warp'), ('neck', 'combine', 'decoder'),
         ('neck', 'decode', 'decoder'))


def build_models(size: int, channels_last: bool,
                 compiled: bool = False) -> dict:
    """Build the three models around one ResNet-18."""
    import torch
    from mmengine.registry import init_default_scope
    from mmpretrain.registry import MODELS

    import mmmedmask  # noqa: F401
    init_default_scope('mmpretrain')
    normalise = dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
    cmim = dict(type='mmmedmask.CMIM',
                data_preprocessor=dict(view_size=size, color=dict()),
                backbone=dict(type='mmmedmask.CMIMResNet', depth=18,
                              zero_init_residual=False),
                neck=dict(type='mmmedmask.CMIMNeck'),
                head=dict(type='mmmedmask.CMIMHead'),
                channels_last=channels_last, compile_encoder=compiled)
    plain = dict(
        type='ImageClassifier',
        data_preprocessor=dict(type='ClsDataPreprocessor', **normalise),
        backbone=dict(type='ResNet', depth=18),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=9, in_channels=512,
                  loss=dict(type='CrossEntropyLoss')))
    # SparK as mmpretrain configures it, with the widths of a ResNet-18.
    spark = dict(
        type='SparK', input_size=size, downsample_raito=32, mask_ratio=0.6,
        enc_dec_norm_cfg=dict(type='SparseBatchNorm2d'), enc_dec_norm_dim=512,
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
        for name in ('plain', 'spark'):
            models[name].to(memory_format=torch.channels_last)
    return models


def make_batch(name: str, batch_size: int, size: int) -> dict:
    """Make a batch of random uint8 tiles as each model's loader gives it."""
    import torch
    from mmpretrain.structures import DataSample
    generator = torch.Generator().manual_seed(0)
    tiles = [torch.randint(0, 256, (3, size, size), dtype=torch.uint8,
                           generator=generator) for _ in range(batch_size)]
    samples = [DataSample(metainfo=dict(sample_idx=index))
               for index in range(batch_size)]
    for index, sample in enumerate(samples):
        sample.set_gt_label(index % 9)
    return dict(inputs=torch.stack(tiles) if 'spark' in name else tiles,
                data_samples=samples)


def make_step(model, batch: dict, bf16: bool, parts: bench.Parts
              ) -> Callable[[], None]:
    """Make a function that takes one training step."""
    import torch
    from mmengine.optim import OptimWrapper

    from mmmedmask.engine import Bfloat16OptimWrapper
    optimizer = torch.optim.SGD(
        model.parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4)
    wrapper = (Bfloat16OptimWrapper if bf16 else OptimWrapper)(optimizer)
    parts.mark(optimizer, 'step', 'optimizer')
    return parts.around(lambda: model.train_step(batch, wrapper))


def measure_steps(args, precision: str) -> list[bench.Figure]:
    """Compare the steps, and split CMIM's."""
    bf16 = precision == 'bfloat16'
    models = build_models(args.size, bf16 or args.layouts)
    if args.layouts:
        models['contiguous spark'] = build_models(args.size, False)['spark']
    elif args.skip_spark or bf16:
        del models['spark']
    clock = bench.make_clock(args.device)
    if args.compile:
        models['compiled'] = build_models(args.size, bf16, True)['cmim']
    parts = {name: bench.Parts(clock) for name in models}
    for owner, method, name in PARTS:
        parts['cmim'].mark(models['cmim'].get_submodule(owner), method, name)
    steps = {
        name: make_step(model.to(args.device), make_batch(
            name, args.batch_size, args.size), bf16, parts[name])
        for name, model in models.items()}
    operations = bench.count_operations(
        steps['cmim']) if args.peak_tflops else 0
    turns = bench.take_turns(steps, args.rounds, args.warmup, clock)
    figures = [bench.figure_of(f'CMIM / plain ResNet-18 step, {precision}',
                         turns.ratios('cmim', 'plain'),
                         GOALS_PLAIN[precision])]
    if args.layouts:
        figures.append(bench.figure_of(
            f'SparK, channels-last / contiguous step, {precision}',
            turns.ratios('spark', 'contiguous spark')))
    elif 'spark' in turns:
        figures.append(bench.figure_of(f'SparK / CMIM step, {precision}',
                                 turns.ratios('spark', 'cmim'), GOAL_SPARK))
    if 'compiled' in turns:
        figures.append(
            bench.figure_of(f'CMIM step compiled / not, {precision}',
                            turns.ratios('compiled', 'cmim')))
    figures += bench.speeds(f'CMIM, {precision}', turns.values('cmim'),
                      args.batch_size, operations, args.peak_tflops)
    figures += [bench.figure_of(f'{name} step, {precision}', [
        1e3 * value / args.batch_size for value in turns.values(name)],
        unit='ms per tile') for name in turns]
    return figures + [
        bench.figure_of(f'share of {name} in CMIM step, {precision}',
                  [100 * share for share in shares], unit='%')
        for name, shares in parts['cmim'].shares(args.rounds).items()]


def fast_precisions(device: str) -> tuple[str, ...]:
    """Precisions that a device computes in, and does not emulate."""
    import torch
    if (not device.startswith('cpu') or torch.cpu._is_avx512_bf16_supported()
            or torch.cpu._is_amx_tile_supported()):
        return PRECISIONS
    print('bfloat16 is left out: this CPU has neither AVX512-BF16 nor AMX',
          file=sys.stderr)
    return PRECISIONS[:1]


def measure_views(args) -> list[bench.Figure]:
    """Count the tiles per second whose two views are drawn."""
    from mmmedmask.models.cmim import CMIMDataPreprocessor
    batch = make_batch('cmim', args.batch_size, args.size)
    colors = {'no colours': None, 'colours': dict(),
              'colours and stains': dict(stain_prob=1)}

    def views(color: dict | None) -> Callable[[], None]:
        preprocessor = CMIMDataPreprocessor(
            view_size=args.size, color=color).to(args.device)
        return lambda: preprocessor(batch, True)

    turns = bench.take_turns(
        {name: views(color) for name, color in colors.items()}, args.rounds,
        args.warmup, bench.make_clock(args.device))
    return [bench.figure_of(f'views, {name}', turns.rates(
        name, args.batch_size), unit='tiles/s') for name in turns]


def main(argv: Sequence[str] | None = None) -> None:
    parser = bench.make_parser(__doc__, peak=True)
    parser.add_argument('--batch-size', type=int, default=16)
    parser.add_argument('--size', type=int, default=224)
    parser.add_argument('--precisions', nargs='+', choices=PRECISIONS,
                        help='default: those that the device is made for')
    layouts = parser.add_mutually_exclusive_group()
    layouts.add_argument('--skip-spark', action='store_true')
    layouts.add_argument(
        '--layouts', action='store_true',
        help='all models channels-last, and SparK both ways')
    parser.add_argument('--compile', action='store_true',
                        help='compare with a compiled encoder, too')
    args = parser.parse_args(argv)
    machine = bench.set_up(args, f'batch {args.batch_size}', f'{args.size} px')
    figures = [figure for precision in (
        args.precisions or fast_precisions(args.device))
               for figure in measure_steps(args, precision)]
    bench.report(figures + measure_views(args), args, machine)


if __name__ == '__main__':
    run_tool(main)
