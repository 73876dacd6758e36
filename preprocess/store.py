"""Artefact folders: written once, finished by their manifest, verified before use.

    with store.create(path, "cohort", fingerprint=key, meta={...}) as out:      # lock, build beside the target, swap in
        store.write_parquet(out.path("stays.parquet"), stays)
    cohort = store.open(path, "cohort")                                          # manifest checked
    stays = polars.read_parquet(cohort.file("stays.parquet"))                    # sha256 checked before the first use

A folder without a valid manifest does not exist for readers. A killed writer leaves a hidden `.NAME.building` folder, which the next
writer removes or, where it says so, goes on with; the artefact it was to replace stays whole until the swap. Files are 0600, folders
0700: everything here is patient data or derived from it. No pickle: safetensors, npy without objects, Parquet, JSON.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omnifuse.preprocess.schema import ArtefactError, ConfigError, LockedError, OmnifuseError, ResourceError

MANIFEST = "manifest.json"
FORMAT = 1
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns a full disk or a forbidden folder into one line with the path and the free space.

    polars raises an exception of its own with the system's error in its text, so that the number is looked for there.
    """
    try:
        yield
    except OmnifuseError:
        raise
    except Exception as error:
        number = _errno(error)
        if number in _FULL:
            told = f"the disk is full ({free_text(path)})"
            raise ResourceError(told, where=path, hint="free space or choose another folder") from None
        if number in _FORBIDDEN:
            raise ResourceError("may not be written", where=path, hint="check the rights of the folder or choose another") from None
        raise


def _errno(error: Exception) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if isinstance(error, OSError) or type(error).__module__.startswith("polars"):
        found = re.search(r"os error (\d+)", str(error))
        return int(found[1]) if found else None
    return None


def free_bytes(path: Path) -> int:
    """Bytes free on the disk that holds `path`, which need not exist yet."""
    path = Path(path).absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def free_text(path: Path) -> str:
    return f"{free_bytes(path) / 1e9:.2f} GB free"


def require_free(path: Path, needed: int) -> None:
    """Raises ResourceError before anything is written where the disk cannot hold `needed` bytes."""
    free = free_bytes(path)
    if free < needed:
        raise ResourceError(
            f"needs about {needed / 1e9:.2f} GB, {free / 1e9:.2f} GB are free", where=path, hint="free space or choose another folder"
        )


def make_folder(path: Path) -> Path:
    """Makes a folder and its missing parents, 0700 each."""
    path = Path(path)
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    with disk_errors(path):
        for folder in reversed(missing):
            folder.mkdir(mode=0o700, exist_ok=True)
    return path


def sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yields a temporary path in the same folder; on success it is synced and renamed to `path`, else removed."""
    path = Path(path)
    make_folder(path.parent)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with disk_errors(path):
        try:
            yield partial
            os.chmod(partial, 0o600)
            sync_file(partial)
            os.replace(partial, path)
            sync_folder(path.parent)
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)


def sync_file(path: Path) -> None:
    with Path(path).open("rb") as handle:
        os.fsync(handle.fileno())


def write_text(path: Path, text: str) -> None:
    with atomic(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Parsed JSON. Raises ArtefactError where the file is absent or cut."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtefactError("is missing or no valid JSON", where=path) from error


def write_parquet(path: Path, frame) -> None:
    """Writes a polars DataFrame."""
    with atomic(path) as partial:
        frame.write_parquet(partial, compression="zstd", statistics=True)


def write_npy(path: Path, array) -> None:
    """Writes one array; objects are refused."""
    import numpy

    with atomic(path) as partial, partial.open("wb") as handle:
        numpy.save(handle, array, allow_pickle=False)


def write_safetensors(path: Path, tensors: dict[str, Any], metadata: dict[str, str] | None = None) -> None:
    """Writes numpy arrays; the keys are sorted, so that equal tensors give equal bytes."""
    from safetensors.numpy import save

    with atomic(path) as partial:
        partial.write_bytes(save(dict(sorted(tensors.items())), metadata=metadata))


def sha256(path: Path) -> str:
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def digest(value: Any) -> str:
    """sha256 of a JSON value in canonical form: the fingerprint of a configuration."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f".{path.name}.{what}")


