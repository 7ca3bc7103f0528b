"""Tables of PORPOISE and counts of TCGA, converted to cohorts."""

import gzip
import zipfile

import numpy as np
import pytest
from commands import call

from mmmedmask.datasets.conversion import LayoutError
from mmmedmask.datasets.conversion.omics import OmicConversion
from mmmedmask.datasets.conversion.porpoise import convert, find_tables
from mmmedmask.datasets.conversion.tcga_counts import convert as convert_counts
from mmmedmask.datasets.conversion.tcga_counts import find_types
from mmmedmask.datasets.expression.table import load_expression
from mmmedmask.datasets.slides.cohort import read_cohort
from mmmedmask.phantoms.slide_files import draw_genes

HEADER = ('', 'case_id', 'slide_id', 'age', 'site', 'survival_months',
          'censorship', 'oncotree_code', 'A_rnaseq', 'B_rnaseq', 'C_rnaseq',
          'A_mut', 'A_cnv')
# The site lost its leading zero; the second patient has two slides.
ROWS = [
    ('0', 'TCGA-05-0001', 'TCGA-05-0001-01Z-00-DX1.AB.svs', '60', '5',
     '12.5', '1.0', 'IDC', '0.1', '-1.2', '2.0', '1', '0'),
    ('1', 'TCGA-05-0002', 'TCGA-05-0002-01Z-00-DX1.AB.svs', '61', '5',
     '30', '0.0', 'ILC', '0.2', '-0.2', '1.0', '0', '1'),
    ('2', 'TCGA-05-0002', 'TCGA-05-0002-01Z-00-DX2.CD.svs', '61', '5',
     '30', '0.0', 'ILC', '0.2', '-0.2', '1.0', '0', '1'),
    ('3', 'TCGA-A2-0003', 'TCGA-A2-0003-01Z-00-DX1.AB.svs', '61', 'A2',
     '3', '1.0', 'MDLC', '-0.3', '0.7', '-1.0', '0', '1'),
]


def write_table(folder, cohort='brca', rows=ROWS, header=HEADER):
    folder.mkdir(parents=True, exist_ok=True)
    text = '\n'.join(','.join(row) for row in (header, *rows)) + '\n'
    name = f'tcga_{cohort}_all_clean.csv'
    with zipfile.ZipFile(folder / f'{name}.zip', 'w') as archive:
        archive.writestr(name, text)
    return folder


def changed(row, **cells):
    return tuple(cells.get(name, value)
                 for name, value in zip(HEADER, row, strict=True))


def other_cohort(folder):
    """LUSC beside it, with the genes in another order."""
    header = tuple({'A_rnaseq': 'B_rnaseq', 'B_rnaseq': 'A_rnaseq'}.get(
        name, name) for name in HEADER)
    rows = [changed(row, case_id=row[1].replace('-', ''),
                    slide_id=f's{row[0]}', oncotree_code='LUSC')
            for row in ROWS]
    return write_table(folder, 'lusc', rows, header)


