"""Time GiMP's patch aggregator, and measure its memory by bag size.

    python tools/analysis_tools/benchmark_gimp.py

Figures are the time of one Nyström layer that holds the kernels of size N x m
in memory over that of ours with fused kernels; then time and peak memory of
the whole aggregator for bags of several sizes, without gradients and in
training with recomputed layers; then those of a pre-training step of GiMP.
--parts chooses among them:

    python tools/analysis_tools/benchmark_gimp.py --device cuda --amp \
        --parts step

Every measurement has a process of its own: peaks of memory do not carry over,
and the layers are compared under two settings of the C library's memory
allocator. As it comes, glibc hands large blocks back to the system and takes
the time to get them anew, which hurts the layer that makes larger ones; with
MALLOC_MMAP_MAX_=0 and a large MALLOC_TRIM_THRESHOLD_ it keeps them. Peaks of
memory are measured as it comes.
"""

import argparse
from collections.abc import Callable, Sequence

import benchmarking as bench

from mmmedmask.util.run_tool import run_tool

GOALS_LAYER = dict(forward=bench.Goal(1.8, at_least=True),
                   train=bench.Goal(1.7, at_least=True))
GOAL_LINEAR = bench.Goal(1.1)
# Gigabytes at the peak, for bags of so many patches.
GOAL_PATCHES = 150_000
GOALS_PEAK = dict(forward=bench.Goal(2.8), train=bench.Goal(6.0))
GOAL_STEP = bench.Goal(16.0)
PASSES = dict(forward='forward', train='forward and backward')
ALLOCATORS = dict(
    default={},
    keeping=dict(MALLOC_MMAP_MAX_='0', MALLOC_TRIM_THRESHOLD_='200000000000'))


