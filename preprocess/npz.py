"""An .npz written block by block: arrays larger than memory, the same bytes for the same arrays.

numpy's own savez needs every array whole, and does not compress or does it slowly. Here each member is one array whose shape is told
beforehand and whose rows come as blocks. No objects: text is fixed-width unicode, so that `numpy.load(..., allow_pickle=False)` reads it.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

LEVEL = 1  # one-hot columns and values carried forward shrink tenfold already at the fastest level


class NpzWriter:
    """Writes members one after the other; a context manager.

    Args:
        path: the file; the caller makes it atomic.
    """

    def __init__(self, path: Path):
        self._archive = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL, allowZip64=True)

    def __enter__(self) -> NpzWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def write(self, name: str, array: np.ndarray) -> None:
        self.write_blocks(name, array.dtype, array.shape, [array])

    def write_blocks(self, name: str, dtype: np.dtype | str, shape: tuple[int, ...], blocks: Iterable[np.ndarray]) -> None:
        """Writes one array from blocks along its first axis.

        Raises:
            ValueError: the dtype holds objects, or the blocks do not fill the shape.
        """
        dtype = np.dtype(dtype).newbyteorder("<")
        if dtype.hasobject:
            raise ValueError(f"{name} holds objects")
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        written = 0
        # Given a name, zipfile stamps the member 1980-01-01 and 0600: the same arrays give the same bytes.
        with self._archive.open(f"{name}.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_2_0(member, header)
            for block in blocks:
                if block.shape[1:] != shape[1:]:
                    raise ValueError(f"a block of {name} has shape {block.shape}")
                written += block.shape[0] if shape else 1
                member.write(np.ascontiguousarray(block, dtype).tobytes())
        if written != (shape[0] if shape else 1):
            raise ValueError(f"{name} has {written} rows instead of {shape[0]}")
