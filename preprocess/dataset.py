"""Cohort and features to samples, samples to batches: what training reads.

    samples = open_samples(cohort, features, "mortality", fold=0, modalities=("ehr",))
    for batch in samples.part("train").batches(128, seed=1, epoch=3): ...

Values stay on disk, memory-mapped; a batch is gathered and normalised by the fold's mean and standard deviation in one numpy call a
modality. The order of an epoch is a function of (seed, epoch, sample_id): it depends neither on workers nor on what was read before,
and `start` goes on in the middle. Samples of like length share a batch, and the batches are shuffled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
import torch
from torch import Tensor

from omnifuse.preprocess import ordering, schema, splits, store
from omnifuse.preprocess.ordering import MAX_TOKENS
from omnifuse.preprocess.schema import ArtefactError, ConfigError, InputError, nearest
from omnifuse.preprocess.tokens import SERIES, VECTOR, Tokens

ENCODED = "encoded"


@dataclass
class Batch:
    """B samples, M modalities in the order of `modalities`.

    Shapes: `values[m]` [B, T, D] or [B, D], of films [B, T, C, H, W] uint8, of texts [B, T] int64; `mask[m]` [B, T], True = a real token;
    `present` [B, M]; `label` and `label_mask` [B, L], of
    a multi-class task [B], label 0 where it is unknown; `key` [B] int64, the source of everything random about a sample in this epoch;
    `index` [B], its place in the part.
    Missing data: what is absent holds zeros.
    """

    modalities: tuple[str, ...]
    values: dict[str, Tensor]
    mask: dict[str, Tensor]
    present: Tensor
    label: Tensor
    label_mask: Tensor
    key: Tensor
    index: Tensor
    ids: pl.Series = field(repr=False)  # of the whole part

    def __len__(self) -> int:
        return len(self.index)

    @property
    def sample_id(self) -> list[str]:
        return self.ids.gather(self.index.cpu().numpy()).to_list()

    def take(self, rows: Tensor) -> Batch:
        """The samples `rows` [b], indices or a bool mask."""
        values = {name: value[rows] for name, value in self.values.items()}
        mask = {name: value[rows] for name, value in self.mask.items()}
        return Batch(
            self.modalities, values, mask, self.present[rows], self.label[rows], self.label_mask[rows], self.key[rows], self.index[rows],
            self.ids,
        )  # fmt: skip

    def hide(self, present: Tensor) -> Batch:
        """The same samples with only those modalities visible that `present` [B, M] or [M] allows; nothing absent appears."""
        return replace(self, present=self.present & present)

    def to(self, device: torch.device | str) -> Batch:
        """Copies to `device`; itself where it is there already."""
        if self.present.device == torch.device(device):
            return self
        move = lambda tensor: tensor.to(device, non_blocking=True)
        values = {name: move(value) for name, value in self.values.items()}
        mask = {name: move(value) for name, value in self.mask.items()}
        rest = {name: move(getattr(self, name)) for name in ("present", "label", "label_mask", "key", "index")}
        return Batch(self.modalities, values, mask, ids=self.ids, **rest)


@dataclass(frozen=True)
class Part:
    """The samples of one part of one fold, in the order of the cohort's table.

    Shapes: label [N, L] float32, NaN where unknown (a multi-class task: [N, 1], the class); present [N, M]; row [N], the sample's row in
    samples/TASK.parquet, from 1.
    """

    name: str
    task: schema.Task
    tokens: dict[str, Tokens]
    sample_id: pl.Series
    patient_id: pl.Series
    label: np.ndarray
    present: np.ndarray
    row: np.ndarray
    hashed: np.ndarray
    at: np.ndarray  # [N] place in the arrays of `tokens`

    def __len__(self) -> int:
        return len(self.at)

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.tokens)

    def having(self, modalities: Sequence[str]) -> Part:
        """Only these modalities visible, and only the samples that possess at least one of them."""
        visible = np.isin(self.modalities, list(modalities))  # [M]
        return replace(self, present=self.present & visible).where(lambda present: present.any(1))

    def where(self, keep: Callable[[np.ndarray], np.ndarray]) -> Part:
        """The samples for which `keep`, given `present` [N, M], says true."""
        return self._rows(keep(self.present))

    def share(self, rank: int, world: int) -> Part:
        """Every world-th sample from `rank` on."""
        return self if world == 1 else self._rows(np.arange(rank, len(self), world))

    def _rows(self, keep: np.ndarray) -> Part:
        keep = np.flatnonzero(keep) if keep.dtype == bool else keep
        ids = {name: getattr(self, name).gather(keep) for name in ("sample_id", "patient_id")}
        names = ("label", "present", "row", "hashed", "at")
        return replace(self, **ids, **{name: getattr(self, name)[keep] for name in names})

    def plan(self, size: int, *, seed: int | None = None, epoch: int = 0, max_tokens: int = MAX_TOKENS) -> list[np.ndarray]:
        """The batches of an epoch as indices (ordering.plan_batches); without a seed, sorted by length."""
        counts = [np.where(there, tokens.count[self.at], 0) for there, tokens in zip(self.present.T, self.tokens.values())]
        key = None if seed is None else ordering.keys(self.hashed, seed, epoch)
        return ordering.plan_batches(np.max(counts, axis=0), size, key=key, max_tokens=max_tokens)

    def batches(
        self, size: int, *, seed: int | None = None, epoch: int = 0, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        """The batches of `plan(size * world)` from number `start` on; of each, every world-th sample from `rank` on."""
        key = ordering.keys(self.hashed, seed or 0, epoch, 1).view(np.int64)
        for index in self.plan(size * world, seed=seed, epoch=epoch, max_tokens=MAX_TOKENS * world)[start:]:
            if len(mine := index[rank::world]):
                yield self._collate(mine, key)

    def _collate(self, index: np.ndarray, key: np.ndarray) -> Batch:
        present = self.present[index]
        values, mask = {}, {}
        for column, (name, tokens) in enumerate(self.tokens.items()):
            there = present[:, column].any()
            value, real = tokens.collate(self.at[index]) if there else tokens.hidden(len(index))
            if there and not present[:, column].all():  # hidden, although on disk
                value[~present[:, column]], real[~present[:, column]] = 0, False
            values[name] = torch.from_numpy(value[:, 0] if tokens.kind == VECTOR else value)
            mask[name] = torch.from_numpy(real)
        label = torch.from_numpy(self.label[index])
        known = ~label.isnan()
        label = label.nan_to_num(0.0)
        if self.task.kind == "multiclass":
            label, known = label[:, 0].long(), known[:, 0]
        return Batch(
            self.modalities, values, mask, torch.from_numpy(present), label, known, torch.from_numpy(key[index]), torch.from_numpy(index),
            self.sample_id,
        )  # fmt: skip


@dataclass(frozen=True)
class Samples:
    """All samples of a task in one fold. `excluded` counts, by part, those that possess none of the modalities.

    `features` is the key of what is read: the features of a modality more do not change it.
    """

    task: schema.Task
    fold: int
    modalities: tuple[str, ...]
    parts: dict[str, Part]
    dims: dict[str, int | list[int]]
    excluded: dict[str, int]
    cohort: str
    features: str

    def part(self, name: str) -> Part:
        if name not in self.parts:
            raise ConfigError(f"no part {name!r}", hint=nearest(name, schema.PARTS))
        return self.parts[name]


def open_samples(
    cohort: store.Artefact, features: store.Artefact, task: str, fold: int, modalities: Sequence[str], *, allow_absent: bool = False
) -> Samples:
    """The samples of `task`, parted as `fold` says, with their modalities memory-mapped.

    Args:
        allow_absent: go on where a modality is absent in every training sample.

    Raises:
        ConfigError: no such task, fold or modality.
        InputError: the cohort is too small for its folds, or a modality is absent in the whole training part.
        ArtefactError: features of another cohort or task, or a table that does not fit.
    """
    known = cohort.meta["tasks"]
    if task not in known:
        raise ConfigError(f"the cohort has no task {task!r}", hint=nearest(task, known))
    if features.meta["cohort"] != cohort.fingerprint or features.meta["task"] != task:
        raise ArtefactError(f"these features are not of this cohort's task {task}", where=features.folder, hint="omnifuse extract")
    splits.require_trainable(cohort.meta["splits"], fold)
    described = schema.Task.from_json(task, known[task])
    table = cohort.table(f"samples/{task}.parquet").with_row_index("row", offset=1)
    parts = cohort.table("parts.parquet").filter(pl.col("fold") == fold).select("patient_id", "part")
    table = table.join(parts, on="patient_id", how="left", maintain_order="left")
    if not modalities:
        raise ConfigError("no modality is named", hint=nearest("", features.meta["modalities"]))
    tokens = {name: _open_tokens(cohort, features, table, name, fold) for name in modalities}
    present = np.stack([tokens[name].count > 0 for name in modalities], axis=1)  # [N, M]
    label, ids = _labels(table, described, cohort), table["sample_id"].cast(pl.String)
    whole = Part(
        "all", described, tokens, ids, table["patient_id"].cast(pl.String), label, present, table["row"].to_numpy(),
        ordering.hash_ids(ids), np.arange(len(table)),
    )  # fmt: skip
    opened, excluded = {}, {}
    for name in schema.PARTS:
        inside = (table["part"] == name).fill_null(False).to_numpy()
        opened[name] = replace(whole._rows(inside & present.any(1)), name=name)
        excluded[name] = int((inside & ~present.any(1)).sum())
    for name, there in zip(modalities, opened["train"].present.any(0)):
        if not there and len(opened["train"]) and not allow_absent:
            raise InputError(
                f"modality {name} is absent in every training sample of {task}, fold {fold}", hint="leave it out of --modalities"
            )
    dims = {name: features.meta["modalities"][name]["dim"] for name in modalities}
    normaliser = features.json("normaliser.json")
    held = [[name, features.meta["modalities"][name], normaliser.get(name)] for name in modalities]
    return Samples(described, fold, tuple(modalities), opened, dims, excluded, cohort.fingerprint, store.digest(held))


def _open_tokens(cohort: store.Artefact, features: store.Artefact, table: pl.DataFrame, name: str, fold: int) -> Tokens:
    """A modality's rows: those of the cohort, or what was decoded or encoded of its items."""
    if name not in features.meta["modalities"]:
        raise ConfigError(f"the features have no modality {name!r}", hint=nearest(name, features.meta["modalities"]))
    about = features.meta["modalities"][name]
    whole = lambda column, default: table[column].fill_null(default).cast(pl.Int64).to_numpy()
    start, length = whole(f"{name}_start", 0), whole(f"{name}_length", 0)
    tail = np.full(len(table), -1)
    if about["from"] == ENCODED:
        home = open_encoded(features, name, fold)
        rows, tails = home.array("rows.npy"), None
        start, length = _rows_of_items(home, start, length)
    else:
        home = cohort
        tail = whole(f"{name}_tail", -1) if f"{name}_tail" in table.columns else tail
        rows, tails = home.array(f"{name}.npy"), home.array(f"{name}_tails.npy") if home.has(f"{name}_tails.npy") else None
    if (start + length).max(initial=0) > len(rows) or tail.max(initial=-1) >= (0 if tails is None else len(tails)):
        raise ArtefactError(f"the samples point past the end of {name}.npy", where=home.folder, hint=f"make the {home.kind} again")
    told = features.json("normaliser.json").get(name, {}).get(str(fold), {})
    mean, std = (np.asarray(told[key], np.float32) if told else None for key in ("mean", "std"))
    gaps = home is cohort and bool(cohort.meta["modalities"][name].get("gaps"))
    tails = None if tails is None else np.asarray(tails)
    return Tokens(about.get("kind", SERIES), np.asarray(rows), tails, start, length, tail, mean, std, gaps)


