"""Expression tables: layouts, genes, units, samples, scale."""

import copy
import gzip
import re
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from slide_omic_files import (
    draw_fpkm,
    there,
    write_htseq_folder,
    write_star_folder,
)

from mmmedmask.datasets.expression import units
from mmmedmask.datasets.expression.gene_names import (
    GeneNames,
    canonical_genes,
    names_hash,
    read_gene_list,
)
from mmmedmask.datasets.expression.samples import match_samples, tcga_case
from mmmedmask.datasets.expression.table import (
    ExpressionTable,
    load_expression,
)
from mmmedmask.datasets.expression.units import (
    check_unit,
    convert_unit,
    find_unit,
    unit_in_name,
)
from mmmedmask.models.slide_omic import GeneScale
from mmmedmask.phantoms.slide_files import draw_genes

SAMPLES = [f'TCGA-AA-{number:04d}-01A' for number in range(4)]
GENES = draw_genes(600)
FPKM = draw_fpkm(4, 600)
COUNTS = np.floor(FPKM * 20).astype(np.float32)


def table(values, genes=None, cases=None, unit='fpkm', **extra):
    values = np.asarray(values, np.float32)
    genes = genes or [f'ENSG{number:011d}' for number in
                      range(values.shape[1])]
    cases = cases or [f'case{number}' for number in range(len(values))]
    return ExpressionTable(values, tuple(cases), tuple(genes), unit, 'drawn',
                           **extra)


def write_matrix(path, values, names, cases, corner='', across='samples',
                 separator='\t'):
    if across == 'samples':
        head, rows = cases, zip(names, values.T, strict=True)
    else:
        head, rows = names, zip(cases, values, strict=True)
    lines = [separator.join([corner, *head])]
    lines += [separator.join([name, *map(str, row.tolist())])
              for name, row in rows]
    text = ('\n'.join(lines) + '\n').encode()
    if path.suffix == '.gz':
        text = gzip.compress(text)
    if path.suffix == '.zip':
        with zipfile.ZipFile(path, 'w') as archive:
            archive.writestr('__MACOSX/._x', b'')
            archive.writestr('x.csv', text)
    else:
        path.write_bytes(text)
    return path


def read(path, **options):
    return load_expression(path, **{'unit': 'fpkm', **options})


def check(loaded, values=FPKM, genes=GENES, cases=SAMPLES):
    assert loaded.case_ids == tuple(cases)
    assert loaded.gene_ids == tuple(genes)
    assert np.array_equal(loaded.values, values)


def noted(loaded, text):
    return any(text in note for note in loaded.notes)


class TestGeneNames:
    def test_versions_copies_and_summaries(self):
        names = GeneNames([
            'ENSG00000000003.13', 'ENSGR0000002586.16',
            'ENSG00000002586.20_PAR_Y', 'ENSG00000002586.16', '__no_feature',
            'N_unmapped', 'ENSG00000000005'], 'x')
        assert names.id_type == 'ensembl'
        assert names.gene_ids == ['ENSG00000000003', 'ENSG00000002586',
                                  'ENSG00000000005']
        assert names.rows == [0, 3, 6]
        assert names.par_rows == [1, 2]
        assert len(names.notes) == 2

    def test_symbols(self):
        names = GeneNames(['TP53', 'N_unmapped', '', 'NAT2', '?'], 'x')
        assert names.gene_ids == ['TP53', 'NAT2']
        assert names.rows == [0, 3]
        assert 'left out 2 rows without' in names.notes[1]

    def test_mixed(self):
        with pytest.raises(ValueError, match='50% of 2 genes are Ensembl'):
            GeneNames(['TP53', 'ENSG00000000003'], 'x')
        names = [f'ENSG{number:011d}' for number in range(20)]
        with pytest.raises(ValueError, match="x: 'TP53' is not an Ensembl id"):
            GeneNames([*names, 'TP53'], 'x')

    def test_lists(self, tmp_path):
        path = tmp_path / 'genes.txt'
        path.write_text('TP53\n\nEGFR \n')
        assert read_gene_list(path) == ['TP53', 'EGFR']
        with pytest.raises(ValueError, match='names 1 genes more than once: '
                           'ENSG00000000003'):
            canonical_genes(['ENSG00000000003.1', 'ENSG00000000003.2'], 'x')
        with pytest.raises(ValueError, match='names no gene'):
            canonical_genes(['__no_feature'], 'x')
        with pytest.raises(FileNotFoundError, match='absent'):
            read_gene_list(tmp_path / 'absent')


