"""Cohort csv, splits of others and folds of our own."""

import json
from collections import Counter

import pandas
import pytest
from slide_omic_files import there

from mmmedmask.datasets.slides.cohort import (
    Case,
    Slide,
    read_cohort,
    read_split,
)
from mmmedmask.datasets.slides.folds import draw_folds, write_folds


def write(path, *lines):
    path.write_text('\n'.join(lines) + '\n')
    return path


def many_cases(**counts):
    """Cases of classes, spread over 13 sites."""
    cases = []
    for label, count in counts.items():
        cases += [Case(f'{label}-{number}', label, site=f's{number % 13}')
                  for number in range(count)]
    return cases


class TestCohort:
    def test_all_columns(self, tmp_path):
        path = write(
            tmp_path / 'a.csv',
            'case_id,slide_id,label,split,site,survival_months,censorship,'
            'rna_id,features_path,mpp,age',
            'p1,s1.x.svs,LUAD,train,A,12.5,0,r1,f/s1.h5,0.25,50',
            'p2,s3,LUSC,val,B,,1.0,,,,60',
            'p1,s2.ndpi,LUAD,train,A,12.5,0,r1,,,50', 'p3,,LUAD,,,,,,,,',
            'p4,NA,LUAD,NA,nan,NA,NA,NULL,N/A,NA,NA', 'p5,,LUAD,,,,,NULL,,,')
        assert read_cohort(path) == [
            Case('p1', 'LUAD', (Slide('s1.x', 'f/s1.h5', 0.25), Slide('s2')),
                 'train', 'A', 12.5, 0, 'r1'),
            Case('p2', 'LUSC', (Slide('s3'), ), 'val', 'B', None, 1),
            Case('p3', 'LUAD'), Case('p4', 'LUAD'), Case('p5', 'LUAD')]

    def test_tumour_against_normal_of_a_patient(self, tmp_path):
        path = write(
            tmp_path / 'a.csv', 'case_id,slide_id,label',
            'TCGA-AA-0001-01A,s,tumour', 'TCGA-AA-0001-11A,t,normal')
        assert [case.label for case in read_cohort(path)] == [
            'tumour', 'normal']

    def test_other_label(self, tmp_path):
        path = write(tmp_path / 'a.csv', 'case_id,slide_id,kind', 'p,s,x')
        assert read_cohort(path, 'kind') == [Case('p', 'x', (Slide('s'), ))]

    @pytest.mark.parametrize(('lines', 'message'), [
        (['case_id,label', 'p,x'], r"lacks the columns \['slide_id'\]"),
        (['case_id,slide_id,label', ',s,x'], 'line 2: case_id must not be'),
        (['case_id,slide_id,label', 'p,s,x', 'q,t,'],
         'line 3: label must not be empty'),
        (['case_id,slide_id,label', 'p,s,x', 'p,t,y'],
         "line 3: case p has label 'y', in a line before 'x'"),
        (['case_id,slide_id,label,split', 'p,s,x,train', 'p,t,x,test'],
         "line 3: case p has split 'test'"),
        (['case_id,slide_id,label', 'p,s.svs,x', 'q,s.h5,x'],
         'line 3: slide s is listed in line 2'),
        (['case_id,slide_id,label,censorship', 'p,s,x,2'],
         r'line 2: censorship must be one of \(None, 0, 1\), got 2'),
        (['case_id,slide_id,label,survival_months', 'p,s,x,-1'],
         'survival_months must be at least 0, got -1'),
        (['case_id,slide_id,label,survival_months', 'p,s,x,long'],
         "must be a number, got 'long'"),
        (['case_id,slide_id,label,mpp', 'p,s,x,0'], 'mpp must be positive'),
        (['case_id,slide_id,label,split', 'p,s,x,trian'],
         r"line 2: split must be one of .*'trian'. Did you mean train\?"),
        (['case_id,slide_id,label', 'p,s,Luad', 'q,t,LUAD'],
         "label is 'Luad' and 'LUAD': they differ by upper and lower case"),
        (['case_id,slide_id,label', 'p,s,x', 'P,t,y'], "case_id is 'p' and"),
        (['case_id,slide_id,label', 'p,s,x', 'q,S,y'], "slide_id is 's' and"),
        (['case_id,slide_id,label', 'P 1,s,x', 'P\xa01,t,y'],
         r"case_id is 'P 1' and 'P\\xa01': they differ by .*blanks"),
        (['case_id,slide_id,label', 'p,S-1,x', 'q,S\u20111,y'],
         'slide_id is .* kinds of hyphens alone'),
        (['case_id,slide_id,label,site', 'p,s,x,Berlin', 'q,t,x,berlin'],
         "site is 'Berlin' and 'berlin'"),
        (['case_id,slide_id,label,split', 'M\xfcller,s,x,train',
          'Mu\u0308ller,t,x,test'], "line 3: case M\xfcller has split 'test'"),
        (['case_id,slide_id,label', 'p,s,NA'],
         "line 2: label must not be empty, got 'NA'"),
        (['case_id,slide_id,label,features_path', 'p,s,x,f/a.h5',
          'q,t,x,./f/a.h5'],
         'line 3: features_path f/a.h5 is listed in line 2'),
        (['case_id,slide_id,label,rna_id', 'p,s,x,r', 'q,t,x,r'],
         'line 3: rna_id r is listed in line 2'),
        (['case_id,slide_id,label', 'TCGA-AA-0001-01A,s,x',
          'TCGA-AA-0002-01A,t,x', 'TCGA-AA-0001-06A,u,x'],
         'the cases TCGA-AA-0001-01A and TCGA-AA-0001-06A are one patient, '
         'TCGA-AA-0001: write the patient in case_id'),
        (['case_id,slide_id,label',
          'TCGA-AA-0001,TCGA-AA-0001-01Z-00-DX1.F6E9,x',
          'TCGA-AA-0003,TCGA-AA-0002-01Z-00-DX1.F6E9,x'],
         'line 3: slide_id TCGA-AA-0002-01Z-00-DX1.F6E9 is of another '
         'patient than case TCGA-AA-0003'),
        (['case_id,slide_id,label,rna_id', 'TCGA-AA-0001,,x,TCGA.AA.0001.06A',
          'p,TCGA-AA-0002-01Z-00-DX1,x,', 'TCGA-AA-0003,s,x,tcga-aa-0004-01a'],
         'line 4: rna_id tcga-aa-0004-01a is of another patient')])
    def test_bad_lines(self, tmp_path, lines, message):
        with pytest.raises(ValueError, match=message):
            read_cohort(write(tmp_path / 'a.csv', *lines))

    def test_likely_typo_is_told(self, tmp_path, monkeypatch):
        lines = []
        monkeypatch.setattr('mmengine.logging.print_log',
                            lambda message, **_: lines.append(message))
        path = write(tmp_path / 'a.csv', 'case_id,slide_id,label,censored_'
                     ',survival_month', 'p,s,x,0,3')
        assert read_cohort(path)[0].survival_months is None
        assert "Did you mean survival_months?" in ''.join(lines)


