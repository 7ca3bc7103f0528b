"""Files in object stores and on web servers, for MMEngine's file functions."""

import time

from mmengine.fileio import BaseStorageBackend, register_backend

from mmmedmask.util.extras import import_extra

_PAUSES = (0.5, 2.0)
"""Seconds before a file is asked for again."""


@register_backend('fsspec', prefixes=['memory', 'gs', 'gcs', 'az', 'abfs'])
class FsspecBackend(BaseStorageBackend):
    """Read files whose address fsspec knows.

    ``backend_args=dict(backend='fsspec')`` selects it for addresses that
    other backends of MMEngine claim, such as ``s3://`` and ``https://``.
    fsspec says which package a protocol needs, such as s3fs. What a server
    refuses is an OSError, whatever that package raises; but for files that are
    not there, or not permitted, it is asked three times.

    Args:
        storage_options: What fsspec's file system takes, such as ``key``,
            ``secret`` and ``endpoint_url`` of s3fs.
    """

    def __init__(self, **storage_options: object) -> None:
        self.storage_options = storage_options

    def get(self, filepath: str) -> bytes:
        return self._call('cat_file', filepath)

    def get_text(self, filepath: str, encoding: str = 'utf-8') -> str:
        return self.get(filepath).decode(encoding)

    def get_range(self, filepath: str, start: int, stop: int) -> bytes:
        """Read the bytes from ``start`` to before ``stop``."""
        content = self._call('cat_file', filepath, start=start, end=stop)
        if len(content) != stop - start:
            raise OSError(
                f'{filepath} gave {len(content)} bytes where {stop - start} '
                'were asked for: it is shorter, or its server knows no ranges')
        return content

    def _call(self, method: str, filepath: str, **arguments: int) -> bytes:
        core = import_extra('fsspec.core', 'storage', 'this address')
        # fsspec keeps its file systems, and makes new ones after a fork.
        system, path = core.url_to_fs(str(filepath), **self.storage_options)
        for pause in (*_PAUSES, None):
            try:
                return getattr(system, method)(path, **arguments)
            except (FileNotFoundError, PermissionError):
                raise
            # Each protocol's package has errors of its own.
            except Exception as error:
                if pause is None:
                    raise OSError(f'{filepath} cannot be read: '
                                  f'{type(error).__name__}: {error}'
                                  ) from error
            time.sleep(pause)