class TestLayouts:
    @pytest.mark.parametrize('name', ['x.tsv', 'x.tsv.gz', 'x.zip'])
    @pytest.mark.parametrize('across', ['samples', 'genes'])
    @pytest.mark.parametrize('separator', ['\t', ','])
    def test_matrix(self, tmp_path, name, across, separator):
        path = write_matrix(tmp_path / name, FPKM, GENES, SAMPLES,
                            across=across, separator=separator)
        loaded = read(path)
        check(loaded)
        assert loaded.values.dtype == np.float32
        assert loaded.id_type == 'ensembl'
        # As R's write.table has it.
        if name == 'x.tsv' and (across, separator) == ('samples', '\t'):
            path.write_text(path.read_text().removeprefix('\t'))
            check(read(path))

    def test_parquet_both_ways(self, tmp_path, monkeypatch):
        frame = pd.DataFrame(FPKM, index=SAMPLES, columns=GENES)
        frame.to_parquet(tmp_path / 'a')
        frame.T.reset_index(names='gene_id').to_parquet(tmp_path / 'b')
        for name in 'ab':
            check(read(tmp_path / name))
        monkeypatch.setitem(sys.modules, 'pyarrow', None)
        with pytest.raises(ModuleNotFoundError,
                           match=r"a needs pyarrow, .* 'mmmedmask\[genes\]'"):
            read(tmp_path / 'a')

    def test_parquet_of_numbered_patients(self, tmp_path):
        path = tmp_path / 'x'
        frame = pd.DataFrame(FPKM[:, :3], columns=['TP53', 'EGFR', 'MYC'])
        frame.to_parquet(path)
        # No gene is taken for the names of samples.
        with pytest.raises(ValueError, match='the first, TP53, has expr'):
            read(path, genes_in='columns')
        frame.index.name = 'case_id'
        frame.to_parquet(path)
        check(read(path), FPKM[:, :3], ['TP53', 'EGFR', 'MYC'], '0123')

    def test_symbols_and_own_sample_names_need_a_word(self, tmp_path):
        symbols = [f'GENE{number}' for number in range(600)]
        cases = ['p1', 'p2', 'p3', 'p4']
        path = tmp_path / 'x.csv'
        write_matrix(path, FPKM, symbols, cases, separator=',')
        with pytest.raises(ValueError, match="say genes_in='rows'"):
            read(path)
        check(read(path, genes_in='rows'), FPKM, symbols, cases)
        # A column's name is a word too.
        for corner, across in (('gene', 'samples'), ('case_id', 'genes')):
            write_matrix(path, FPKM, symbols, cases, corner, across, ',')
            check(read(path), FPKM, symbols, cases)

    def test_other_columns_are_left_out_with_a_note(self, tmp_path):
        path = tmp_path / 'x.csv'
        symbols = [f'G{place}' for place in range(600)]
        frame = pd.DataFrame(FPKM.T, columns=SAMPLES)
        frame.insert(0, 'gene_name', symbols)
        frame.insert(0, 'gene_id', GENES)
        frame.to_csv(path, index=False)
        loaded = read(path)
        check(loaded)
        assert 'gene_name' in loaded.notes[0]
        check(read(path, id_type='symbol'), FPKM, symbols)
        # By their names; of TCGA what has no digit cannot be a sample.
        for cases, others in (
                (list('abcd'), dict(gene_length=900.5, entrezgene_id=7105)),
                (SAMPLES, dict(gc=.5, comment='text')),
                ([*SAMPLES[1:], 'GTEX-1117F'], dict(gc=.5)),
                ([*SAMPLES[1:], 'TCGA-XF-AAMZ'], dict(gc=.5))):
            frame.columns = ['gene_id', 'gene_name', *cases]
            frame.assign(**others).to_csv(path, index=False)
            loaded = read(path)
            check(loaded, cases=cases)
            assert noted(loaded, f'gene_name, {", ".join(others)}')
        frame['P-01'] = 'text'
        frame.to_csv(path, index=False)
        with pytest.raises(ValueError, match='columns P-01 hold text'):
            read(path)

    def test_patients_that_are_numbers(self, tmp_path):
        """They are left out only if another column names the samples."""
        values = np.array([[3, 5.5], [1, 2], [2, 9]], np.float32)
        path = write_matrix(tmp_path / 'x.tsv', values, GENES[:2], '123',
                            across='genes')
        check(read(path), values, GENES[:2], '123')
        path.write_text('\tENSG00000000003\tpatient\n1\t5.5\t3\n2\t2\t1\n')
        loaded = read(path, genes_in='columns')
        check(loaded, [[5.5], [2]], ['ENSG00000000003'], '31')

    def test_porpoise(self, tmp_path):
        zscores = np.array([[0.5, -1], [0.5, -1], [2, 0.25]], np.float32)
        frame = pd.DataFrame({
            'case_id': ['a', 'a', 'b'], 'slide_id': ['1', '2', '3'],
            'age': [50, 50, 60], 'TP53_cnv': [1, 1, 0],
            'TP53_rnaseq': zscores[:, 0], 'EGFR_rnaseq': zscores[:, 1]})
        path = tmp_path / 'x.csv'
        frame.to_csv(path)
        loaded = load_expression(path)
        check(loaded, zscores[1:], ['TP53', 'EGFR'], 'ab')
        assert (loaded.unit, loaded.id_type) == ('zscore', 'symbol')
        assert noted(loaded, '3 rows are of 2 cases')
        frame.loc[1, 'EGFR_rnaseq'] = -3
        frame.to_csv(path)
        with pytest.raises(ValueError, match='line 3 and row 1 are of the '
                           'case a, but their genes differ'):
            load_expression(path)

    def test_clinical_columns_are_no_genes(self, tmp_path):
        symbols = ['TP53', 'HLA-A', 'C1orf112', 'RP11-34P13.7', '7SK', 'EFS',
                   'hsa-mir-21', 'Y_RNA', 'A1BG|1', 'SET', 'T', 'MT-ND1']
        left = ['OS', 'OS.time', 'age_at_diagnosis', 'Stage', 'PFI.TIME',
                'PC1', 'days_to_death', 'KPS', 'tumor purity', 'riskScore']
        path, cases = tmp_path / 'x.csv', ['001', '002', '003', '010']
        frame = pd.DataFrame(FPKM[:, :22], columns=[*symbols, *left],
                             index=pd.Index(cases, name='case_id'))
        frame.to_csv(path)
        loaded = read(path)
        check(loaded, FPKM[:, :12], symbols, cases)
        assert 'took no genes from 10 columns: OS, OS.time' in loaded.notes[0]
        # Whatever they are called, if asked.
        (tmp_path / 'genes.txt').write_text('KPS\nTP53\nPC1\n')
        asked = read(path, gene_list=tmp_path / 'genes.txt')
        assert asked.gene_ids == ('TP53', 'PC1', 'KPS')
        frame.columns = [f'feature_{place}' for place in range(22)]
        frame.to_csv(path)
        with pytest.raises(ValueError, match='0 of 22 columns have the name '
                           'of a gene.*feature_0.*gene_list'):
            read(path)
        # In rows, too.
        frame.columns = [*symbols, *left]
        frame.index = SAMPLES
        frame.T.to_csv(path, index_label='gene')
        loaded = read(path)
        assert 'TP53' in loaded.gene_ids
        assert 'OS' not in loaded.gene_ids
        assert noted(loaded, 'are not genes')

    @pytest.mark.parametrize('name', [
        '1-Mar', '02-Sep', 'Sep-02', '2. Sep', '1. Mrz', '2020-03-01',
        '2020-03-01 00:00:00', '3/1/2020', '43891', '2.31E+13'])
    @pytest.mark.parametrize('across', ['samples', 'genes'])
    def test_genes_that_became_dates(self, tmp_path, name, across):
        names = ['TP53', 'EGFR', name, 'DEC1', 'SEPT2', 'OCT4', 'NOV', 'MYC']
        path = write_matrix(
            tmp_path / 'x.tsv', FPKM[:, :8], names, SAMPLES, across=across,
            corner='gene' if across == 'samples' else 'case_id')
        with pytest.raises(ValueError, match='1 names of genes are dates or '
                           f'numbers.*: {re.escape(name)}'):
            read(path, duplicates='mean')
        (tmp_path / 'genes.txt').write_text('TP53\nMYC\n')
        check(read(path, gene_list=tmp_path / 'genes.txt'), FPKM[:, [0, 7]],
              ['TP53', 'MYC'])

    def test_ids_of_entrez(self, tmp_path):
        ids = ['1', '12', '43891']
        check(read(write_matrix(tmp_path / 'x.tsv', FPKM[:, :3], ids, SAMPLES,
                                'entrez_gene_id')), FPKM[:, :3], ids)

    @pytest.mark.parametrize('across', ['samples', 'genes'])
    def test_symbols_of_depmap(self, tmp_path, across):
        names = ['TSPAN6 (7105)', 'HLA-A (3105)', 'C1orf112 (55732)']
        genes = ['TSPAN6', 'HLA-A', 'C1orf112']
        path = write_matrix(tmp_path / 'x.csv', FPKM[:, :3], names, SAMPLES,
                            'gene' if across == 'samples' else 'case_id',
                            across, ',')
        check(read(path), FPKM[:, :3], genes)
        for listed in (names, genes):
            (tmp_path / 'genes.txt').write_text('\n'.join(listed[1:]))
            check(read(path, gene_list=tmp_path / 'genes.txt'), FPKM[:, 1:3],
                  genes[1:])

    def test_notes_of_the_table_are_told(self, tmp_path):
        path = write_matrix(tmp_path / 'x.tsv', FPKM, GENES, SAMPLES)
        path.write_text(path.read_text()[:-1])
        assert 'line 601, has no line end' in read(path).notes[0]

    def test_htseq(self, tmp_path):
        names = [f'{gene}.{place % 7}' for place, gene in enumerate(GENES)]
        names[-1] = 'ENSGR0000002586.3'
        write_htseq_folder(tmp_path, SAMPLES, names, FPKM)
        loaded = load_expression(tmp_path)
        check(loaded, FPKM[:, :-1], GENES[:-1])
        assert loaded.unit == 'fpkm'
        assert noted(loaded, '1 of the copies on chromosome Y were expressed')

    def test_htseq_counts_and_other_order_of_rows(self, tmp_path):
        write_htseq_folder(tmp_path, SAMPLES, GENES, COUNTS, 'counts')
        path = tmp_path / 'id-2' / 'file-2.htseq.counts.gz'
        lines = gzip.decompress(path.read_bytes()).split(b'\n')[:-1]
        # Unpacked and in reverse.
        path.unlink()
        path.with_suffix('').write_bytes(b'\n'.join(lines[::-1]) + b'\n')
        loaded = load_expression(tmp_path)
        check(loaded, COUNTS)
        assert loaded.unit == 'counts'
        path.with_suffix('').write_bytes(b'\n'.join(lines[7:]) + b'\n')
        with pytest.raises(ValueError, match=f'differ in the genes '
                           f'{GENES[0]}, {GENES[1]}'):
            load_expression(tmp_path)

    def test_htseq_of_several_units(self, tmp_path):
        values_of = {'FPKM-UQ': FPKM * 2, 'FPKM': FPKM, 'counts': COUNTS}
        rows = []
        for kind, values in values_of.items():
            sheet = write_htseq_folder(tmp_path, SAMPLES, GENES, values, kind)
            header, *more = sheet.read_text().splitlines()
            rows += more
        sheet.write_text('\n'.join([header, *rows]) + '\n')
        for kind, values in values_of.items():
            unit = kind.lower().replace('-', '_')
            loaded = load_expression(tmp_path, unit=unit)
            check(loaded, values)
            assert loaded.unit == unit
            assert noted(loaded, f'by name, of {unit} if there is one,')
        with pytest.raises(ValueError, match='FPKM-UQ.* holds fpkm_uq by its '
                           "name, got unit='tpm'; convert= converts"):
            load_expression(tmp_path, unit='tpm')

    def test_star(self, tmp_path):
        values_of = {'counts': COUNTS, 'fpkm': FPKM, 'fpkm_uq': FPKM * 1.5,
                     'tpm': FPKM * 3}
        names = [f'{gene}.2' for gene in GENES]
        names[5] += '_PAR_Y'
        symbols = [f'G{place}' for place in range(600)]
        write_star_folder(tmp_path, SAMPLES, names, symbols, values_of)
        kept = [place for place in range(600) if place != 5]
        for unit, values in values_of.items():
            loaded = load_expression(tmp_path, unit=unit)
            assert loaded.unit == unit
            assert np.allclose(loaded.values, values[:, kept], rtol=1e-6)
            assert loaded.gene_ids == tuple(GENES[place] for place in kept)
            assert noted(loaded, '4 rows that count')
        assert read(tmp_path, id_type='symbol').gene_ids == tuple(symbols)
        for unit, message in ((None, '_uq.\\); convert='),
                              ('zscore', "got 'zscore'")):
            with pytest.raises(ValueError, match='choose one by unit=.*'
                               + message):
                load_expression(tmp_path, unit=unit)

    def test_sheet_and_files_that_do_not_agree(self, tmp_path):
        sheet = write_htseq_folder(tmp_path, SAMPLES, GENES, FPKM)
        text = sheet.read_text()
        (tmp_path / 'genes.txt').write_text('\n'.join(GENES[:3]))
        check(load_expression(tmp_path, gene_list=tmp_path / 'genes.txt'),
              FPKM[:, :3], GENES[:3])
        # Several files of a sample.
        sheet.write_text(text.replace(SAMPLES[3], SAMPLES[2]))
        loaded = load_expression(tmp_path)
        check(loaded, FPKM[:3], GENES, SAMPLES[:3])
        assert noted(loaded, '1 samples have several files')
        sheet.write_text(text.replace('id-3', 'id-2').replace(
            'file-3', 'file-2'))
        with pytest.raises(ValueError, match=f'samples {SAMPLES[2]} and '
                           f'{SAMPLES[3]} share the file .*file-2'):
            load_expression(tmp_path)
        # Files of two units.
        path = tmp_path / 'id-3' / 'file-3.FPKM.txt.gz'
        path.rename(path.with_name('file-3.FPKM-UQ.txt.gz'))
        sheet.write_text(text.replace('file-3.FPKM', 'file-3.FPKM-UQ'))
        with pytest.raises(ValueError, match='fpkm_uq, but .* fpkm$'):
            load_expression(tmp_path)
        # One that is not there.
        sheet.write_text(text)
        with pytest.raises(FileNotFoundError, match=f'1 of 4.*{SAMPLES[3]}'):
            load_expression(tmp_path)
        loaded = load_expression(tmp_path, missing_files='report')
        check(loaded, FPKM[:3], GENES, SAMPLES[:3])
        assert noted(loaded, SAMPLES[3])
        sheet.unlink()
        with pytest.raises(FileNotFoundError, match='has 0 sample sheets'):
            load_expression(tmp_path)

    def test_sheet_of_another_project(self, tmp_path):
        """The sheet's column of patients counts, and what is a tumour."""
        samples = [f'C3L-{number:05d}-0{number % 2 + 1}'
                   for number in range(4)]
        sheet = write_htseq_folder(tmp_path, samples, GENES, FPKM)
        lines = ['File ID\tFile Name\tCase ID\tSample ID\tTissue Type\t'
                 'Tumor Descriptor']
        for number, sample in enumerate(samples):
            kind = ('Tumor\tPrimary', 'Tumor\tNot Reported',
                    'Tumor\tPrimary', 'Normal\tNot Applicable')[number]
            lines.append(f'id-{number}\tfile-{number}.FPKM.txt.gz\t'
                         f'{sample[:9]}, {sample[:9]}\t{sample}\t{kind}')
        sheet.write_text('\n'.join(lines) + '\n')
        loaded = load_expression(tmp_path)
        loaded.save(tmp_path / 'x.npz')
        for one in (loaded, load_expression(tmp_path / 'x.npz')):
            of_cases = one.for_cases({sample[:9]: None for sample in samples})
            check(of_cases, FPKM[:3], GENES,
                  [sample[:9] for sample in samples[:3]])
            assert '1 cases have no sample' in of_cases.notes[-1]

    def test_truncated_files(self, tmp_path):
        write_htseq_folder(tmp_path, SAMPLES, GENES, FPKM)
        path = tmp_path / 'id-1' / 'file-1.FPKM.txt.gz'
        path.write_bytes(path.read_bytes()[:-200])
        with pytest.raises(ValueError, match='file-1.FPKM'):
            load_expression(tmp_path)

    def test_arrays_only_with_lists(self, tmp_path):
        np.save(tmp_path / 'x.npy', FPKM)
        for name in ('x.pt', 'y.PT'):
            torch.save(torch.from_numpy(FPKM), tmp_path / name)
        (tmp_path / 'genes.txt').write_text('\n'.join(GENES))
        (tmp_path / 'cases.txt').write_text('\n'.join(SAMPLES))
        lists = dict(gene_list=tmp_path / 'genes.txt',
                     case_list=tmp_path / 'cases.txt')
        for name in ('x.npy', 'x.pt', 'y.PT'):
            check(read(tmp_path / name, **lists))
        for kind in ('gene', 'case'):
            with pytest.raises(ValueError, match=f'which {kind} is where: '
                               f'give {kind}_list'):
                read(tmp_path / 'x.pt', **{**lists, f'{kind}_list': None})
        (tmp_path / 'genes.txt').write_text('\n'.join(GENES[1:]))
        with pytest.raises(ValueError, match='has 600 genes.* names 599'):
            read(tmp_path / 'x.pt', **lists)

    def test_arrays_that_are_damaged_or_hold_objects(self, tmp_path):
        whole = [tmp_path / 'x.npy', tmp_path / 'x.pt', tmp_path / 'x.npz']
        np.save(whole[0], FPKM)
        torch.save(torch.from_numpy(FPKM), whole[1])
        table(FPKM, GENES, SAMPLES, 'fpkm').save(whole[2])
        for path in whole:
            content = path.read_bytes()
            middle = len(content) // 2
            for damaged in (content[:middle],
                            content[:middle] + bytes(99)
                            + content[middle + 99:]):
                path.write_bytes(damaged)
                if len(damaged) < len(content) or path.suffix == '.npz':
                    with pytest.raises(ValueError, match=path.name):
                        read(path)
        np.save(whole[0], np.array([print]), allow_pickle=True)
        torch.save(torch.nn.Linear(2, 2), whole[1])
        np.savez(whole[2], values=np.array([print]))
        for path in whole:
            with pytest.raises(ValueError, match=f'{path.name} .*damaged'):
                read(path)

    def test_folder_of_vectors(self, tmp_path):
        (tmp_path / 'genes.txt').write_text('\n'.join(GENES))
        (tmp_path / 'rna').mkdir()
        for sample, row in zip(SAMPLES, FPKM, strict=True):
            torch.save(torch.from_numpy(row)[None],
                       tmp_path / 'rna' / f'{sample}.PT')
        check(read(tmp_path / 'rna', gene_list=tmp_path / 'genes.txt'))
        torch.save(torch.zeros(3), tmp_path / 'rna' / 'z.pt')
        with pytest.raises(ValueError, match=r'z.pt must .*, got \(3,\)'):
            read(tmp_path / 'rna', gene_list=tmp_path / 'genes.txt')

    def test_saved_table(self, tmp_path):
        original = table(FPKM, GENES, SAMPLES, 'log2_tpm', log2_offset=0.5)
        original.save(tmp_path / 'x.npz')
        loaded = load_expression(tmp_path / 'x.npz')
        check(loaded)
        assert (loaded.unit, loaded.log2_offset) == ('log2_tpm', 0.5)
        with pytest.raises(ValueError, match='holds log2_tpm'):
            read(tmp_path / 'x.npz')
        with pytest.raises(ValueError, match='0.5, got log2_offset=1$'):
            load_expression(tmp_path / 'x.npz', log2_offset=1)
        genes = tmp_path / 'genes.txt'
        genes.write_text('\n'.join(GENES[5:2:-1]))
        check(load_expression(tmp_path / 'x.npz', gene_list=genes),
              FPKM[:, 3:6], GENES[3:6])
        genes.write_text('TP53')
        with pytest.raises(ValueError, match='genes.txt, which names TP53'):
            load_expression(tmp_path / 'x.npz', gene_list=genes)

    def test_several_files(self, tmp_path):
        first = write_matrix(tmp_path / 'a_fpkm.tsv', FPKM[:2], GENES,
                             SAMPLES[:2])
        second = write_matrix(tmp_path / 'b_fpkm.tsv', FPKM[2:, ::-1],
                              GENES[::-1], SAMPLES[2:])
        check(load_expression([first, second]))
        write_matrix(second, FPKM[2:, 30:], GENES[30:], SAMPLES[2:])
        loaded = load_expression([first, second])
        check(loaded, FPKM[:, 30:], GENES[30:])
        assert 'kept the 570 genes that all have' in loaded.notes[-1]
        write_matrix(second, FPKM[2:], draw_genes(600, 1), SAMPLES[2:])
        with pytest.raises(ValueError, match='at least 90%'):
            load_expression([first, second])
        write_matrix(second, FPKM[2:], GENES, SAMPLES[:2])
        with pytest.raises(ValueError, match='2 samples more than once'):
            load_expression([first, second])

    def test_zscores_of_several_files_are_refused(self, tmp_path):
        scores = np.random.default_rng(0).standard_normal((4, 600))
        files = [write_matrix(tmp_path / name, scores, GENES, SAMPLES)
                 for name in ('a.tsv', 'b.tsv')]
        with pytest.raises(ValueError, match='join the tables before'):
            load_expression(files)

    def test_duplicates(self, tmp_path):
        names = [*GENES[:-1], f'{GENES[0]}.7']
        path = write_matrix(tmp_path / 'x.tsv', FPKM, names, SAMPLES)
        with pytest.raises(ValueError, match=f'1 genes more than once: '
                           f'{GENES[0]}'):
            read(path)
        merged = read(path, duplicates='mean')
        assert merged.gene_ids == tuple(GENES[:-1])
        assert np.allclose(merged.values[:, 0], (FPKM[:, 0] + FPKM[:, -1]) / 2)
        assert np.array_equal(merged.values[:, 1:], FPKM[:, 1:-1])
        # The mean of counts is of counts, though it is no whole number.
        counts = load_expression(write_matrix(path, COUNTS, names, SAMPLES),
                                 duplicates='mean')
        assert counts.unit == 'counts'
        assert (counts.values[:, 0] % 1 == .5).any()
        values = FPKM.copy()
        values[0, 0] = values[1, [0, -1]] = np.nan
        write_matrix(path, values, names, SAMPLES)
        merged = read(path, duplicates='mean').values[:, 0]
        assert merged[0] == FPKM[0, -1]
        assert np.isnan(merged).tolist() == [False, True, False, False]
        path = write_matrix(tmp_path / 'x.tsv', FPKM, GENES,
                            [*SAMPLES[:3], SAMPLES[0]])
        with pytest.raises(ValueError, match='1 samples more than once: '
                           f'{SAMPLES[0]}'):
            read(path)

    def test_text_among_numbers(self, tmp_path):
        path = write_matrix(tmp_path / 'x.tsv', FPKM, GENES, SAMPLES,
                            across='genes')
        path.write_text(path.read_text().replace(f'\t{FPKM[1, 3]}\t',
                                                 '\tn.d.\t'))
        with pytest.raises(ValueError, match=f'line .: {GENES[3]} must be '
                           "a number, got 'n.d.'"):
            read(path)

    def test_bad_arguments(self, tmp_path):
        with pytest.raises(FileNotFoundError, match='absent'):
            load_expression(tmp_path / 'absent')
        for name in ('id_type', 'genes_in', 'duplicates', 'missing_files'):
            with pytest.raises(ValueError, match=f"{name} .*'odd'"):
                load_expression(tmp_path, **{name: 'odd'})
        with pytest.raises(ValueError, match='an empty list'):
            load_expression([])