COHORT = [Case('p1', 'x', (Slide('s1.a'), Slide('s2'))),
          Case('p2', 'y', (Slide('s3'), )), Case('p3', 'y', (Slide('s4'), )),
          Case('p4', 'x')]


class TestReadSplit:
    def test_names_that_the_cohort_lacks(self, tmp_path):
        path = write(tmp_path / 'splits_0.csv', ',train,val,test',
                     '0,p1,p2,p3', '1,p9,,')
        split, notes = read_split(path, COHORT)
        assert split == {'p1': 'train', 'p2': 'val', 'p3': 'test'}
        assert 'not in the cohort: p9' in notes[0]
        with pytest.raises(FileNotFoundError, match=r"\['splits_0.csv'\]"):
            read_split(tmp_path / 'c.csv', COHORT)

    @pytest.mark.parametrize(('lines', 'split'), [
        ([',train,val', '0,s1.a.svs,s3', '1,s2,NA', '2,NA,NA'],
         {'p1': 'train', 'p2': 'val'}),
        ([',train,val,test', 'p1,True,False,False', 'p2,False,False,True'],
         {'p1': 'train', 'p2': 'test'})])
    def test_slides_and_truths(self, tmp_path, lines, split):
        path = write(tmp_path / 'a.csv', *lines)
        assert read_split(path, COHORT)[0] == split

    @pytest.mark.parametrize(('lines', 'message'), [
        ([',train,val,test', '0,P1,p2,p3'],
         'P1 is in train, the cohort calls it p1'),
        ([',train,val,test', '0,p 1,p2,p3'],
         'p 1 is in train, the cohort calls it p1'),
        ([',train,val,test', '0,p1,p2,p3', '1,p1,,'],
         'has 1 names twice in train: p1'),
        ([',train,val,tset', '0,p1,p2,p3'], "'tset'. Did you mean test"),
        (['vla,train', 'p1,p2'], "'vla'. Did you mean val"),
        ([',train,test', 'p1,True,False', 'p2,Ture,False'],
         "line 3: train must be .*'ture'. Did you mean true"),
        ([',train,val', '0,s1.a,s2'], 'case p1 is in train and, by s2, in '
         'val: a patient belongs to one split'),
        ([',train,val', '0,q1,q2'], 'names no case or slide.*q1'),
        (['a,b', '1,2'], 'must have the columns')])
    def test_bad_lines(self, tmp_path, lines, message):
        with pytest.raises(ValueError, match=message):
            read_split(write(tmp_path / 'a.csv', *lines), COHORT)

    def test_whole_numbers_of_pandas(self, tmp_path):
        """It writes 2.0 for 2 if columns differ in length."""
        cohort = [Case(str(name), 'x') for name in (*range(1, 8), 10)]
        path = tmp_path / 'a.csv'
        pandas.DataFrame(dict(
            train=pandas.Series([1, 3, 7]), val=pandas.Series([2, 4]),
            test=pandas.Series([5, 10]))).to_csv(path)
        assert '1,3,4.0,10.0' in path.read_text()
        split, notes = read_split(path, cohort)
        assert split == {'1': 'train', '3': 'train', '7': 'train',
                         '2': 'val', '4': 'val', '5': 'test', '10': 'test'}
        assert notes[0] == 'a.csv names cases as 2.0 in val: taken as 2'
        # They are cases themselves, or the numbers are none.
        write(path, 'train,val', '3,1.0', '4,')
        assert read_split(path, [*cohort[2:4], Case('1.0', 'y')])[0] == {
            '3': 'train', '4': 'train', '1.0': 'val'}
        assert '1 names of a.csv are not in the cohort: 1.0' in read_split(
            path, cohort[1:])[1]

    def test_slides_called_as_other_patients(self, tmp_path):
        cohort = [Case('1', 'x', (Slide('2'), Slide('9'))),
                  Case('2', 'y', (Slide('1'), ))]
        path = write(tmp_path / 'a.csv', 'train,val', '1,2')
        assert read_split(path, cohort)[0] == {'1': 'train', '2': 'val'}
        write(path, 'train,val', '9,2')
        with pytest.raises(ValueError, match='2 in val is the case 2 and a '
                           'slide of the case 1'):
            read_split(path, cohort)