class TestPorpoise:
    def test_becomes_a_cohort_and_a_table(self, tmp_path):
        write_table(tmp_path / 'in/deep')
        conversion = convert(find_tables(tmp_path / 'in'))
        conversion.write(tmp_path / 'out')
        cases = read_cohort(tmp_path / 'out/cohort.csv')
        assert [case.case_id for case in cases] == [
            'TCGA-05-0001', 'TCGA-05-0002', 'TCGA-A2-0003']
        assert [case.label for case in cases] == ['IDC', 'ILC', 'MDLC']
        assert [len(case.slides) for case in cases] == [1, 2, 1]
        assert cases[0].slides[0].slide_id == 'TCGA-05-0001-01Z-00-DX1.AB'
        assert cases[0].site == '05'
        assert cases[0].survival_months == 12.5
        assert [case.censorship for case in cases] == [1, 0, 1]
        table = load_expression(tmp_path / 'out/expression.npz')
        assert table.unit == 'zscore'
        assert table.gene_ids == ('A', 'B', 'C')
        assert table.case_ids == tuple(case.case_id for case in cases)
        assert np.allclose(table.values, [[.1, -1.2, 2], [.2, -.2, 1],
                                          [-.3, .7, -1]])
        genes = (tmp_path / 'out/genes.txt').read_text()
        assert genes.split() == ['A', 'B', 'C']
        assert 'made within one cohort' in conversion.notices[0]
        report = conversion.check(tmp_path / 'out')
        assert not report.problems
        assert [one.files for one in report.notices
                if one.kind == 'few_cases'] == [['IDC'], ['ILC'], ['MDLC']]

    def test_keeps_the_classes_asked_for(self, tmp_path):
        whole = convert(find_tables(write_table(tmp_path)))
        conversion = whole.of_classes(['ILC', 'IDC'])
        assert conversion.table.case_ids == ('TCGA-05-0001', 'TCGA-05-0002')
        assert conversion.describe()[0] == '2 patients: 1 IDC, 1 ILC'
        assert conversion.notices[-1] == 'left out 1 patients of other classes'
        with pytest.raises(ValueError, match=r"of \['LUAD'\]; the classes "
                                             r"are \['IDC', 'ILC', 'MDLC'\]"):
            whole.of_classes(['LUAD'])

    def test_by_command(self, tmp_path):
        write_table(tmp_path / 'in')
        printed = call('dataset_converters/convert.py', 'porpoise',
                       tmp_path / 'in', tmp_path / 'out', '--cohorts', 'brca',
                       '--classes', 'ILC', 'IDC', '--check')
        assert f'{tmp_path / "out"}: cohort.csv, expression.npz' in printed
        assert '2 patients: 1 IDC, 1 ILC' in printed
        assert 'NOTICE: left out 1 patients of other classes' in printed
        assert 'PROBLEMS: none' in printed
        cases = read_cohort(tmp_path / 'out/cohort.csv')
        assert [case.label for case in cases] == ['IDC', 'ILC']
        # A slide contradicts another one of its patient.
        write_table(tmp_path / 'in', rows=[
            ROWS[1], changed(ROWS[2], oncotree_code='IDC')])
        printed = call('dataset_converters/convert.py', 'porpoise',
                       tmp_path / 'in', tmp_path / 'no', status=1)
        assert 'oncotree_code is IDC and ILC' in printed
        assert 'error: nothing was written' in printed

    def test_cohorts_together_are_an_artefact(self, tmp_path):
        write_table(tmp_path / 'in')
        other_cohort(tmp_path / 'in')
        conversion = convert(find_tables(tmp_path / 'in'))
        assert conversion.notices[0].startswith('WARNING: brca and lusc were')
        assert conversion.table.gene_ids == ('A', 'B', 'C')
        assert np.allclose(conversion.table.values[:, 0],
                           [.1, .2, -.3, -1.2, -.2, .7])
        conversion.write(tmp_path / 'out')
        found = {one.files[0] for one in
                 conversion.check(tmp_path / 'out').problems
                 if one.kind == 'scaled_apart'}
        assert found == {'IDC', 'ILC', 'LUSC', 'MDLC'}
        assert [case.site for case in read_cohort(tmp_path / 'out/cohort.csv')
                ] == ['05', '05', 'A2', None, None, None]
        one = convert(find_tables(tmp_path / 'in', ['LUSC']))
        assert one.table.gene_ids == ('B', 'A', 'C')

    def test_finds_copies_and_changed_files(self, tmp_path):
        rows = [*ROWS[:3], changed(ROWS[3], A_rnaseq='0.1', B_rnaseq='-1.2',
                                   C_rnaseq='2.0')]
        conversion = convert(find_tables(write_table(tmp_path / 'in',
                                                     rows=rows)))
        conversion.write(tmp_path / 'out')
        (problem, ) = conversion.check(tmp_path / 'out').problems
        assert problem.kind == 'identical_expression'
        assert problem.files == ['TCGA-05-0001', 'TCGA-A2-0003']
        path = tmp_path / 'out/cohort.csv'
        path.write_text(path.read_text().replace(',ILC,', ',IDC,'))
        OmicConversion(conversion.lines, conversion.table.select(
            [0, 1], ['x', 'y'])).table.save(tmp_path / 'out/expression.npz')
        kinds = [(one.kind, one.files) for one in
                 conversion.check(tmp_path / 'out').problems]
        assert ('written_mismatch', ['cohort.csv']) in kinds
        assert ('written_mismatch', ['expression.npz']) in kinds

    def test_two_tables_of_a_cohort_are_refused(self, tmp_path):
        for folder in ('datasets_csv', 'datasets_csv_mutsig'):
            write_table(tmp_path / folder)
        with pytest.raises(LayoutError, match='keep one of them'):
            find_tables(tmp_path)

    @pytest.mark.parametrize('find', [find_tables, find_types])
    def test_a_folder_that_cannot_be_read_is_named(self, tmp_path, find,
                                                   lock_folder):
        for name in ('a', 'locked'):
            write_table(tmp_path / name)
        lock_folder(tmp_path / 'locked')
        with pytest.raises(PermissionError, match='locked'):
            find(tmp_path)

    def test_names_what_is_not_there(self, tmp_path):
        with pytest.raises(LayoutError, match='has no tcga_'):
            find_tables(tmp_path)
        write_table(tmp_path, header=tuple(
            'code' if name == 'oncotree_code' else name for name in HEADER))
        with pytest.raises(LayoutError, match=r"of \['luad'\], it has those "
                                              r"of \['brca'\]"):
            find_tables(tmp_path, ['luad'])
        with pytest.raises(ValueError,
                           match=r"lacks the columns \['oncotree_code'\]"):
            convert(find_tables(tmp_path))