def full_size(unit, seed=0):
    """Draw a table of a whole transcriptome in a unit."""
    fpkm = draw_fpkm(3, 12_000, seed).astype(np.float64)
    tpm = fpkm / fpkm.sum(1, keepdims=True) * 1e6
    scores = np.random.default_rng(seed).standard_normal((30, 12_000))
    return {'fpkm': fpkm, 'fpkm_uq': fpkm * 1.3, 'tpm': tpm, 'cpm': tpm,
            'counts': np.floor(fpkm * 20),
            'zscore': scores}[unit].astype(np.float32)


class TestUnits:
    @pytest.mark.parametrize(('name', 'unit'), [
        ('TCGA-LUAD.htseq_fpkm.tsv.gz', 'fpkm'),
        ('TCGA-LUAD.htseq_fpkm-uq.tsv.gz', 'fpkm_uq'),
        ('x.FPKM-UQ.txt.gz', 'fpkm_uq'), ('a.TPM.csv', 'tpm'),
        ('data_mrna_seq_v2_rsem_zscores.txt', 'zscore'),
        ('file.htseq.counts.gz', 'counts'), ('rna_clean.csv', None),
        ('tpm_and_counts.csv', None), ('discounted.csv', None),
        ('x_by_country.csv', None), ('brcaTPM.csv', 'tpm'),
        ('RNACounts.csv', 'counts'), ('fpkmUQ.csv', 'fpkm_uq'),
        ('brca_log2_tpm.tsv', 'log2_tpm'), ('tpm_log2.csv', 'log2_tpm'),
        ('log2tpm_panel.csv', 'log2_tpm'), ('log2(FPKM-UQ+1)', 'log2_fpkm_uq'),
        ('log2p1_cpm', 'log2_cpm'), ('logCPM.csv', 'log_cpm'),
        ('ln_tpm.csv', 'ln_tpm'), ('log10_tpm.csv', 'log10_tpm'),
        ('log1p.tpm.csv', 'log1p_tpm'), ('all_log2.csv', 'log2'),
        ('catalog.csv', None), ('log2_tpm_zscores.txt', 'zscore'),
        ('fpkms.tsv', 'fpkm'), ('TPMs.csv', 'tpm'), ('CPMs.csv', 'cpm'),
        ('luadfpkm.csv', 'fpkm'), ('fpkm2022.csv', 'fpkm'),
        ('counts2022.csv', 'counts'), ('rawcounts.csv', 'counts'),
        ('readcount.txt', 'counts'),
        ('OmicsExpressionTPMLogp1.csv', 'logp1_tpm')])
    def test_names(self, name, unit):
        assert unit_in_name(name) == unit

    @pytest.mark.parametrize(('values', 'name', 'unit'), [
        (full_size('counts'), '', 'counts'), (full_size('tpm'), '', 'tpm'),
        (full_size('zscore'), '', 'zscore'),
        (full_size('zscore') - 4, 'x_zscores.txt', 'zscore'),
        (np.log2(full_size('tpm') + 1), '', 'log2_tpm'),
        (full_size('fpkm'), 'a_fpkm.tsv', 'fpkm'),
        (np.log2(full_size('fpkm') + 1), 'a.htseq_fpkm.tsv', 'log2_fpkm'),
        (full_size('tpm')[:, :700], 'tpm.csv', 'tpm'),
        (np.log2(full_size('tpm')[:, :9] + 1), 'log2TPM.csv', 'log2_tpm'),
        (np.log2(full_size('tpm') + 1), 'all_log2.csv', 'log2_tpm'),
        # Of lymph nodes, and by DepMap and edgeR.
        (full_size('counts'), 'breast_LN_counts.csv', 'counts'),
        (full_size('fpkm'), 'lung_ln_fpkm.csv', 'fpkm'),
        (np.log2(full_size('tpm') + 1), 'TPMLogp1.csv', 'log2_tpm'),
        (np.log2(full_size('cpm') + 1), 'GSE1_logCPM.csv', 'log2_cpm')])
    def test_what_values_and_names_tell(self, values, name, unit):
        assert find_unit(values, 'x', name) == unit

    @pytest.mark.parametrize(('values', 'name', 'message'), [
        (full_size('fpkm'), '', 'cannot tell the unit.*state it by unit='),
        (np.log2(full_size('fpkm') + 1), '', 'cannot .*look like logarithms'),
        (full_size('tpm')[:, :700], '', 'cannot .*a part of TPM look alike'),
        (full_size('zscore'), 'tpm.csv', 'says tpm, but values are as low as'),
        # As by voom and edgeR, of no one offset.
        (np.log2(full_size('cpm') + np.linspace(.1, .2, 12_000)), '',
         'cannot .*as low as -3.*, but not around 0 as z-scores'),
        (full_size('counts'), 'fpkm.csv', 'name says fpkm, but all '),
        (full_size('tpm'), 'all_log2.csv', 'says log2, but every sample sums'),
        (full_size('tpm'), 'log2_tpm.csv', 'not log2_tpm: .*no'),
        (np.log2(full_size('tpm')[:, :9] + 1), 'tpm.csv',
         '9 genes are too few to tell'),
        *((np.log(full_size('tpm') + 1), name, 'says l.*to base 2: convert')
          for name in ('logCPM.csv', 'ln_tpm.csv', 'log10_tpm.csv'))])
    def test_what_is_not_told_is_refused(self, values, name, message):
        with pytest.raises(ValueError, match=message):
            find_unit(values, 'x', name)

    def test_logarithm_with_a_small_offset(self):
        values = np.log2(full_size('tpm') + 0.001)
        with pytest.raises(ValueError, match='log2_offset=0.001'):
            find_unit(values, 'x')
        check_unit(values, 'log2_tpm', 'x', log2_offset=0.001)
        with pytest.raises(ValueError, match='log2_offset=0.001 would fit'):
            check_unit(values, 'log2_tpm', 'x')

    @pytest.mark.parametrize(('unit', 'of', 'why'), [
        ('counts', 'zscore', 'some are negative'),
        ('log2_tpm', 'tpm', 'not a logarithm'),
        ('log2_tpm', 'zscore', r'log2\(0 \+ 1\) is 0'),
        ('zscore', 'fpkm', 'none is negative')])
    def test_contradictions(self, unit, of, why):
        with pytest.raises(ValueError, match=f'not {unit}: .*{why}'):
            check_unit(full_size(of), unit, 'x')

    @pytest.mark.parametrize(('unit', 'values', 'why'), [
        ('counts', full_size('tpm'), 'sums to a million'),
        ('tpm', full_size('fpkm'), 'not to a million'),
        ('fpkm', full_size('tpm'), 'as TPM does'),
        ('fpkm', full_size('counts'), 'whole numbers'),
        ('fpkm', np.log2(full_size('fpkm') + 1), 'as if they were log')])
    def test_doubts_warn_of_a_stated_unit(self, monkeypatch, unit, values,
                                          why):
        messages = []
        monkeypatch.setattr(units, 'print_log',
                            lambda message, **_: messages.append(message))
        check_unit(values, unit, 'x')
        assert re.match(f'x: are the values {unit}.*{why}', messages.pop())
        with pytest.raises(ValueError, match=f'not {unit}: .*{why}'):
            check_unit(values, unit, 'x', stated=False)
        assert not messages

    @pytest.mark.parametrize('num_genes', [9, 700])
    def test_small_whole_numbers_are_counts(self, num_genes):
        values = np.random.default_rng(0).integers(
            0, 25, (4, num_genes)).astype(np.float32)
        assert find_unit(values, 'x') == 'counts'
        check_unit(values, 'counts', 'x', stated=False)
        with pytest.raises(ValueError, match='whole numbers, which log'):
            check_unit(values, 'log2_counts', 'x')
        with pytest.raises(ValueError, match='name says log2_tpm, but all'):
            find_unit(values, 'x', 'log2_tpm.csv')

    def test_infinite_and_none(self):
        values = full_size('fpkm')
        values[1, 7] = np.inf
        with pytest.raises(ValueError, match='1 infinite values, the first '
                           'is of sample 1, gene 7'):
            check_unit(values, 'fpkm', 'x')
        with pytest.raises(ValueError, match='has no value'):
            check_unit(np.full((2, 2), np.nan), 'fpkm', 'x')
        with pytest.raises(ValueError, match="got 'rpkm'"):
            check_unit(values, 'rpkm', 'x')

    def test_conversions(self):
        fpkm, counts = full_size('fpkm'), full_size('counts')
        expected = fpkm / fpkm.sum(1, keepdims=True, dtype=np.float64) * 1e6
        for unit in ('fpkm', 'fpkm_uq'):
            after = convert_unit(fpkm, unit, 'tpm', 'x')
            assert after.dtype == np.float32
            assert np.allclose(after, expected, rtol=1e-5)
        after = convert_unit(np.log2(fpkm + 1), 'log2_fpkm', 'log2_tpm', 'x')
        assert np.allclose(after, np.log2(expected + 1), atol=1e-3)
        after = convert_unit(counts, 'counts', 'cpm', 'x')
        assert np.allclose(after.sum(1, dtype=np.float64), 1e6)
        after = convert_unit(np.log2(fpkm + 0.001), 'log2_fpkm', 'log2_fpkm',
                             'x', log2_offset=0.001)
        assert np.allclose(after, np.log2(fpkm + 1), atol=1e-4)

    @pytest.mark.parametrize(('unit', 'target', 'why'), [
        ('counts', 'tpm', 'length of every gene'),
        ('tpm', 'fpkm', 'total is not known'),
        ('zscore', 'tpm', 'lost the scale'),
        ('tpm', 'zscore', 'lost the scale')])
    def test_impossible_conversions(self, unit, target, why):
        with pytest.raises(ValueError, match=why):
            convert_unit(full_size(unit), unit, target, 'x')
        with pytest.raises(ValueError, match='the table has 600; at least'):
            convert_unit(FPKM, 'fpkm', 'tpm', 'x')


