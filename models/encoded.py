"""Items to rows on disk: each film, slice, text or record decoded once and encoded once, whatever the number of epochs and samples.

An `encoded` artefact holds

    rows.npy        [R, *shape]: what was kept of every item, one after the other, in the items' order. float16; bytes of films, int32
                    word pieces where nothing is encoded
    index.parquet   a row an item: item, length (rows, 0 where it cannot be used), reason (of that, else null)
    end.safetensors of an encoder that a run has tuned: the projection and the head that it had

The work is cut into blocks of items. A finished block is never done again: not after an interruption, and not by another process of the
same torchrun, since each takes every world-th; all ways give equal bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from omnifuse.models.rows import Means, Recipe, Rows
from omnifuse.models.weights import END
from omnifuse.preprocess import schema, store
from omnifuse.preprocess.schema import InputError

KIND = "encoded"
BLOCK = {"image": 512, "volume": 64, "signal": 512, "text": 2048}  # items


def encode_items(items: Any, needed: np.ndarray, recipe: Recipe, out: Path, key: str, means: Means, progress: Callable) -> store.Artefact:
    """Makes `out`, or completes it where it lacks some of the items; what is there of the same key is taken over.

    Args:
        items: of preprocess.items.open_items.
        needed: [n] ascending numbers of items.
        key: of the cohort's items and the recipe.

    Raises:
        ConfigError: an encoder that cannot read such items.
        InputError: not one item can be used.
        NumericalError: an encoder gives NaN or infinity.
    """
    made = store.current(out, KIND, key)
    have = made.table("index.parquet") if made else None
    if have is not None:
        needed = np.union1d(needed, have["item"].to_numpy())
        if len(needed) == len(have):
            return made
    blocks = _blocks(needed, items.reads, have)
    group = means.processes
    if group.main:
        with store.create(out, KIND, fingerprint=key, keep_partial=True) as builder:
            work = Work(builder.folder, items, recipe, means, store.digest([key, needed.tolist()]))
            work.start()
            group.wait()
            work.run(blocks, progress)
            group.wait()
            builder.meta |= work.finish(blocks, made) | _keep_end(builder, items, recipe)
    else:
        work = Work(store.building_folder(out), items, recipe, means, "")
        group.wait()
        work.run(blocks, schema.Silent)
        group.wait()
    group.wait()
    return store.open(out, KIND)


def _blocks(needed: np.ndarray, reads: str, have: pl.DataFrame | None) -> list[np.ndarray]:
    missing = needed if have is None else np.setdiff1d(needed, have["item"].to_numpy())
    return [missing[start : start + BLOCK[reads]] for start in range(0, len(missing), BLOCK[reads])]


class Work:
    """The building folder and its blocks: scratch/00000.npy with .json beside it, which is written last."""

    def __init__(self, folder: Path, items: Any, recipe: Recipe, means: Means, plan: str):
        self.scratch, self.folder, self.items, self.recipe, self.means, self.plan = folder / "scratch", folder, items, recipe, means, plan

    def start(self) -> None:
        """Throws away what an interrupted run of another plan left."""
        told = self.scratch / "plan.json"
        if not told.is_file() or store.read_json(told) != self.plan:
            for path in sorted(self.scratch.glob("*")):
                path.unlink()
            store.write_json(told, self.plan)

    def _path(self, number: int, suffix: str) -> Path:
        return self.scratch / f"{number:06d}.{suffix}"

    def run(self, blocks: list[np.ndarray], progress: Callable) -> None:
        """Every block of this process that is not there yet."""
        group = self.means.processes
        mine = [number for number in range(group.rank, len(blocks), group.world) if not self._path(number, "json").is_file()]
        if not mine:
            return
        encode = Rows(self.items, self.recipe, self.means)
        total = sum(len(blocks[number]) for number in mine)
        with progress(f"{'decode' if self.recipe.keep == 'raw' else 'encode'} {self.items.modality}", total, "item") as bar:
            for number, rows, lengths, reasons in encode.blocks([(number, blocks[number]) for number in mine], bar):
                store.write_npy(self._path(number, "npy"), rows)
                store.write_json(self._path(number, "json"), {"lengths": lengths, "reasons": reasons})

    def finish(self, blocks: list[np.ndarray], made: store.Artefact | None) -> dict[str, Any]:
        """rows.npy and index.parquet of all blocks, and of what was there before; returns what the manifest keeps."""
        told = [store.read_json(self._path(number, "json")) for number in range(len(blocks))]
        index = pl.DataFrame(
            {
                "item": np.concatenate([*blocks, np.empty(0, np.int64)]).astype(np.int64),
                "length": [length for block in told for length in block["lengths"]],
                "reason": [reason for block in told for reason in block["reasons"]],
            },
            schema={"item": pl.Int64, "length": pl.Int32, "reason": pl.String},
        )
        sources = [np.load(self._path(number, "npy"), mmap_mode="r", allow_pickle=False) for number in range(len(blocks))]
        if made is not None:
            before = made.table("index.parquet")
            index, sources = pl.concat([before, index]), [made.array("rows.npy"), *sources]
        if not index["length"].sum():
            reasons = index["reason"].value_counts(sort=True)
            told = f"none of {len(index)} items of {self.items.modality} can be used: {reasons['reason'][0]}"
            raise InputError(told, where=self.items.root)
        self._join(index, sources)
        store.write_parquet(self.folder / "index.parquet", index.sort("item"))
        shape = [int(n) for n in sources[0].shape[1:]]
        unusable = index.filter(pl.col("length") == 0)["reason"].value_counts(sort=True)
        return {
            "modality": self.items.modality, "items": len(self.items), "encoded": len(index), "rows": int(index["length"].sum()),
            "shape": shape, "unusable": dict(zip(unusable["reason"], unusable["count"])), **_weights_json(self.recipe),
        }  # fmt: skip

    def _join(self, index: pl.DataFrame, sources: list[np.ndarray]) -> None:
        """Copies the rows in the order of the items; a run of neighbours at once."""
        lengths, order = index["length"].to_numpy().astype(np.int64), np.argsort(index["item"].to_numpy(), kind="stable")
        begin, size = np.cumsum(lengths) - lengths, sum(map(len, sources))
        offsets = np.cumsum([0, *map(len, sources)])
        with store.atomic(self.folder / "rows.npy") as partial:
            rows = np.lib.format.open_memmap(partial, mode="w+", dtype=sources[0].dtype, shape=(size, *sources[0].shape[1:]))
            at = 0
            for run in np.split(order, np.flatnonzero(np.diff(order) != 1) + 1):
                first, stop = begin[run[0]], begin[run[-1]] + lengths[run[-1]]
                for source, low in zip(sources, offsets):
                    a, b = max(first, low), min(stop, low + len(source))
                    if a < b:
                        rows[at : at + b - a] = source[a - low : b - low]
                        at += b - a
            rows.flush()


def _keep_end(builder: store.Builder, items: Any, recipe: Recipe) -> dict[str, Any]:
    """end.safetensors, and what the manifest tells of it: of a run's encoder only."""
    if recipe.keep != "pooled" or recipe.weights is None or not recipe.weights.native:
        return {}
    if (end := recipe.whole(items).end()) is None:
        return {}
    architecture, state = end
    tensors = {f"encoders.{items.modality}.{name}": tensor for name, tensor in state.items()}
    tensors |= {f"head.{name}": tensor for name, tensor in recipe.weights.head().items()}
    store.write_safetensors(builder.path(END), {name: tensor.contiguous().numpy() for name, tensor in tensors.items()})
    return {"end": {"architecture": architecture, "task": recipe.weights.task}}


def _weights_json(recipe: Recipe) -> dict[str, Any]:
    told = recipe.weights
    return {**recipe.identity(), "weights": None if told is None else {"told": told.told, "digest": told.digest}}