def open_encoded(features: store.Artefact, modality: str, fold: int) -> store.Artefact:
    """What was decoded or encoded of a modality's items, for one fold: the folder that the features name."""
    told = features.meta["modalities"][modality]["folds"][str(fold)]
    encoded = store.open((features.folder / told["folder"]).resolve(), ENCODED)
    if encoded.fingerprint != told["fingerprint"]:
        raise ArtefactError("is not what these features were made with", where=encoded.folder, hint="omnifuse extract")
    return encoded


def _rows_of_items(encoded: store.Artefact, start: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First row and number of rows of samples whose items are [start, start + length). Items are stored in their order.

    Raises:
        ArtefactError: an item was not encoded.
    """
    index = encoded.table("index.parquet")
    item, size = index["item"].to_numpy(), index["length"].to_numpy()
    total = int(max(encoded.meta["items"], (start + length).max(initial=0)))
    known, sizes = np.zeros(total + 1, np.int64), np.zeros(total + 1, np.int64)
    known[item + 1], sizes[item + 1] = 1, size
    known, begin = np.cumsum(known), np.cumsum(sizes)
    if ((known[start + length] - known[start]) != length).any():
        raise ArtefactError("lacks items of these samples", where=encoded.folder, hint="omnifuse extract")
    return begin[start], begin[start + length] - begin[start]


def _labels(table: pl.DataFrame, task: schema.Task, cohort: store.Artefact) -> np.ndarray:
    """[N, L] float32, NaN where unknown; [N, 1] class indices of a multi-class task."""
    width = 1 if task.kind == "multiclass" else task.outputs
    if len(table) and not (table["y"].list.len() == width).all():
        raise ArtefactError(f"y has not {width} numbers in every row", where=cohort.folder / f"samples/{task.name}.parquet")
    label = table["y"].explode().cast(pl.Float32).to_numpy().reshape(len(table), width)
    return np.array(label, np.float32)