@pytest.fixture(scope='module')
def count_files(tmp_path_factory):
    root = tmp_path_factory.mktemp('files')
    values, genes = full_size('counts'), draw_genes(12_000)
    # Half of all reads are of genes that the lists lack.
    values[:, 11_000:] *= 12
    cases = SAMPLES[:3]
    rows = write_matrix(root / 'rows.tsv', values, genes, cases)
    load_expression(rows).save(root / 'x.npz')
    write_htseq_folder(root / 'gdc', cases, genes, values, 'counts')
    symbols = [f'G{place}' for place in range(12_000)]
    write_matrix(root / 'columns.csv', values, genes, cases,
                 across='genes', separator=',')
    write_matrix(root / 'symbols.csv', np.c_[values, values[:, :2]],
                 [*symbols, 'age', 'KPS'], cases, 'case_id', 'genes', ',')
    return root, values, dict.fromkeys(
        ('rows.tsv', 'columns.csv', 'x.npz', 'gdc'), genes) | {
            'symbols.csv': symbols}


class TestGeneList:
    """A list chooses among genes, and changes none of their values."""

    @pytest.mark.parametrize('listed', [None, 11_000, 300])
    @pytest.mark.parametrize('convert', [None, 'cpm', 'log2_cpm'])
    def test_values_are_those_of_all_genes(self, count_files, listed, convert):
        root, values, names = count_files
        expected = values.astype(np.float64)
        if convert:
            expected *= 1e6 / expected.sum(axis=1, keepdims=True)
        if convert == 'log2_cpm':
            expected = np.log2(expected + 1)
        for name, genes in names.items():
            path = None
            if listed:
                path = root / 'genes.txt'
                path.write_text('\n'.join(genes[:listed]))
            loaded = load_expression(root / name, convert=convert,
                                     gene_list=path)
            assert loaded.gene_ids == tuple(genes[:listed])
            assert loaded.unit == (convert or 'counts')
            assert np.allclose(loaded.values, expected[:, :listed], rtol=1e-5)

    @pytest.mark.parametrize('name', ['x_tpm.tsv', 'x_log2_tpm.tsv'])
    def test_logarithms_stay_so(self, tmp_path, name):
        values = np.log2(full_size('tpm')[:, :700] + 1)
        path = write_matrix(tmp_path / name, values, draw_genes(700),
                            SAMPLES[:3])
        genes = tmp_path / 'genes.txt'
        genes.write_text('\n'.join(draw_genes(700)[:50]))
        for listed in (None, genes):
            assert load_expression(path, gene_list=listed).unit == 'log2_tpm'

    def test_names_that_only_the_list_calls_genes(self, count_files):
        root, values, names = count_files
        path = root / 'odd.txt'
        path.write_text('KPS\nG5\n')
        loaded = load_expression(root / 'symbols.csv', gene_list=path,
                                 convert='cpm')
        assert loaded.gene_ids == ('G5', 'KPS')
        totals = values.sum(axis=1, dtype=np.float64) + values[:, 1]
        assert np.allclose(loaded.values[:, 0], values[:, 5] / totals * 1e6)

    def test_faults_of_others_do_not_matter(self, tmp_path):
        """Genes twice, spoiled cells, and ages with the name of a gene."""
        path = tmp_path / 'a.csv'
        path.write_text('case_id,TP53,EGFR,YRNA,YRNA,ABC1,CA125\n'
                        'a,1.5,2,3,4,n.d.,-2\nb,40.5,3,5,6,9,1\n')
        listed = tmp_path / 'genes.txt'
        listed.write_text('TP53\nEGFR\n')
        loaded = load_expression(path, unit='fpkm', gene_list=listed)
        assert loaded.values.tolist() in ([[2, 1.5], [3, 40.5]],
                                          [[1.5, 2], [40.5, 3]])
        listed.write_text('TP53\nYRNA\n')
        with pytest.raises(ValueError, match='YRNA'):
            load_expression(path, unit='fpkm', gene_list=listed)

    def test_what_is_no_gene_beside_ensembl_ids(self, tmp_path):
        """A few go, as spike-ins; half of a table is not left out."""
        genes = tmp_path / 'genes.txt'
        genes.write_text('\n'.join(GENES[:3]))
        names = [*GENES[:-1], 'ERCC-00002']
        path = write_matrix(tmp_path / 'x.tsv', FPKM, names, SAMPLES)
        loaded = read(path, gene_list=genes)
        check(loaded, FPKM[:, :3], GENES[:3])
        assert noted(loaded, 'not genes: ERCC-00002')
        names[350:] = [f'G{place}' for place in range(250)]
        write_matrix(path, FPKM, names, SAMPLES, 'gene_id')
        with pytest.raises(ValueError, match='use one kind of name'):
            read(path, gene_list=genes)