def building_folder(path: Path) -> Path:
    """The folder in which `create` builds `path`; it is there while a writer works and, with keep_partial, after one was cut off."""
    return _beside(Path(path).absolute(), "building")


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Holds the right to write the artefact `path`; LockedError where another process holds it.

    The kernel frees the lock when its holder dies, so that no stale lock has to be guessed at. The file names the holder.
    """
    path = Path(path).absolute()
    make_folder(path.parent)
    name = _beside(path, "lock")
    while True:
        with disk_errors(name):
            handle = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 200).decode("utf-8", "replace").strip()
            os.close(handle)
            raise LockedError(f"is being written by another run ({holder or 'starting'})", where=path, hint="wait for it") from None
        if name.exists() and os.fstat(handle).st_ino == os.stat(name).st_ino:
            break
        os.close(handle)  # its holder removed the file between our open and our lock: take the new one
    try:
        os.ftruncate(handle, 0)
        os.write(handle, f"pid {os.getpid()} on {socket.gethostname()} since {time.strftime('%F %T')}\n".encode())
        yield
    finally:
        name.unlink(missing_ok=True)
        os.close(handle)


@dataclass
class Builder:
    """A folder being built; `path` names a file of it, `scratch` one that is removed before the artefact is finished."""

    folder: Path
    meta: dict[str, Any]

    def path(self, name: str) -> Path:
        path = self.folder / name
        make_folder(path.parent)
        return path

    def scratch(self, name: str) -> Path:
        return self.path(f"scratch/{name}")


@contextlib.contextmanager
def create(
    path: Path, kind: str, *, fingerprint: str, meta: dict[str, Any] | None = None, keep_partial: bool = False, alone: bool = False
) -> Iterator[Builder]:
    """Builds an artefact beside `path` and swaps it in when the block ends without an error.

    Args:
        fingerprint: the key of what it was made from; `current` compares it.
        meta: what readers need; `Builder.meta` may be filled while building.
        alone: refuse to replace an artefact beside whose files others lie: in a folder that a user named, they are the user's.
        keep_partial: go on with what an interrupted writer left, and leave it on error: for long work that resumes.

    Raises:
        ConfigError: `path` holds something else, which the swap would delete.
        LockedError: another process is writing it.
    """
    path = Path(path).absolute()
    with lock(path):
        _recover(path)
        _refuse_to_replace(path, kind, alone)
        building = building_folder(path)
        if building.exists() and not keep_partial:
            shutil.rmtree(building)
        make_folder(building)
        builder = Builder(building, dict(meta or {}))
        try:
            with disk_errors(path):
                yield builder
                shutil.rmtree(building / "scratch", ignore_errors=True)
                finish(building, kind, fingerprint=fingerprint, meta=builder.meta)
                _swap(building, path)
        except BaseException:
            if not keep_partial:
                shutil.rmtree(building, ignore_errors=True)
            raise


def _swap(building: Path, path: Path) -> None:
    replaced = _beside(path, "replaced")
    if path.exists():
        os.rename(path, replaced)
    try:
        os.rename(building, path)
    except BaseException:
        if replaced.exists():
            os.rename(replaced, path)
        raise
    sync_folder(path.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def _recover(path: Path) -> None:
    """A writer killed between the two renames of `_swap` left the old artefact under its other name."""
    replaced = _beside(path, "replaced")
    if replaced.exists():
        if path.exists():
            shutil.rmtree(replaced)
        else:
            os.rename(replaced, path)


def _refuse_to_replace(path: Path, kind: str, alone: bool) -> None:
    """Only an artefact of the same kind gives way: `--out ~` must not cost a home folder, nor an export a cohort."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    manifest = path / MANIFEST
    # Not parsed: a damaged artefact may be made again, and its manifest opens with its kind.
    told = re.match(rb'\{\s*"omnifuse": "(\w+)"', manifest.read_bytes() if manifest.is_file() else b"")
    if told is None or told[1].decode() != kind:
        what = f"is a {told[1].decode()}" if told else "holds something else"
        raise ConfigError(f"{what} and is not replaced by this {kind}", where=path, hint="choose another folder, or move it away")
    if alone and (foreign := _foreign(path)):
        told = f"holds {foreign}, which is no part of the {kind} there, and is not replaced by another"
        raise ConfigError(told, where=path, hint="choose another folder, or move that file away")


def _foreign(path: Path) -> str | None:
    """A file that the manifest does not list; None without one, or where the manifest cannot be read. Hidden files are the system's."""
    try:
        listed = {MANIFEST, *read_json(path / MANIFEST)["files"]}
    except (ArtefactError, KeyError, TypeError):
        return None
    names = (file.relative_to(path).as_posix() for file in sorted(path.rglob("*")) if file.is_file() and file.name[0] != ".")
    return next((name for name in names if name not in listed), None)