class TestDrawFolds:
    def test_shares_and_classes(self):
        cases = many_cases(LUAD=470, LUSC=476)
        folds = draw_folds(cases, 5, seed=3)
        label = {case.case_id: case.label for case in cases}
        tested = Counter()
        for fold in folds:
            assert set(fold) == set(label)
            sizes = Counter(fold.values())
            assert abs(sizes['test'] - 189) <= 1
            assert abs(sizes['val'] - 189) <= 1
            for split in ('train', 'val', 'test'):
                of_class = Counter(label[case] for case in fold
                                   if fold[case] == split)
                share = of_class['LUAD'] / of_class.total()
                assert abs(share - 470 / 946) < 0.01
            tested.update(case for case in fold if fold[case] == 'test')
        assert set(tested.values()) == {1}
        assert len(tested) == 946
        # Without validation the same are tested, and all others train.
        for fold, other in zip(folds, draw_folds(cases, 5, 3, validate=False),
                               strict=True):
            assert other == {case: split.replace('val', 'train')
                             for case, split in fold.items()}

    def test_sites_stay_together(self):
        cases = many_cases(a=200, b=90)
        for seed in range(3):
            for fold in draw_folds(cases, 4, seed, by_site=True):
                places = {}
                for case in cases:
                    places.setdefault(case.site, set()).add(fold[case.case_id])
                assert all(len(place) == 1 for place in places.values())
                for label in 'ab':
                    assert {fold[case.case_id] for case in cases
                            if case.label == label} == {'train', 'val', 'test'}

    def test_sites_that_share_a_patient_stay_together(self):
        cases = [Case(f'TCGA-AA-{number:04d}-01A', 'tumour',
                      site=f's{number % 12}') for number in range(48)]
        cases += [Case(f'TCGA-AA-{number:04d}-11A', 'normal',
                       site=f's{number % 12 // 2 * 2}')
                  for number in range(48)]
        for fold in draw_folds(cases, 3, by_site=True):
            for kind in (slice(8, 12), slice(12)):
                places = {}
                for case in cases:
                    name = case.site if kind.start else case.case_id[kind]
                    places.setdefault(name, set()).add(fold[case.case_id])
                assert all(len(place) == 1 for place in places.values())

    @pytest.mark.parametrize('told', [None, '5', '05'])
    def test_site_of_a_barcode(self, told):
        """Also where the column tells it for some, without the zero."""
        cases = [Case(f'TCGA-{site}-{number:04d}', 'x',
                      site=told if site == '05' and number % 2 else None)
                 for site, count in (('05', 12), ('BB', 6), ('CC', 1))
                 for number in range(count)]
        fold = draw_folds(cases, 3, by_site=True)[0]
        for site in ('-05-', 'BB', 'CC'):
            assert len({fold[case.case_id] for case in cases
                        if site in case.case_id}) == 1
        with pytest.raises(ValueError, match='case p has no site'):
            draw_folds([*cases, Case('p', 'x')], 3, by_site=True)

    def test_samples_of_a_patient_stay_together(self):
        cases = [Case(f'TCGA-AA-{number:04d}-{kind}A', label)
                 for number in range(30) for kind, label in (
                     ('01', 'tumour'), ('11', 'normal'))[:1 + number % 2]]
        for fold in draw_folds(cases, 5):
            placed = {(case[:12], split) for case, split in fold.items()}
            assert len(placed) == 30
            assert {fold[case.case_id] for case in cases
                    if case.label == 'normal'} == {'train', 'val', 'test'}

    @pytest.mark.parametrize(('cases', 'options', 'message'), [
        ([Case(f'TCGA-AA-000{number % 2}-0{number}A', 'x')
          for number in range(6)], {},
         "class 'x' comes from 2 patients, which stay together"),
        ([Case(f'TCGA-AA-{number:04d}', 'x', site='Ulm' if number else None)
          for number in range(20)], dict(by_site=True),
         'cases of the site AA by their barcodes have the sites AA, Ulm: fill '
         'the column site for all of them or for none'),
        (many_cases(a=20, rare=1), {},
         "class 'rare' has 1 cases: 5 folds need at least 5"),
        (many_cases(a=20), dict(num_folds=2),
         '2 folds are too few: .* to train on, to validate on, to test on, so '
         'draw at least 3'),
        (many_cases(a=20), dict(num_folds=1, validate=False),
         '1 folds are too few: .* to train on, to test on, .* at least 2'),
        (many_cases(a=50) + [Case(f'b{number}', 'b', site='s1')
                             for number in range(50)],
         dict(by_site=True), "class 'b' comes from 1 sites")])
    def test_cannot_be_drawn(self, cases, options, message):
        with pytest.raises(ValueError, match=message):
            draw_folds(cases, **options)

    def test_written_and_read_again(self, tmp_path):
        cases = many_cases(a=12, b=9)
        # The same seed gives the same folds, which can be written again.
        for _ in range(2):
            folds = draw_folds(cases, 3, seed=5)
            write_folds(tmp_path / 'x', folds, {'seed': 5})
        for number, fold in enumerate(folds):
            split_of, notes = read_split(
                tmp_path / 'x' / f'splits_{number}.csv', cases)
            assert split_of == fold
            assert notes == []
        manifest = json.loads((tmp_path / 'x/folds.json').read_text())
        assert manifest['seed'] == 5
        assert manifest['cases']['test'] == [7, 7, 7]
        assert len(list((tmp_path / 'x').iterdir())) == 4
        with pytest.raises(FileExistsError, match='other splits already.*'
                           'splits_0.csv'):
            write_folds(tmp_path / 'x', draw_folds(cases, 3, 6), {})
        with pytest.raises(FileExistsError, match='splits_2.csv'):
            write_folds(tmp_path / 'x', folds[:2], {})