class TestSamples:
    def test_accents_of_a_mac(self):
        rows, notes = match_samples(['a', 'Mu\u0308ller'], {
            'M\xfcller': None, 'b': 'a'})
        assert (rows, notes) == ({'M\xfcller': 1, 'b': 0}, [])

    def test_tcga_case(self):
        for name in ('TCGA-OR-A5L9-01A-11R-A29S-07', 'TCGA-OR-A5L9',
                     'TCGA.OR.A5L9.01A', 'tcga-or-a5l9-01a'):
            assert tcga_case(name) == 'TCGA-OR-A5L9'
        for name in ('P-0001', 'TCGA-OR-A5L9X'):
            assert tcga_case(name) is None
        rows, _ = match_samples(['TCGA.OR.A5L9.11A', 'TCGA.OR.A5L9.01A'],
                                {'TCGA-OR-A5L9': None})
        assert rows == {'TCGA-OR-A5L9': 1}

    def test_first_aliquot_of_the_primary_tumour(self):
        samples = ['TCGA-AA-0001-11A-11R', 'TCGA-AA-0001-01B-11R',
                   'TCGA-AA-0001-01A-21R', 'TCGA-AA-0001-01A-11R',
                   'TCGA-AA-0002-06A-11R', 'p3']
        wanted = {'TCGA-AA-0001': None, 'TCGA-AA-0002': None, 'p3': None,
                  'p4': None}
        rows, notes = match_samples(samples, wanted)
        assert rows == {'TCGA-AA-0001': 3, 'p3': 5}
        assert '1 cases have several samples' in notes[0]
        assert 'TCGA-AA-0001-01A-11R of 3' in notes[0]
        assert 'TCGA-AA-0002-06A-11R' in notes[1]
        assert 'have no sample: p4' in notes[2]
        # A metastasis has to be asked for.
        rows, _ = match_samples(samples, {'TCGA-AA-0002': 'TCGA-AA-0002-06A'})
        assert rows == {'TCGA-AA-0002': 4}

    def test_named_sample(self):
        samples = ['TCGA-AA-0001-01A-11R', 'TCGA-AA-0001-01A-21R',
                   'TCGA-AA-0001-11A-11R']
        for name, row in (('TCGA-AA-0001-01A-21R', 1),
                          ('TCGA-AA-0001-11A', 2), ('TCGA-AA-0001', 0)):
            rows, _ = match_samples(samples, {'x': name})
            assert rows == {'x': row}

    def test_cases_of_a_table(self):
        values = FPKM.copy()
        values[2] = np.nan
        of_cases = table(values, GENES, SAMPLES).for_cases(
            {sample[:12]: None for sample in SAMPLES})
        check(of_cases, FPKM[[0, 1, 3]], GENES,
              [SAMPLES[row][:12] for row in (0, 1, 3)])
        assert 'without any value: TCGA-AA-0002' in of_cases.notes[-1]


