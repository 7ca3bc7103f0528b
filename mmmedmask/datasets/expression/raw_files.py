"""Files of gene expression as they lie on disk, read without judgement."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from mmmedmask.datasets.expression.gdc import read_gdc_folder
from mmmedmask.datasets.expression.gene_names import read_gene_list
from mmmedmask.datasets.expression.matrix import RawExpression, read_matrix
from mmmedmask.datasets.expression.samples import check_files_differ
from mmmedmask.util.checks import check_shape
from mmmedmask.util.table_files import read_list_file

_ARRAY_SUFFIXES = ('.pt', '.npy')


def read_expression_files(path: Path, unit: str | None, id_type: str | None,
                          genes_in: str | None,
                          sample_sheet: str | Path | None,
                          missing_files: str, gene_list: str | Path | None,
                          case_list: str | Path | None) -> RawExpression:
    """Read a file or a folder; `load_expression` describes the arguments."""
    if path.is_dir():
        arrays = sorted(file for file in path.iterdir()
                        if file.suffix.lower() in _ARRAY_SUFFIXES)
        if arrays:
            return _read_vectors(arrays, gene_list)
        return read_gdc_folder(path, unit, id_type, sample_sheet,
                               missing_files)
    array = _load_array(path)
    if array is None:
        asked = () if gene_list is None else set(read_gene_list(gene_list))
        return read_matrix(path, id_type, genes_in, asked)
    check_shape(str(path), array, ('cases', 'genes'))
    genes = _listed(path, 'gene', gene_list, array.shape[1])
    cases = _listed(path, 'case', case_list, len(array))
    return RawExpression(array.astype(np.float32), cases, genes, path.name)


def _load_array(path: Path) -> np.ndarray | None:
    """Load a torch or npy file, None for other files."""
    with path.open('rb') as file:
        begin = file.read(8)
    is_numpy = begin.startswith(b'\x93NUMPY')
    if not is_numpy and path.suffix.lower() not in ('.pt', '.pth'):
        return None
    # Both fail in many ways on what is damaged or holds Python objects.
    try:
        array = (np.load(path, allow_pickle=False) if is_numpy else
                 torch.load(path, map_location='cpu', weights_only=True))
    except Exception as error:
        raise ValueError(f'{path} holds no array that can be read without '
                         f'running code, or is damaged: {error}') from error
    if not is_numpy:
        if not isinstance(array, torch.Tensor):
            raise ValueError(f'{path} must hold a tensor, it holds a '
                             f'{type(array).__name__}')
        array = array.detach().float().numpy()
    if array.dtype.kind not in 'fiu':
        raise ValueError(f'{path} holds {array.dtype}, expected numbers')
    return array


def _listed(path: Path, what: str, listed: str | Path | None,
            count: int) -> list[str]:
    """Read the names of the genes or cases of a file from its list."""
    if listed is None:
        raise ValueError(
            f'{path} does not tell which {what} is where: give {what}_list, '
            f'a text file with the names of its {count} {what}s in order')
    names = read_list_file(listed)
    if len(names) != count:
        raise ValueError(
            f'{path} has {count} {what}s, {listed} names {len(names)}')
    return names


def _read_vectors(files: Sequence[Path],
                  gene_list: str | Path | None) -> RawExpression:
    """Read a folder with a vector per case."""
    check_files_differ({file.name: file for file in files})
    vectors = []
    for file in files:
        vector = np.squeeze(_load_array(file))
        check_shape(str(file), vector,
                    vectors[0].shape if vectors else ('genes', ))
        vectors.append(vector.astype(np.float32))
    genes = _listed(files[0], 'gene', gene_list, len(vectors[0]))
    return RawExpression(np.stack(vectors), [file.stem for file in files],
                         genes, files[0].parent.name)