class TestRealCohort:
    def test_cohort_and_splits(self, data_root):
        root = data_root / 'tcga_porpoise'
        cases = read_cohort(there(
            root / 'datasets_csv_mutsig/tcga_brca_all_clean.csv.zip'),
            'oncotree_code')
        assert len(cases) == 956
        assert sum(len(case.slides) for case in cases) == 1022
        first = cases[0]
        assert first.case_id == 'TCGA-3C-AALI'
        assert first.slides[0].slide_id == (
            'TCGA-3C-AALI-01Z-00-DX1.F6E9A5DF-D8FB-45CF-B4BD-C6B76294C291')
        assert (first.survival_months, first.censorship) == (131.57, 1)
        assert first.site == '3C'
        tested = Counter()
        for number in range(5):
            split, notes = read_split(
                root / f'splits/5foldcv/tcga_brca/splits_{number}.csv', cases)
            assert set(split.values()) == {'train', 'val'}
            assert not any('not in the cohort' in note for note in notes)
            tested.update(case for case in split if split[case] == 'val')
        assert set(tested.values()) == {1}
        ductal = [case for case in cases if case.label in ('IDC', 'ILC')]
        folds = draw_folds(ductal, 5, by_site=True)
        site = {case.case_id: case.site for case in ductal}
        for fold in folds:
            assert len({(site[case], fold[case]) for case in fold}) == len(
                set(site.values()))
