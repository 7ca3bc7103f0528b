"""Very many tiles, in shards on a disk or in an object store."""

from pathlib import Path

from mmengine.fileio import get_file_backend

from mmmedmask.datasets import shards
from mmmedmask.datasets.image_files import ImageFileDataset, check_held_out
from mmmedmask.registry import DATASETS
from mmmedmask.util.atomic_files import write_bytes
from mmmedmask.util.file_locks import lock_file


@DATASETS.register_module()
class ShardedTiles(ImageFileDataset):
    """Tiles in WebDataset tars, each reached by its number.

    All processes of a machine map the index into memory. Use
    ``sampler=dict(type='mmmedmask.BlockShuffleSampler')``, which reads shards
    nearly sequentially, and the usual pipeline from ``LoadTile`` on.

    ``tools/dataset_converters/convert.py pack_tiles`` packs a folder, and
    ``index_shards`` writes the index of tars that exist.

    Args:
        data_root: Folder of the shards, or an address that fsspec knows,
            such as ``'s3://bucket/tiles'``.
        index_dir: Local folder of the index. None: that of the shards. For
            an address it is needed; the index is fetched there once.
        backend_args: For an address: what fsspec takes, see
            :class:`~mmmedmask.datasets.fsspec_backend.FsspecBackend`.
        held_out_share: Share of the tiles that are left out, in [0, 1): the
            last ones. ``pack_tiles`` has shuffled them; of other shards they
            are those of the last tars. More shards move the border.
        held_out: Take those that are left out, in place of the others.
        base: Arguments of :class:`ImageFileDataset`, such as ``pipeline``
            and ``on_error``, which with ``'skip'`` keeps one byte a sample.

    Raises:
        ValueError: If an address comes without ``index_dir``, a folder with
            ``backend_args``, or the index is not one.
        FileNotFoundError: If there is no index.
    """

    def __init__(self, data_root: str, index_dir: str | None = None,
                 backend_args: dict | None = None,
                 held_out_share: float = 0.0, held_out: bool = False,
                 **base: object) -> None:
        check_held_out(held_out_share, held_out)
        self.held_out_share, self.held_out = held_out_share, held_out
        is_remote = '://' in str(data_root)
        if is_remote and index_dir is None:
            raise ValueError(f'shards at {data_root} need index_dir, a local '
                             'folder to map the index from')
        if not is_remote and backend_args:
            raise ValueError(
                f'backend_args are for an address such as s3://..., got '
                f'{backend_args} with the folder {data_root}')
        self.address = str(data_root).rstrip('/')
        self.index_dir = Path(index_dir or data_root)
        self.backend = get_file_backend(backend_args={
            'backend': 'fsspec', **(backend_args or {})
        }) if is_remote else None
        # The index is not a list, so there is nothing to serialize.
        super().__init__(**{**base, 'serialize_data': False})

    def load_data_list(self) -> shards.ShardIndex:
        if self.backend is not None:
            self._fetch_index()
        index = shards.ShardIndex(self.index_dir, self.address)
        if index.classes:
            self._metainfo.setdefault('classes', index.classes)
        self._shards = shards.LocalShards(
            index) if self.backend is None else shards.RemoteShards(
                index, self.backend)
        border = round(len(index) * (1 - self.held_out_share))
        taken = index[border:] if self.held_out else index[:border]
        if self.held_out_share and not len(taken):
            raise FileNotFoundError(
                f'held_out_share={self.held_out_share} of {len(index)} tiles '
                f'in {self.address} is none or all of them')
        return taken

    def _fetch_index(self) -> None:
        self.index_dir.mkdir(parents=True, exist_ok=True)
        with lock_file(self.index_dir / 'index.lock',
                       waiting=lambda holder: None):
            # The json is last: where it is, the other is, too.
            for name in (shards.ENTRIES_FILE, shards.INDEX_FILE):
                if not (self.index_dir / shards.INDEX_FILE).is_file():
                    write_bytes(self.index_dir / name,
                                self.backend.get(f'{self.address}/{name}'))

    def prepare_data(self, idx: int) -> dict:
        sample = self.get_data_info(idx)
        sample['img_bytes'] = shards.read_picture(sample, self._shards.read)
        return self.pipeline(sample)
