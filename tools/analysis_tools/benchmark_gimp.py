"""Time GiMP's patch aggregator, and measure its memory by bag size.

    python tools/analysis_tools/benchmark_gimp.py --device cpu --threads 2

Prints the time of one Nyström layer with fused kernels against one that
holds the kernels of size N x m in memory, their ratios by wall clock and by
time of the processor, and the difference of their results; then time and peak
memory of the whole aggregator for bags of several sizes, without gradients
and in training with recomputed layers; then of a pre-training step of GiMP;
then how many runs of patches a second can be read (see
benchmark_slide_loader.py). --parts chooses among them.

    python tools/analysis_tools/benchmark_gimp.py --device cuda --amp \
        --parts step

Both layers take turns, so that a machine whose speed drifts treats them
alike. Every measurement has a process of its own: peaks of memory do not
carry over, and the layers are compared under two settings of the C library's
memory allocator. As it comes, glibc hands large blocks back to the system
and takes the time to get them anew, which hurts the layer that makes larger
ones; with MALLOC_MMAP_MAX_=0 and a large MALLOC_TRIM_THRESHOLD_ it keeps
them. Peaks of memory are measured as it comes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

GOAL_FORWARD = 1.8
GOAL_LINEAR = 1.1
GOAL_GIGABYTES = 4.0
GOAL_PATCHES = 150_000
GOAL_STEP_GIGABYTES = 16.0
PARTS = ('layers', 'sizes', 'step', 'loader')
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
                (one @ other.transpose(-1, -2)).softmax(dim=-1)
                for one, other in ((query, key_landmarks),
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


def measure_layers(args: argparse.Namespace) -> dict:
    """Time both layers in turns.

    Returns:
        Seconds per round by step, layer and clock, and the largest
        difference of the layers' results.
    """
    import torch
    layers = {name: layer.to(args.device)
              for name, layer in build_layers(args).items()}
    tokens = torch.randn(args.tokens, args.embed_dims).to(args.device)
    slides = [[args.tokens - 1]]
    ratio = {}

    def forward(layer: torch.nn.Module) -> None:
        with torch.no_grad():
            layer(tokens, slides)

    def train(layer: torch.nn.Module) -> None:
        leaf = tokens.detach().requires_grad_()
        layer(leaf, slides).sum().backward()

    for step in (forward, train):
        times = {name: dict(wall=[], processor=[]) for name in layers}
        for index in range(args.warmup + args.rounds):
            for name, layer in layers.items():
                layer.zero_grad()
                clocks = read_clocks(args.device)
                step(layer)
                clocks = [now - before for now, before in zip(
                    read_clocks(args.device), clocks, strict=True)]
                if index >= args.warmup:
                    times[name]['wall'].append(clocks[0])
                    times[name]['processor'].append(clocks[1])
        ratio[step.__name__] = times
    with torch.no_grad():
        one, other = (layer(tokens, slides) for layer in layers.values())
    return dict(times=ratio, difference=float((one - other).abs().max()))


def read_clocks(device: str) -> tuple[float, float]:
    """Wall clock and the process's time on all cores, in seconds."""
    if device.startswith('cuda'):
        import torch
        torch.cuda.synchronize(device)
    return time.perf_counter(), time.process_time()


def peak_bytes(device: str) -> int:
    """Largest memory so far: of the GPU, or of the process."""
    if device.startswith('cuda'):
        import torch
        return torch.cuda.max_memory_allocated(device)
    import resource
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == 'darwin' else 1024 * peak


def held_bytes(device: str) -> int:
    """Memory in use now: of the GPU, or of the process.

    What the process has freed can be taken again; counted as used, it would
    hide a part of what a small bag takes.
    """
    if device.startswith('cuda'):
        import torch
        return torch.cuda.memory_allocated(device)
    try:
        with open('/proc/self/statm', encoding='ascii') as file:
            return int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')
    except OSError:
        return peak_bytes(device)


def measure_size(args: argparse.Namespace) -> dict:
    """Run the aggregator on one bag, in training or without gradients."""
    import torch

    from mmmedmask.models.gimp import NystromAggregator
    torch.manual_seed(0)
    model = NystromAggregator(
        args.in_dims, args.embed_dims, num_heads=args.heads,
        num_landmarks=args.landmarks, with_cp=True).to(args.device)
    # What libraries set up at their first use is not the bag's memory.
    step = train_step if args.train else forward_step
    step(model, torch.randn(1, 2 * args.landmarks, args.in_dims).to(
        args.device))
    before = held_bytes(args.device)
    patches = torch.randn(1, args.patches, args.in_dims, device=args.device)
    clocks = read_clocks(args.device)
    step(model, patches)
    wall, processor = (now - then for now, then in zip(
        read_clocks(args.device), clocks, strict=True))
    return dict(before=before, peak=peak_bytes(args.device), wall=wall,
                processor=processor)


