"""Write sets of correlated genes of a config's training patients, as GMT.

    python tools/analysis_tools/cluster_genes.py CONFIG --sets 32 \
        --out data/tcga-brca/clusters.gmt

For GroupMSA where no file of pathways is at hand: model.gene_encoder.gene_sets
takes the file, and gene_list the genes.txt that is written beside it. A
genes.txt of other genes is not overwritten, nor are sets that this tool has
not written. Genes are scaled by the training patients; classes are not looked
at. With folds, give each its own:
--cfg-options train_dataloader.dataset.split_file=...
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmmedmask.util.command_line import add_config_options
from mmmedmask.util.run_tool import run_tool

GENE_LIST_NAME = 'genes.txt'
# Of each set that this tool writes.
DESCRIPTION = 'correlated in training patients'


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config whose data sets have genes')
    parser.add_argument('--sets', type=int, default=32, help='number of sets')
    parser.add_argument(
        '--out', type=Path, required=True, help='file to write, NAME.gmt')
    parser.add_argument('--seed', type=int, default=0, help='of the starts')
    add_config_options(parser, 'override settings of the config')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)

    from mmmedmask.apis.gene_clusters import cluster_genes
    from mmmedmask.config_files import load_config, need_keys
    from mmmedmask.engine.gene_matrix import fit_gene_scale, read_genes
    from mmmedmask.models.layers import write_gene_sets
    from mmmedmask.registry import DATASETS
    from mmmedmask.util.atomic_files import write_text
    genes_file = args.out.parent / GENE_LIST_NAME
    try:
        if args.out.suffix != '.gmt':
            raise ValueError(f'--out must end with .gmt, got {args.out}')
        if args.out.is_file() and not all(
                DESCRIPTION in line
                for line in args.out.read_text('utf-8').splitlines()):
            raise ValueError(f'{args.out} has sets that this tool has not '
                             'written, and would be overwritten: give --out '
                             'another name')
        config = load_config(args.config, args.cfg_options)
        need_keys(config, 'train_dataloader')
        dataset = DATASETS.build(config.train_dataloader.dataset)
        text = '\n'.join(dataset.gene_ids) + '\n'
        if genes_file.is_file() and genes_file.read_text('utf-8') != text:
            raise ValueError(
                f'{genes_file} lists other genes than the '
                f'{len(dataset.gene_ids)} of the config, and would be '
                'overwritten: give --out another folder')
        _, genes, _ = read_genes(dataset, fit_gene_scale(config, dataset))
        sets = cluster_genes(genes.numpy(), args.sets, args.seed)
    except (OSError, ValueError) as error:
        raise SystemExit(f'cluster_genes.py: {error}') from None
    names = dataset.gene_ids
    write_gene_sets(
        args.out, {f'cluster_{number}': [names[place] for place in places]
                   for number, places in enumerate(sets)},
        DESCRIPTION)
    write_text(genes_file, text)
    sizes = sorted(map(len, sets))
    print(f'{len(sets)} sets of {sizes[0]} to {sizes[-1]} of {len(names)} '
          f'genes are in {args.out}, the genes in {genes_file}')


if __name__ == '__main__':
    run_tool(main)
