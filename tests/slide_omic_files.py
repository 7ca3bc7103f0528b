"""Draw bags and expression, and write them as the GDC's downloads."""

import gzip
from pathlib import Path

import numpy as np
import pytest


def there(path):
    """Skip a test whose real data is not there."""
    if not path.exists():
        pytest.skip(f'{path} is not there')
    return path


def draw_bag(num_patches, dims, seed=0, patch_size=256):
    """Draw the features and the coordinates of a slide.

    Patches fill a grid about as wide as high, row by row. Returns float32
    (N, D) and int64 (N, 2), upper left corners (x, y).
    """
    random = np.random.default_rng(seed)
    features = random.standard_normal((num_patches, dims), np.float32)
    columns = max(1, round(num_patches**0.5))
    number = np.arange(num_patches)
    coords = np.stack([number % columns, number // columns], axis=1)
    return features, coords * patch_size


def draw_fpkm(num_samples, num_genes, seed=0):
    """Draw expression, float32 (S, G), as skewed as FPKM, a tenth of zeros."""
    random = np.random.default_rng(seed)
    values = np.exp2(random.normal(1, 3, (num_samples, num_genes)))
    values[random.random(values.shape) < 0.1] = 0
    return values.round(4).astype(np.float32)


def write_htseq_folder(folder, samples, genes, values, kind='FPKM'):
    """Write a GDC download of HTSeq: a folder per file and a sample sheet.

    Values are (S, G), whole numbers for ``kind='counts'``, which adds the
    five summary rows to those of ``'FPKM'`` or ``'FPKM-UQ'``.
    """
    files = {}
    is_counts = kind == 'counts'
    ending = 'htseq.counts.gz' if is_counts else f'{kind}.txt.gz'
    for number, (sample, row) in enumerate(zip(samples, values, strict=True)):
        name = f'file-{number}.{ending}'
        cells = (row.astype(int) if is_counts else row).tolist()
        lines = [f'{gene}\t{cell}' for gene, cell in zip(
            genes, cells, strict=True)]
        if is_counts:
            lines += [f'__{what}\t{1000 + number}' for what in (
                'no_feature', 'ambiguous', 'too_low_aQual', 'not_aligned',
                'alignment_not_unique')]
        files[sample] = (f'id-{number}', name)
        _write_text(Path(folder) / f'id-{number}' / name, lines)
    return _write_sheet(Path(folder), files)


def write_star_folder(folder, samples, genes, symbols, units):
    """Write a GDC download of STAR: a folder per file and a sample sheet.

    Genes are Ensembl ids with version. ``units`` are ``'counts'``, ``'tpm'``,
    ``'fpkm'`` and ``'fpkm_uq'``, each of shape (S, G).
    """
    header = ('gene_id', 'gene_name', 'gene_type', 'unstranded',
              'stranded_first', 'stranded_second', 'tpm_unstranded',
              'fpkm_unstranded', 'fpkm_uq_unstranded')
    files = {}
    for number, sample in enumerate(samples):
        lines = ['# gene-model: GENCODE v36', '\t'.join(header)]
        lines += [f'N_{what}\t\t\t{5 + number}\t6\t7\t\t\t' for what in (
            'unmapped', 'multimapping', 'noFeature', 'ambiguous')]
        for place, gene in enumerate(genes):
            count = int(units['counts'][number, place])
            rates = [repr(float(units[unit][number, place]))
                     for unit in ('tpm', 'fpkm', 'fpkm_uq')]
            lines.append('\t'.join([
                gene, symbols[place], 'protein_coding', str(count),
                str(count // 2), str(count - count // 2), *rates]))
        name = f'{number}.rna_seq.augmented_star_gene_counts.tsv'
        files[sample] = (f'id-{number}', name)
        _write_text(Path(folder) / f'id-{number}' / name, lines)
    return _write_sheet(Path(folder), files)


def _write_text(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = ('\n'.join(lines) + '\n').encode()
    path.write_bytes(
        gzip.compress(content) if path.suffix == '.gz' else content)


def _write_sheet(folder, files):
    rows = ['File ID\tFile Name\tData Category\tData Type\tProject ID\t'
            'Case ID\tSample ID\tSample Type']
    rows += ['\t'.join([
        place, name, 'Transcriptome Profiling',
        'Gene Expression Quantification', 'TCGA-DRAWN', sample[:12], sample,
        'Primary Tumor']) for sample, (place, name) in files.items()]
    path = folder / 'gdc_sample_sheet.2024-01-01.tsv'
    _write_text(path, rows)
    return path