class TestAlignment:
    def test_same_vector_whatever_the_file(self, tmp_path):
        """Check 19: order, versions, copies, summaries, extra genes."""
        order = np.random.default_rng(0).permutation(600)
        names = [f'{GENES[place]}.{place % 9}' for place in order]
        extra = ['ENSGR0000002586.1', 'ENSG00000002586.1_PAR_Y', '__ambiguous',
                 'ENSG00009999999.1']
        values = np.concatenate([FPKM[:, order], np.ones((4, 4))], axis=1)
        path = write_matrix(tmp_path / 'x.tsv', values.astype(np.float32),
                            [*names, *extra], SAMPLES)
        aligned = read(path).align(GENES)
        check(aligned)
        assert noted(aligned, 'left out 1 genes')

    def test_missing_genes_are_nan_counted_and_limited(self):
        short = table(FPKM[:, 60:], GENES[60:])
        aligned = short.align(GENES, max_missing=0.1)
        assert np.isnan(aligned.values[:, :60]).all()
        assert np.array_equal(aligned.values[:, 60:], FPKM[:, 60:])
        assert noted(aligned, '60 of 600 genes are missing')
        gaps = FPKM.copy()
        gaps[1, :100] = np.nan
        symbols = [f'G{place}' for place in range(600)]
        assert noted(table(gaps, GENES).align(GENES, 0.2), '100 values of 1 '
                     'cases are empty and get the training mean, the first '
                     f'is of case1, gene {GENES[0]}')
        assert not noted(table(FPKM, GENES).align(GENES), 'are empty')
        for wrong, limit, message in (
                (short, .09, r'lacks 60 of 600 genes \(10.0%\), more than '
                 f'max_missing=0.09.*{GENES[0]}'),
                (short, 1, 'max_missing must be'),
                (table(gaps, GENES), .1, 'case case1 lacks 16.7% of 600 '
                 'genes, more than max_missing=0.1'),
                (table(FPKM, symbols), .1, 'the list has ensembl names, the '
                 'table symbol names')):
            with pytest.raises(ValueError, match=message):
                wrong.align(GENES, limit)

    def test_tables_are_not_changed_in_place(self):
        original = table(FPKM.copy(), GENES)
        with pytest.raises(ValueError, match='read-only'):
            original.values[0, 0] = 1
        assert copy.deepcopy(original) is original
        with pytest.raises(ValueError, match=r'\(4, 599\), got \(4, 600\)'):
            table(FPKM, GENES[1:])