def forward_step(model, patches) -> None:
    """Aggregate a bag."""
    import torch
    with torch.no_grad():
        model(patches)


def train_step(model, patches) -> None:
    """Aggregate a bag, and go back from the slide's vector."""
    model.zero_grad()
    model(patches)[0].sum().backward()


def measure_step(args: argparse.Namespace) -> dict:
    """Take steps of pre-training: masked patches, triplets, optimiser.

    Returns:
        Bytes at the ``peak``, median seconds of a step, and the losses of
        the last one.
    """
    import torch
    from mmpretrain.structures import DataSample

    from mmmedmask.models.gimp import GiMP
    torch.manual_seed(0)
    model = GiMP(
        aggregator=dict(
            type='mmmedmask.NystromAggregator', in_dims=args.in_dims,
            embed_dims=args.embed_dims, num_heads=args.heads,
            num_landmarks=args.landmarks, with_cp=args.recompute),
        gene_encoder=dict(type='mmmedmask.GroupMSA', num_genes=args.genes,
                          embed_dims=args.embed_dims),
        mpm_head=dict(type='mmmedmask.MPMHead'),
        contrast_head=dict(type='mmmedmask.TripletHead')).to(args.device)
    model.train()
    optimizer = torch.optim.AdamW(
        [one for one in model.parameters() if one.requires_grad], lr=1e-4)
    shape = (args.step_batch, args.step_length)
    flags = torch.ones(args.step_batch, dtype=torch.bool)
    inputs = dict(
        patches=torch.randn(*shape, args.in_dims), valid=flags[:, None].expand(
            shape), coords=None,
        # Exactly half of each run.
        mask=torch.rand(shape).argsort(dim=1) < args.step_length // 2,
        genes=torch.randn(args.step_batch, args.genes), has_genes=flags,
        has_patches=flags)
    inputs = {name: None if one is None else one.to(args.device)
              for name, one in inputs.items()}
    samples = [DataSample(metainfo=dict(case_id=str(place))).set_gt_label(
        place % 2) for place in range(args.step_batch)]
    times = []
    for _ in range(args.warmup + args.step_rounds):
        start, _ = read_clocks(args.device)
        optimizer.zero_grad()
        kind = args.device.partition(':')[0]
        with torch.autocast(kind, torch.bfloat16, enabled=args.amp):
            losses = model.loss(inputs, samples)
        sum(loss for name, loss in losses.items()
            if name.startswith('loss')).backward()
        optimizer.step()
        times.append(read_clocks(args.device)[0] - start)
    return dict(
        peak=peak_bytes(args.device),
        wall=statistics.median(times[args.warmup:]),
        losses={name: float(loss.detach()) for name, loss in losses.items()})


def run_part(args: argparse.Namespace, part: str, allocator: str,
             *options: object) -> dict:
    """Measure in a process of its own.

    Raises:
        RuntimeError: If it failed, as when there is too little memory.
    """
    command = [sys.executable, __file__, *args.words, '--part', part,
               *map(str, options)]
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith('MALLOC_')}
    result = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=False,
        env=environment | ALLOCATORS[allocator])
    if result.returncode:
        raise RuntimeError(f'{" ".join(command)} ended with '
                           f'{result.returncode}')
    return json.loads(result.stdout.splitlines()[-1])


def ratio_line(what: str, ratios: list[float], goal: float | None) -> str:
    """One line of the report, with the goal if there is one."""
    ratio = statistics.median(ratios)
    line = (f'{what}: {ratio:.2f} (rounds {min(ratios):.2f} to '
            f'{max(ratios):.2f})')
    if goal is None:
        return line
    return f'{line} ' + verdict(ratio >= goal, f'at least {goal}')


def report_layers(args: argparse.Namespace, allocator: str) -> str:
    """Compare the layers under one allocator, in text."""
    measured = run_part(args, 'layers', allocator)
    lines = [f'allocator {allocator}; results differ by at most '
             f'{measured["difference"]:.1e}']
    for step, times in measured['times'].items():
        for clock in ('wall', 'processor'):
            values = {name: one[clock] for name, one in times.items()}
            lines.append(f'  {step:7s} {clock:9s} ' + ', '.join(
                f'{name} {statistics.median(one):.3f} s'
                for name, one in values.items()))
            lines.append(ratio_line(
                '    naive / fused',
                [naive / fused for naive, fused in zip(
                    values['naive'], values['fused'], strict=True)],
                GOAL_FORWARD if step == 'forward' else None))
    return '\n'.join(lines)