def build_layers(args: argparse.Namespace) -> dict:
    """Build the layer, and one that materialises with the same parameters."""
    import torch
    from torch import nn

    from mmmedmask.functional.nystrom import pseudo_inverse
    from mmmedmask.models.gimp import NystromLayer

    class NaiveLayer(nn.Module):
        """Nyström attention as it is written: three kernels in memory."""

        def __init__(self, layer: nn.Module) -> None:
            super().__init__()
            heads, size = layer.value_conv.weight.shape
            self.layer = layer
            self.conv = nn.Conv2d(
                heads, heads, (size, 1), padding=(size // 2, 0),
                groups=heads, bias=False)
            self.conv.weight = nn.Parameter(
                layer.value_conv.weight.detach()[:, None, :, None].clone())

        def forward(self, tokens: torch.Tensor,
                    slides: list[list[int]]) -> torch.Tensor:
            """Run the layer on bags of one length, a multiple of m."""
            layer = self.layer
            heads = (3, layer.num_heads, -1)
            query, key, value = layer.qkv(layer.norm(tokens)).unflatten(
                0, (len(slides), -1)).unflatten(2, heads).permute(
                    2, 0, 3, 1, 4)
            query = query * query.shape[-1]**-0.5
            runs = (layer.num_landmarks, -1)
            query_landmarks, key_landmarks = (
                part.unflatten(2, runs).mean(dim=3) for part in (query, key))
            first, second, third = (
                (left @ right.transpose(-1, -2)).softmax(dim=-1)
                for left, right in ((query, key_landmarks),
                                    (query_landmarks, key_landmarks),
                                    (query_landmarks, key)))
            inverse = pseudo_inverse(second)
            output = (first @ inverse) @ (third @ value)
            output = output + self.conv(value)
            output = output.transpose(1, 2).flatten(0, 1).flatten(1)
            return tokens + layer.proj(output)

    torch.manual_seed(0)
    # As published: all tokens take part in the convolution.
    fused = NystromLayer(args.embed_dims, args.heads, args.landmarks,
                         class_token_in_conv=True, conv_start='uniform')
    return dict(fused=fused, naive=NaiveLayer(fused))


def measure_layers(args: argparse.Namespace) -> tuple[bench.Turns, float]:
    """Time the passes of both layers, and the difference of their results."""
    import torch
    bench.set_up(args)
    layers = {name: layer.to(args.device)
              for name, layer in build_layers(args).items()}
    tokens = torch.randn(args.tokens, args.embed_dims).to(args.device)
    slides = [[args.tokens - 1]]

    def forward(layer: torch.nn.Module) -> torch.Tensor:
        with torch.no_grad():
            return layer(tokens, slides)

    def train(layer: torch.nn.Module) -> None:
        layer.zero_grad()
        leaf = tokens.detach().requires_grad_()
        layer(leaf, slides).sum().backward()

    # The comparison warms up the forward passes.
    ours, theirs = map(forward, layers.values())
    for layer in layers.values():
        for _ in range(args.warmup):
            train(layer)
    turns = bench.take_turns({
        f'{name} {run.__name__}': lambda run=run, layer=layer: run(layer)
        for run in (forward, train) for name, layer in layers.items()},
        args.rounds, 0, bench.make_clock(args.device))
    return turns, float((ours - theirs).abs().max())


def compare_layers(args: argparse.Namespace) -> list[bench.Figure]:
    """Compare the layers under both allocators."""
    figures = []
    for allocator, environment in ALLOCATORS.items():
        turns, difference = bench.in_fresh_process(
            measure_layers, args, environment=environment)
        for name, words in PASSES.items():
            figures.append(bench.figure_of(
                f'Nyström layer naive / fused, {words}, {args.tokens} '
                f'tokens, allocator {allocator}',
                turns.ratios(f'naive {name}', f'fused {name}'),
                GOALS_LAYER[name]))
        figures.append(bench.figure_of(
            f'largest difference of the layers, allocator {allocator}',
            [difference]))
    return figures


def pass_of(model, patches, train: bool) -> Callable[[], None]:
    """Aggregate a bag; in training go back from the slide's vector."""
    import torch

    def run() -> None:
        model.zero_grad()
        with torch.set_grad_enabled(train):
            slide = model(patches)[0].sum()
        if train:
            slide.backward()

    return run


def measure_size(args: argparse.Namespace, patches: int, train: bool
                 ) -> tuple[int, int, float]:
    """Aggregate one bag: bytes held before, at the peak, and seconds."""
    import torch

    from mmmedmask.models.gimp import NystromAggregator
    bench.set_up(args)
    torch.manual_seed(0)
    model = NystromAggregator(
        args.in_dims, args.embed_dims, num_heads=args.heads,
        num_landmarks=args.landmarks, with_cp=True).to(args.device)
    # What libraries set up at their first use is not the bag's memory.
    pass_of(model, torch.randn(1, 2 * args.landmarks, args.in_dims,
                               device=args.device), train)()
    before = bench.held_bytes(args.device)
    bag = torch.randn(1, patches, args.in_dims, device=args.device)
    turns = bench.take_turns(dict(bag=pass_of(model, bag, train)), 1, 0,
                       bench.make_clock(args.device))
    return before, bench.peak_bytes(args.device), turns.values('bag')[0]


def measure_sizes(args: argparse.Namespace) -> list[bench.Figure]:
    """Measure the sizes one after the other, forward and in training."""
    figures = []
    for name, words in PASSES.items():
        per_patch = None
        for size in args.sizes:
            before, peak, busy = bench.in_fresh_process(
                measure_size, args, size, name == 'train')
            # A tiny bag may fit into what the process has already.
            own = max(peak - before, 1)
            per_patch = per_patch or own / size
            what = f'{size:,} patches, {words}'
            goal = GOALS_PEAK[name] if size == GOAL_PATCHES else None
            figures += [
                bench.figure_of(f'{what}, process peak', [peak / 1e9], goal,
                                'GB'),
                bench.figure_of(f'{what}, for the bag', [own / 1e9],
                                unit='GB'),
                bench.figure_of(f'{what}, over linear',
                                [own / size / per_patch], GOAL_LINEAR),
                bench.figure_of(f'{what}, time', [busy], unit='s')]
    return figures


def measure_step(args: argparse.Namespace, recompute: bool
                 ) -> tuple[int, list[float], dict[str, float]]:
    """Take steps of pre-training: masked patches, triplets, optimiser.

    Gives bytes at the peak, seconds of the steps, and the losses of the last.
    """
    import torch
    from mmpretrain.structures import DataSample

    from mmmedmask.models.gimp import GiMP
    bench.set_up(args)
    torch.manual_seed(0)
    model = GiMP(
        aggregator=dict(
            type='mmmedmask.NystromAggregator', in_dims=args.in_dims,
            embed_dims=args.embed_dims, num_heads=args.heads,
            num_landmarks=args.landmarks, with_cp=recompute),
        gene_encoder=dict(type='mmmedmask.GroupMSA', num_genes=args.genes,
                          embed_dims=args.embed_dims),
        mpm_head=dict(type='mmmedmask.MPMHead'),
        contrast_head=dict(type='mmmedmask.TripletHead')).to(args.device)
    model.train()
    optimizer = torch.optim.AdamW([
        parameter for parameter in model.parameters()
        if parameter.requires_grad], lr=1e-4)
    shape = (args.step_batch, args.step_length)
    flags = torch.ones(args.step_batch, dtype=torch.bool)
    inputs = dict(
        patches=torch.randn(*shape, args.in_dims), valid=flags[:, None].expand(
            shape), coords=None,
        # Exactly half of each run.
        mask=torch.rand(shape).argsort(dim=1) < args.step_length // 2,
        genes=torch.randn(args.step_batch, args.genes), has_genes=flags,
        has_patches=flags)
    inputs = {name: None if value is None else value.to(args.device)
              for name, value in inputs.items()}
    samples = [DataSample(metainfo=dict(case_id=str(place))).set_gt_label(
        place % 2) for place in range(args.step_batch)]
    kind = args.device.partition(':')[0]
    losses = {}

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(kind, torch.bfloat16, enabled=args.amp):
            losses.update(model.loss(inputs, samples))
        sum(loss for name, loss in losses.items()
            if name.startswith('loss')).backward()
        optimizer.step()

    turns = bench.take_turns(dict(step=step), args.step_rounds, args.warmup,
                       bench.make_clock(args.device))
    return bench.peak_bytes(args.device), turns.values('step'), {
        name: float(loss.detach()) for name, loss in losses.items()}


def measure_steps(args: argparse.Namespace) -> list[bench.Figure]:
    """Measure the step with and without keeping activations."""
    figures = []
    for recompute in (False, True):
        peak, seconds, _ = bench.in_fresh_process(
            measure_step, args, recompute)
        what = (f'pre-training step, {args.step_batch} runs of '
                f'{args.step_length:,}, '
                f'{"bfloat16" if args.amp else "float32"}, layers '
                f'{"recomputed" if recompute else "kept"}')
        figures += [bench.figure_of(f'{what}, peak', [peak / 1e9], GOAL_STEP,
                                    'GB'),
                    bench.figure_of(f'{what}, time', seconds, unit='s')]
    return figures


MEASURES = dict(layers=compare_layers, sizes=measure_sizes, step=measure_steps)


def build_parser() -> argparse.ArgumentParser:
    parser = bench.make_parser(__doc__, parts=MEASURES)
    parser.add_argument('--sizes', type=int, nargs='+',
                        default=[6_000, 25_000, 75_000, GOAL_PATCHES],
                        help='patches of the bags')
    parser.add_argument(
        '--tokens', type=int, default=24_576,
        help='tokens of the two layers, a multiple of --landmarks')
    parser.add_argument('--in-dims', type=int, default=1024)
    parser.add_argument('--embed-dims', type=int, default=512)
    parser.add_argument('--heads', type=int, default=8)
    parser.add_argument('--landmarks', type=int, default=256)
    parser.add_argument('--genes', type=int, default=60_480)
    parser.add_argument('--step-batch', type=int, default=16,
                        help='patients of a pre-training step')
    parser.add_argument('--step-length', type=int, default=6_000,
                        help='patches of each, L')
    parser.add_argument('--step-rounds', type=int, default=3)
    parser.add_argument('--amp', action='store_true',
                        help='take the pre-training step in bfloat16')
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.tokens % args.landmarks:
        parser.error(f'--tokens {args.tokens} is not a multiple of '
                     f'--landmarks {args.landmarks} (for the naive layer)')
    machine = bench.set_up(args, f'd {args.embed_dims}', f'{args.heads} heads',
                     f'{args.landmarks} landmarks')
    bench.report(bench.measure_parts(MEASURES, args), args, machine)


if __name__ == '__main__':
    run_tool(main)