def finish(folder: Path, kind: str, *, fingerprint: str, meta: dict[str, Any], skip: tuple[str, ...] = ()) -> None:
    """Syncs and hashes every file of `folder`, then writes the manifest: from here on the artefact exists.

    `skip` names subfolders that are not part of the artefact (checkpoints of a finished run).
    """
    files = {}
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if file.is_dir():
            os.chmod(file, 0o700)
        elif name != MANIFEST and not name.startswith(tuple(f"{s}/" for s in skip)):
            os.chmod(file, 0o600)
            sync_file(file)
            files[name] = {"bytes": file.stat().st_size, "sha256": sha256(file)}
    body = {"omnifuse": kind, "format": FORMAT, "fingerprint": fingerprint, "meta": meta, "files": files}
    write_json(folder / MANIFEST, {**body, "self": digest(body)})


@dataclass
class Artefact:
    """A finished artefact. `file(name)` gives the path of a file after its sha256 was compared, once a process."""

    folder: Path
    kind: str
    fingerprint: str
    meta: dict[str, Any]
    files: dict[str, dict[str, Any]]
    _verified: set[str] = field(default_factory=set)

    def has(self, name: str) -> bool:
        return name in self.files

    def file(self, name: str) -> Path:
        if name not in self.files:
            raise ArtefactError(f"this {self.kind} holds no {name}", where=self.folder, hint=f"make the {self.kind} again")
        path = self.folder / name
        if name not in self._verified:
            told = self.files[name]
            if not path.is_file() or path.stat().st_size != told["bytes"] or sha256(path) != told["sha256"]:
                raise ArtefactError("is missing or was altered since it was written", where=path, hint=f"make the {self.kind} again")
            self._verified.add(name)
        return path

    def verify(self) -> None:
        for name in self.files:
            self.file(name)

    def array(self, name: str):
        """The array of an .npy file, memory-mapped and read-only."""
        import numpy

        return numpy.load(self.file(name), mmap_mode="r", allow_pickle=False)

    def table(self, name: str):
        """The polars DataFrame of a Parquet file."""
        import polars

        return polars.read_parquet(self.file(name))

    def batches(self, name: str, columns: list[str] | None = None, rows: int = 200_000) -> Iterator[Any]:
        """The rows of a Parquet file in order, as polars DataFrames of at most `rows`: for tables larger than memory."""
        import polars

        table = polars.scan_parquet(self.file(name))
        table = table if columns is None else table.select(columns)
        for start in range(0, self.height(name), rows):
            yield table.slice(start, rows).collect()

    def height(self, name: str) -> int:
        """The number of rows of a Parquet file, from its footer."""
        import polars

        return polars.scan_parquet(self.file(name)).select(polars.len()).collect().item()

    def json(self, name: str) -> Any:
        return read_json(self.file(name))


def open(path: Path, kind: str) -> Artefact:
    """Opens a finished artefact.

    Raises:
        ArtefactError: it is missing, unfinished, of another kind or format, or its manifest was altered.
    """
    path = Path(path)
    name = path / MANIFEST
    if not name.is_file():
        unfinished = (path.is_dir() and any(path.iterdir())) or _beside(path.absolute(), "building").exists()
        raise ArtefactError(f"is {'an unfinished' if unfinished else 'no'} {kind}", where=path, hint=_how_to_make(kind))
    body = read_json(name)
    if not isinstance(body, dict) or body.pop("self", None) != digest(body):
        raise ArtefactError("was altered since it was written", where=name, hint=f"make the {kind} again")
    if body["omnifuse"] != kind:
        raise ArtefactError(f"is a {body['omnifuse']}, not a {kind}", where=path)
    if body["format"] != FORMAT:
        raise ArtefactError(f"has format {body['format']}, this omnifuse reads {FORMAT}", where=path, hint=f"make the {kind} again")
    return Artefact(path, kind, body["fingerprint"], body["meta"], body["files"])


def _how_to_make(kind: str) -> str:
    made_by = {"cohort": "preprocess", "features": "extract", "run": "train", "report": "eval", "tuning": "tune"}
    return f"omnifuse {made_by[kind]} makes it" if kind in made_by else "make it first"


def current(path: Path, kind: str, fingerprint: str) -> Artefact | None:
    """The finished artefact at `path` if it was made from exactly this fingerprint and all of its files are whole, else None."""
    try:
        artefact = open(path, kind)
        if artefact.fingerprint != fingerprint:
            return None
        artefact.verify()
    except ArtefactError:
        return None
    return artefact