def report_sizes(args: argparse.Namespace, train: bool) -> str:
    """Measure the sizes one after the other, in text."""
    lines = ['training, layers recomputed' if train else 'forward']
    per_patch = None
    for size in args.sizes:
        options = ['--patches', size] + ['--train'] * train
        measured = run_part(args, 'size', 'default', *options)
        # A tiny bag may fit into what the process has already.
        own = max(measured['peak'] - measured['before'], 1)
        per_patch = per_patch or own / size
        linear = own / size / per_patch
        peak = measured['peak'] / 1e9
        lines.append(
            f'  {size:7d} patches: {measured["wall"]:7.2f} s '
            f'({measured["processor"]:.2f} s of processor time), '
            f'{own / 1e9:.3f} GB for the bag, {linear:.2f} x linear '
            + verdict(linear <= GOAL_LINEAR, f'at most {GOAL_LINEAR}')
            + f', {peak:.3f} GB at the peak')
        if size == GOAL_PATCHES and not train:
            lines[-1] += ' ' + verdict(peak < GOAL_GIGABYTES,
                                       f'below {GOAL_GIGABYTES:g}')
    return '\n'.join(lines)


def report_step(args: argparse.Namespace) -> str:
    """Measure the step with and without keeping activations, in text."""
    lines = [f'pre-training step, {args.step_batch} runs of '
             f'{args.step_length} patches of {args.in_dims}, {args.genes} '
             f'genes, {"bfloat16 (autocast)" if args.amp else "float32"}']
    for recompute in (False, True):
        measured = run_part(args, 'step', 'default',
                            *['--recompute'] * recompute)
        peak = measured['peak'] / 1e9
        rate = args.step_batch / measured['wall']
        lines.append(
            f'  layers {"recomputed" if recompute else "kept":10s}: '
            f'{measured["wall"]:.2f} s, {rate:.1f} runs/s, {peak:.2f} GB at '
            'the peak ' + verdict(peak < GOAL_STEP_GIGABYTES,
                                  f'below {GOAL_STEP_GIGABYTES:g}'))
    return '\n'.join(lines)


def verdict(reached: bool, goal: str) -> str:
    """Whether a goal is reached, in brackets."""
    return f'(goal {goal}: {"reached" if reached else "missed"})'


def build_parser() -> argparse.ArgumentParser:
    """Make the parser of this tool's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--parts', nargs='+', choices=PARTS,
                        default=list(PARTS), help='what to measure')
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
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--warmup', type=int, default=1)
    parser.add_argument('--step-batch', type=int, default=16,
                        help='patients of a pre-training step')
    parser.add_argument('--step-length', type=int, default=6_000,
                        help='patches of each, L')
    parser.add_argument('--step-rounds', type=int, default=3)
    parser.add_argument('--amp', action='store_true',
                        help='take the pre-training step in bfloat16')
    parser.add_argument(
        '--threads', type=int, default=0, help='CPU threads, 0: all cores')
    parser.add_argument('--part', choices=['layers', 'size', 'step'],
                        help=argparse.SUPPRESS)
    parser.add_argument('--patches', type=int, help=argparse.SUPPRESS)
    for name in ('--train', '--recompute'):
        parser.add_argument(name, action='store_true', help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the arguments, measure and print."""
    parser = build_parser()
    args = parser.parse_args(argv)
    # What the processes of the parts get, too.
    args.words = sys.argv[1:] if argv is None else argv
    if args.tokens % args.landmarks:
        parser.error(f'--tokens {args.tokens} is not a multiple of '
                     f'--landmarks {args.landmarks} (for the naive layer)')

    import torch
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.part:
        measure = dict(layers=measure_layers, size=measure_size,
                       step=measure_step)[args.part]
        print(json.dumps(measure(args)))
        return
    print(f'{args.device}, {torch.get_num_threads()} threads, torch '
          f'{torch.__version__}, d {args.embed_dims}, {args.heads} heads, '
          f'{args.landmarks} landmarks, float32')
    if 'layers' in args.parts:
        print(f'one layer, {args.tokens} tokens')
        for allocator in ALLOCATORS:
            print(report_layers(args, allocator), flush=True)
    if 'sizes' in args.parts:
        print(f'aggregator of two layers, features of {args.in_dims}')
        for train in (False, True):
            print(report_sizes(args, train), flush=True)
    if 'step' in args.parts:
        print(report_step(args), flush=True)
    if 'loader' in args.parts:
        import benchmark_slide_loader as loader
        print(loader.report(loader.build_parser().parse_args([
            '--in-dims', str(args.in_dims), '--length',
            str(args.step_length), '--genes', str(args.genes)])))


if __name__ == '__main__':
    main()
