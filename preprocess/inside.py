"""Paths that come out of data: a manifest, a table, a DICOM header. They name files below one root folder, and nothing else.

What leaves the root, by `..`, an absolute path, a drive, a link, or is no regular file (a device, a pipe, a folder), is never opened.
"""

from __future__ import annotations

import stat
from pathlib import Path, PureWindowsPath

from omnifuse.preprocess.schema import Unreadable


def inside(root: Path, name: str) -> Path:
    """The path of a regular file below `root`.

    Args:
        name: relative to the root, with `/`.

    Raises:
        Unreadable: it leaves the root, is not there, or is no regular file. The reason holds no part of the name.
    """
    if not name or "\0" in name or len(name) > 4096:
        raise Unreadable("the path is empty, too long or holds a NUL")
    windows = PureWindowsPath(name)  # knows both slashes
    if windows.drive or windows.root or ".." in windows.parts:
        raise Unreadable("the path leaves the data folder")
    try:
        root = Path(root).resolve(strict=True)
        path = (root / name).resolve(strict=True)
        kind = path.stat().st_mode
    except (OSError, RuntimeError, ValueError):
        raise Unreadable("no such file") from None
    if not path.is_relative_to(root):
        raise Unreadable("the path leaves the data folder through a link")
    if not stat.S_ISREG(kind):
        raise Unreadable("is no regular file")
    return path