def naive_scale(values, training, log2=True):
    """By pandas, in float64."""
    values, training = (np.log2(pd.DataFrame(one, dtype=float) + 1) if log2
                        else pd.DataFrame(one, dtype=float)
                        for one in (values, training))
    std = training.std(ddof=0)
    scaled = (values - training.mean()) / std.where(std >= 1e-6)
    return scaled.clip(-10, 10).fillna(0).to_numpy()


def fitted(*args, clip=10., **options):
    """The scale that is fitted to a table, as a checkpoint carries it."""
    scale = GeneScale()
    scale.set(table(*args, **options).fit_scale(clip))
    return lambda values: scale(torch.tensor(values))


class TestScale:
    def test_against_naive(self):
        training = draw_fpkm(40, 30, 1)
        training[:, 3] = 2.5
        training[:, 4] = np.nan
        training[5, 6] = np.nan
        other = draw_fpkm(9, 30, 2)
        other[0, 7] = 1e30
        other[1, 8] = np.nan
        scale = fitted(training)
        scaled = scale(other)
        assert scaled.dtype == torch.float32
        assert np.allclose(scaled, naive_scale(other, training), atol=1e-4)
        assert scaled[0, 7] == 10
        assert (scaled[:, 3] == 0).all()
        assert (scaled[:, 4] == 0).all()
        assert scaled[1, 8] == 0
        assert np.allclose(scale(training),
                           naive_scale(training, training), atol=1e-4)
        clipped = fitted(training, clip=1.5)(other)
        assert float(clipped.abs().max()) == 1.5

    def test_many_genes_go_in_blocks(self):
        training = draw_fpkm(5, 9000, 1)
        picked = np.array([0, 4095, 4096, 8191, 8192, 8999])
        assert np.allclose(
            fitted(training)(training[:2])[:, picked],
            naive_scale(training[:2, picked], training[:, picked]), atol=1e-4)

    @pytest.mark.parametrize('unit', ['log2_fpkm', 'zscore'])
    def test_no_second_logarithm(self, unit):
        training = np.log2(draw_fpkm(40, 30, 1) + 1) - (unit == 'zscore')
        assert np.allclose(fitted(training, unit=unit)(training),
                           naive_scale(training, training, False), atol=1e-4)

    def test_hash_is_of_the_fitted_cases(self):
        values = draw_fpkm(3, 5)
        first, reverse, other = (
            table(values[order], cases=list(cases)).fit_scale()
            for order, cases in (([0, 1, 2], 'abc'), ([2, 1, 0], 'cba'),
                                 ([0, 1, 2], 'abd')))
        assert first['cases_hash'] == reverse['cases_hash']
        assert first['cases_hash'] != other['cases_hash']
        assert first['cases_hash'] == names_hash(['a', 'b', 'c'])
        assert first['num_cases'] == 3
        assert names_hash(['ab', 'c']) != names_hash(['a', 'bc'])
        # Nothing of the cases themselves.
        state = table(values).fit_scale()
        assert not any('case0' in str(value) for value in state.values())

    def test_refusals(self):
        for wrong, clip, message in (
                (table(COUNTS, unit='counts'), 10., "convert='cpm'"),
                (table(FPKM), 0, 'clip must be positive'),
                (table(FPKM[:0]), 10., 'no case to fit')):
            with pytest.raises(ValueError, match=message):
                wrong.fit_scale(clip)
        scale = GeneScale()
        scale.set(table(FPKM).fit_scale())
        with pytest.raises(ValueError, match='have 599 genes.* 600'):
            scale(torch.from_numpy(FPKM[:, 1:]))
        with pytest.raises(ValueError, match="x holds tpm .* fitted to fpkm"):
            scale.check_unit('tpm', 1., 'x')
        scale.check_unit('fpkm', 1., 'x')


