"""Estimate what the full runs of the papers' recipes cost on a GPU.

    python tools/analysis_tools/estimate_runs.py --out docs/results/growth

counts the operations of a training step of each config, with the true model
and drawn data, by torch's counter; times the samples of the run; divided by
what a GPU is assumed to do: --tflops times a share of it by kind of network.
Writes run_costs.csv.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from markdown_tables import markdown

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
# Shares of the peak that training is assumed to reach, not measured: small
# convolutions move more memory than they compute; bags are read from disks.
SHARES = dict(CNN=0.15, ViT=0.35, detector=0.15, bag=0.10)


class Run(NamedTuple):
    """A run of a recipe: what it is, its config, its training samples."""

    recipe: str
    what: str
    config: str
    kind: str
    samples: int | None = None


RUNS = (
    Run('cmim_table1', 'CMIM ResNet-18, 800 epochs',
        'cmim/cmim_resnet18_8xb32-coslr-800e_nct.py', 'CNN', 80_000),
    Run('cmim_table1', 'SparK ResNet-18, 800 epochs',
        'baselines/cmim/spark_sparse-resnet18_8xb32-coslr-800e_nct.py', 'CNN',
        80_000),
    Run('cmim_table5', 'CMIM ResNet-34, 800 epochs',
        'cmim/cmim_resnet34_8xb32-coslr-800e_nct.py', 'CNN', 80_000),
    Run('cmim_table5', 'CMIM ResNet-50, 800 epochs',
        'cmim/cmim_resnet50_8xb32-coslr-800e_nct.py', 'CNN', 80_000),
    Run('cmim_table1', 'Mask R-CNN on GlaS, 1x', 'cmim/benchmarks/'
        'mask-rcnn_cmim-400e-resnet18-fpn_8xb2-1x_glas.py', 'detector', 85),
    Run('msmae_table1', 'MSMAE ViT-B, 300 epochs',
        'msmae/msmae_vit-base-p16_1xb64-coslr-300e_messidor2.py', 'ViT',
        1_222),
    Run('msmae_table1', 'fine-tuning of ViT-B on 49 of 196 tokens, 100 '
        'epochs', 'msmae/benchmarks/'
        'vit-base-p16_msmae_1xb256-100e_messidor2.py', 'ViT', 1_222),
    Run('msmae_table2', 'SETR-PUP on BUSI, 200 epochs', 'msmae/benchmarks/'
        'setr-pup_msmae-vit-base-p16_1xb8-200e_busi.py', 'ViT', 547),
    Run('gimp_table1', 'GroupMSA alone, 70 epochs',
        'gimp/groupmsa_1xb16-coslr-70e_tcga-nsclc.py', 'bag', 567),
    Run('gimp_table1', 'GiMP pre-training, 100 epochs', 'gimp/'
        'gimp_groupmsa-nystrom_1xb16-coslr-100e-pretrain_tcga-nsclc.py',
        'bag', 567),
    Run('gimp_table1', 'GiMP fine-tuning, 70 epochs', 'gimp/'
        'gimp_groupmsa-nystrom_1xb8-coslr-70e-finetune_tcga-nsclc.py', 'bag',
        567))


def gpus_of(config: str) -> int:
    """Number of GPUs that a config's name tells: ``_8xb32-``."""
    part = next(part for part in Path(config).stem.split('_')
                if 'xb' in part and part.partition('xb')[0].isdigit())
    return int(part.partition('xb')[0])


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=Path, metavar='FOLDER', required=True)
    parser.add_argument('--tflops', type=float, default=312,
                        help='10^12 operations per second of a GPU at its '
                        'peak (default: %(default)g, an A100 in bfloat16)')
    parser.add_argument('--recipes', nargs='+', metavar='NAME',
                        default=sorted({run.recipe for run in RUNS}))
    args = parser.parse_args(argv)
    known = {run.recipe for run in RUNS}
    if unknown := set(args.recipes) - known:
        parser.error(f'--recipes {sorted(unknown)}: known are '
                     f'{sorted(known)}')

    from mmmedmask.apis import load_config
    from mmmedmask.inspection.costs import format_seconds, run_length
    from mmmedmask.inspection.measuring import measure_step
    from mmmedmask.util.atomic_files import write_csv
    rows, lines = [], []
    for run in RUNS:
        if run.recipe not in args.recipes:
            continue
        config = load_config(str(CONFIGS / run.config), None)
        with tempfile.TemporaryDirectory() as folder:
            step = measure_step(config, folder, mixed=False)
        samples = run_length(config, run.samples, gpus_of(run.config)).samples
        each = step.flops / step.samples
        share = SHARES[run.kind]
        seconds = samples * each / (args.tflops * 1e12 * share)
        rows.append((run.recipe, run.what, run.config, f'{each / 1e9:.4g}',
                     samples, f'{samples * each / 1e15:.4g}', share,
                     f'{seconds / 3600:.3g}'))
        lines.append([run.recipe, run.what, f'{each / 1e9:.4g}',
                      f'{samples:,}', f'{samples * each / 1e15:,.4g}',
                      f'{100 * share:.0f} %', format_seconds(seconds)])
        print(' | '.join(lines[-1]), file=sys.stderr, flush=True)
    write_csv(args.out / 'run_costs.csv',
              ('recipe', 'run', 'config', 'GFLOP per sample', 'samples',
               'PFLOP', 'assumed share of the peak', 'GPU hours'), rows)
    print(markdown([['recipe', 'run', 'GFLOP per sample', 'samples',
                       'PFLOP', 'assumed share of the peak',
                       f'on one GPU of {args.tflops:g} TFLOP/s'], *lines]))


if __name__ == '__main__':
    main()