# Fewer cannot become counts per million.
GENES = draw_genes(10_000)


def write_counts(folder, name, samples, seed=0, genes=GENES):
    random = np.random.default_rng(seed)
    values = random.integers(0, 5000, (len(genes), len(samples)))
    lines = ['\t'.join(['', *samples])]
    lines += ['\t'.join([gene, *map(str, row)])
              for gene, row in zip(genes, values, strict=True)]
    folder.mkdir(parents=True, exist_ok=True)
    with gzip.open(folder / f'TCGA_{name}_Counts.exp.gz', 'wt') as stream:
        stream.write('\n'.join(lines) + '\n')
    return values.T


def barcode(case, kind='01', aliquot='11R'):
    return f'{case}-{kind}A-{aliquot}-A29S-07'


class TestCounts:
    def test_becomes_one_cohort_of_tumours(self, tmp_path):
        acc = write_counts(tmp_path, 'ACC', [
            barcode('TCGA-OR-0002'), barcode('TCGA-OR-0001', '11'),
            barcode('TCGA-OR-0001', aliquot='12R'),
            barcode('TCGA-OR-0001', aliquot='11R'),
            barcode('TCGA-OR-0003', '11')])
        uvm = write_counts(tmp_path, 'UVM', [barcode('TCGA-V4-0001')], 1)
        write_counts(tmp_path, 'TEST', [barcode('TCGA-2J-0001')], 2)
        conversion = convert_counts(find_types(tmp_path))
        table = conversion.table
        assert table.case_ids == ('TCGA-OR-0002', 'TCGA-OR-0001',
                                  'TCGA-V4-0001')
        assert [line['label'] for line in conversion.lines] == [
            'ACC', 'ACC', 'UVM']
        assert table.unit == 'cpm'
        for row, counts in zip(table.values, (acc[0], acc[3], uvm[0]),
                               strict=True):
            assert np.allclose(row, 1e6 * counts / counts.sum(), rtol=1e-5)
        notes = ' '.join(conversion.notices)
        assert '1 cases have several samples, the first was taken' in notes
        assert '1 cases have samples, but none that was asked for' in notes
        conversion.write(tmp_path / 'out')
        assert not conversion.check(tmp_path / 'out').problems
        cases = read_cohort(tmp_path / 'out/cohort.csv')
        assert [case.slides for case in cases] == [(), (), ()]
        assert cases[2].site == 'V4'

    def test_primary_cancers_of_the_blood(self, tmp_path):
        write_counts(tmp_path, 'LAML', [
            barcode('TCGA-AB-0001', '03'), barcode('TCGA-AB-0002', '09'),
            barcode('TCGA-AB-0003', '04')])
        table = convert_counts(find_types(tmp_path)).table
        assert table.case_ids == ('TCGA-AB-0001', 'TCGA-AB-0002')
        write_counts(tmp_path, 'ACC', [barcode('TCGA-OR-0001', '11')])
        with pytest.raises(ValueError, match='ACC_Counts.* no sample is of a '
                           'primary tumour.*TCGA-OR-0001-11A'):
            convert_counts(find_types(tmp_path))

    def test_takes_the_types_asked_for(self, tmp_path):
        for name in ('ACC', 'TEST'):
            write_counts(tmp_path, name, [barcode('TCGA-OR-0001')])
        assert list(find_types(tmp_path, ['TEST'])) == ['TEST']
        with pytest.raises(LayoutError, match=r"of \['UVM'\], it has those "
                                              r"of \['ACC', 'TEST"):
            find_types(tmp_path, ['UVM'])
        with pytest.raises(LayoutError, match='nowhere does not exist'):
            find_types(tmp_path / 'nowhere')

    def test_types_do_not_change_each_other(self, tmp_path):
        """Counts per million are of all genes that a file has."""
        all_genes = draw_genes(10_400)
        for name, case, genes in (('ACC', 'TCGA-OR-0001', all_genes[:10_000]),
                                  ('UVM', 'TCGA-V4-0001', all_genes)):
            write_counts(tmp_path, name, [barcode(case)], genes=genes)
        both, alone = (
            convert_counts(find_types(tmp_path, types)).table
            for types in (('ACC', 'UVM'), ('UVM', )))
        column = {gene: place for place, gene in enumerate(alone.gene_ids)}
        places = [column[gene] for gene in both.gene_ids]
        assert len(places) == 10_000
        assert np.array_equal(both.values[1], alone.values[0, places])

    def test_two_files_of_a_type_are_refused(self, tmp_path):
        for folder in ('a', 'b'):
            write_counts(tmp_path / folder, 'ACC', [barcode('TCGA-OR-0001')])
        with pytest.raises(LayoutError, match='keep one of them'):
            find_types(tmp_path)

    def test_wrong_patients_are_refused(self, tmp_path):
        for name in ('ACC', 'UVM'):
            write_counts(tmp_path, name, [barcode('TCGA-OR-0001')])
        with pytest.raises(ValueError, match='TCGA-OR-0001'):
            convert_counts(find_types(tmp_path))
        write_counts(tmp_path, 'ACC', ['sample1', 'sample2'])
        with pytest.raises(ValueError,
                           match=r"not TCGA barcodes: \['sample1'"):
            convert_counts(find_types(tmp_path))

    def test_by_command(self, tmp_path):
        for name, case in (('ACC', 'TCGA-OR-0001'), ('UVM', 'TCGA-V4-0001')):
            write_counts(tmp_path / 'in', name, [barcode(case)])
        printed = call(
            'dataset_converters/convert.py', 'tcga_counts', tmp_path / 'in',
            tmp_path / 'out', '--types', 'UVM', '--unit', 'log2_cpm',
            '--check')
        assert '1 patients: 1 UVM' in printed
        assert '10000 genes are the same in all cases' in printed
        assert load_expression(
            tmp_path / 'out/expression.npz').unit == 'log2_cpm'


def test_real_breast_cancers(data_root):
    folder = data_root / 'tcga_porpoise'
    if not folder.is_dir():
        pytest.skip(f'{folder} is not there')
    conversion = convert(find_tables(folder, ['brca'])).of_classes(
        ['IDC', 'ILC'])
    assert conversion.describe() == [
        '895 patients: 737 IDC, 158 ILC', '955 slides',
        '1558 genes (zscore) of 895 patients']