@pytest.fixture(scope='module')
def counts(data_root):
    return load_expression(there(
        data_root / 'tcga_counts/TCGA_TEST_Counts.exp.gz'))


class TestRealTables:
    def test_60483_genes(self, counts):
        assert counts.unit == 'counts'
        # 60,483 rows, 50 of them copies on chromosome Y.
        assert counts.values.shape == (20, 60_433)
        assert counts.notes[0].startswith('left out 50 copies')
        column = counts.gene_ids.index('ENSG00000000003')
        assert counts.values[:3, column].tolist() == [1297, 2043, 1132]

    def test_cases_scale_and_other_releases(self, counts, data_root):
        cases = counts.for_cases({
            sample[:12]: None for sample in counts.case_ids})
        assert len(cases.case_ids) == 20
        cpm = cases.convert('cpm')
        assert np.allclose(cpm.values.sum(1, dtype=np.float64), 1e6)
        scale = GeneScale()
        scale.set(cpm.fit_scale())
        scaled = scale(torch.from_numpy(cpm.values.copy()))
        varies = scale.std >= 1e-6
        assert scaled.isfinite().all()
        assert torch.allclose(scaled[:, varies].mean(0),
                              torch.zeros(int(varies.sum())), atol=1e-3)
        assert (scaled[:, ~varies] == 0).all()
        other = load_expression(there(
            data_root / 'tcga_counts/TCGA_CHOL_Counts.exp.gz'))
        assert other.values.shape == (36, 56_537)
        with pytest.raises(ValueError, match='lacks .* of 60433 genes'):
            other.align(counts.gene_ids, max_missing=0.01)
        aligned = other.align(counts.gene_ids)
        missing = np.isnan(aligned.values[0])
        assert 0 < missing.mean() < 0.1
        scaled = scale(torch.from_numpy(aligned.convert('cpm').values))
        assert (scaled[:, missing] == 0).all()

    def test_porpoise(self, data_root):
        loaded = load_expression(there(
            data_root / 'tcga_porpoise/datasets_csv_mutsig'
            / 'tcga_brca_all_clean.csv.zip'))
        assert loaded.unit == 'zscore'
        assert loaded.values.shape == (956, 1558)
        assert loaded.case_ids[:2] == ('TCGA-3C-AALI', 'TCGA-3C-AALJ')
        assert loaded.gene_ids[0] == 'AAK1'
        assert loaded.values[0, 0] == np.float32(-0.2670)
