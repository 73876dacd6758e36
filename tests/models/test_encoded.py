"""Items to rows: each once, in any order of work, whatever fails on the way."""

import multiprocessing
import os

import numpy as np
import pytest
import torch

from omnifuse.models import encoded, rows
from omnifuse.models.distributed import processes
from omnifuse.models.encoded import encode_items
from omnifuse.models.parts.texts import END
from omnifuse.models.rows import Means, Recipe
from omnifuse.preprocess import schema, store
from omnifuse.preprocess.schema import ArtefactError, ConfigError, InputError, Unreadable


class Films:
    """Twenty films of 16 x 16; every seventh cannot be read. `seen` counts how often each was decoded."""

    modality, reads, root, shape, dtype = "cxr", "image", None, (1, 16, 16), np.dtype(np.uint8)

    def __init__(self, count=20, slices=1):
        self.count, self.slices, self.seen = count, slices, []

    def __len__(self):
        return self.count

    def decode(self, number):
        self.seen.append(number)
        if number % 7 == 6:
            raise Unreadable("is truncated")
        return np.random.default_rng(number).integers(0, 255, (self.slices, 1, 16, 16), np.uint8)


class Texts:
    modality, reads, root = "rep", "text", None
    TEXTS = ("no effusion", "", "a large left effusion , and a second one below it", "clear") * 5

    def __len__(self):
        return len(self.TEXTS)

    def text(self, number):
        return self.TEXTS[number]


FILM = Recipe({"name": "film_conv"}, None, "pooled")
TEXT = Recipe({"name": "small_bert"}, None, "tokens")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(encoded, "BLOCK", dict.fromkeys(encoded.BLOCK, 4))


def encode(items, recipe, out, needed=None, means=Means(size=3), key="key"):  # noqa: B008
    needed = np.arange(len(items)) if needed is None else np.asarray(needed)
    return encode_items(items, needed, recipe, out, key, means, schema.Silent)


def rows_of(made, number):
    index = made.table("index.parquet").with_columns(stop=made.table("index.parquet")["length"].cum_sum())
    row = index.filter(item=number).row(0, named=True)
    return made.array("rows.npy")[row["stop"] - row["length"] : row["stop"]]


def test_rows_are_those_of_the_encoder_and_failures_are_listed(tmp_path):
    films = Films()
    made = encode(films, FILM, tmp_path / "e")
    assert sorted(films.seen) == list(range(20))  # once each
    encoder = FILM.build(films)
    for number in (0, 5, 13 - 1, 19):
        with torch.inference_mode():
            pooled = encoder(torch.from_numpy(films.decode(number))[None], torch.ones(1, 1, dtype=torch.bool)).pooled
        np.testing.assert_allclose(rows_of(made, number), pooled.half().numpy(), rtol=2e-3, atol=1e-3)
    index = made.table("index.parquet")
    assert index.filter(index["length"] == 0)["item"].to_list() == [6, 13]
    assert index["reason"].drop_nulls().to_list() == ["is truncated"] * 2
    assert made.meta["unusable"] == {"is truncated": 2} and made.meta["rows"] == 18
    assert made.array("rows.npy").dtype == np.float16


@pytest.mark.parametrize("keep", ["pooled", "tokens", "levels", "raw"])
@pytest.mark.parametrize("slices", [1, 3])
def test_what_is_kept_of_slices(tmp_path, keep, slices):
    films = Films(5, slices)
    recipe = Recipe({"name": "film_conv"}, None, keep)
    made = encode(films, recipe, tmp_path / "e")
    per, shape = {
        "pooled": (1, [4 * 64]), "tokens": (4, [64]), "levels": (1, [3 * 64]), "raw": (1, [1, 16, 16]),
    }[keep]  # fmt: skip
    assert made.meta["shape"] == shape and made.array("rows.npy").shape == (5 * slices * per, *shape)
    if keep == "raw":
        np.testing.assert_array_equal(made.array("rows.npy"), np.concatenate([films.decode(number) for number in range(5)]))


def test_texts_give_a_row_a_word_in_their_order(tmp_path):
    made = encode(Texts(), TEXT, tmp_path / "e")
    raw = encode(Texts(), Recipe({"name": "small_bert"}, None, "raw"), tmp_path / "raw", key="raw")
    lengths, ended = (of.table("index.parquet")["length"].to_numpy() for of in (made, raw))
    assert (ended == lengths + (lengths > 0)).all() and (raw.array("rows.npy")[ended[ended > 0].cumsum() - 1] == END).all()
    assert made.table("index.parquet")["length"].to_list()[:4] == [2, 0, 11, 1]
    assert made.meta["unusable"] == {"is empty": 5} and raw.array("rows.npy").dtype == np.int32
    encoder = TEXT.build(Texts())
    with torch.inference_mode():
        alone = encoder(torch.from_numpy(rows_of(raw, 2).astype(np.int64))[None], torch.ones(1, 12, dtype=torch.bool)).tokens[0, :11]
    np.testing.assert_allclose(rows_of(made, 2), alone.half().numpy(), rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize("recipe", [FILM, TEXT])
def test_a_later_task_adds_its_items_and_decodes_no_other(tmp_path, recipe):
    items = Films() if recipe is FILM else Texts()
    whole = encode(items, recipe, tmp_path / "whole")
    encode(items, recipe, tmp_path / "e", [1, 2, 9, 10, 11])
    if recipe is FILM:
        items.seen.clear()
    made = encode(items, recipe, tmp_path / "e", [0, 2, 3, *range(10, 20)])
    if recipe is FILM:
        assert sorted(items.seen) == [0, 3, *range(12, 20)]
    for number in made.table("index.parquet")["item"]:
        np.testing.assert_allclose(rows_of(made, number), rows_of(whole, number), atol=2e-3)
    assert made.table("index.parquet")["item"].to_list() == [0, 1, 2, 3, *range(9, 20)]


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path, monkeypatch):
    whole = encode(Films(), FILM, tmp_path / "whole")
    films, write = Films(), store.write_json

    def stop(path, value):
        if path.name == "000003.json":
            raise KeyboardInterrupt
        write(path, value)

    monkeypatch.setattr(store, "write_json", stop)
    with pytest.raises(KeyboardInterrupt):
        encode(films, FILM, tmp_path / "e")
    assert not (tmp_path / "e").exists()
    monkeypatch.undo()
    monkeypatch.setattr(encoded, "BLOCK", dict.fromkeys(encoded.BLOCK, 4))
    films.seen.clear()
    made = encode(films, FILM, tmp_path / "e")
    assert sorted(films.seen) == list(range(12, 20))
    assert {name: told["sha256"] for name, told in made.files.items()} == {name: told["sha256"] for name, told in whole.files.items()}


def test_what_another_plan_left_is_not_gone_on_with(tmp_path, monkeypatch):
    monkeypatch.setattr(encoded.Work, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        encode(Films(), FILM, tmp_path / "e", key="one")
    monkeypatch.undo()
    monkeypatch.setattr(encoded, "BLOCK", dict.fromkeys(encoded.BLOCK, 4))
    films = Films()
    encode(films, FILM, tmp_path / "e", key="another")
    assert sorted(films.seen) == list(range(20))


def _one_of_two(rank, folder, port):
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    encoded.BLOCK = dict.fromkeys(encoded.BLOCK, 4)
    torch.set_num_threads(1)
    with processes(torch.device("cpu")) as group:
        encode(Films(), FILM, folder / "films", means=Means(size=3, processes=group))
        encode(Texts(), TEXT, folder / "texts", means=Means(size=3, processes=group))


def test_two_processes_write_the_same_bytes_as_one(tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    alone = [encode(Films(), FILM, tmp_path / "a"), encode(Texts(), TEXT, tmp_path / "b")]
    torch.set_num_threads(threads)
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=_one_of_two, args=(rank, tmp_path, port)) for rank in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
        assert process.exitcode == 0
    for one, name in zip(alone, ("films", "texts")):
        two = store.open(tmp_path / name, "encoded")
        assert {n: told["sha256"] for n, told in two.files.items()} == {n: told["sha256"] for n, told in one.files.items()}


def test_workers_change_no_byte(tmp_path):
    made = [encode(Films(), FILM, tmp_path / str(workers), means=Means(size=3, workers=workers)) for workers in (0, 2)]
    assert made[0].files["rows.npy"]["sha256"] == made[1].files["rows.npy"]["sha256"]


def test_nothing_that_can_be_used(tmp_path):
    class Broken(Films):
        def decode(self, number):
            raise Unreadable("is truncated")

    with pytest.raises(InputError, match="none of 20 items of cxr can be used: is truncated"):
        encode(Broken(), FILM, tmp_path / "e")


def test_an_encoder_of_another_kind_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="reads texts, and the items of cxr are images"):
        encode(Films(), TEXT, tmp_path / "e")


def test_the_key_tells_everything_that_changes_a_row():
    keys = [
        FILM.identity(), Recipe({"name": "film_conv"}, None, "tokens").identity(), TEXT.identity(),
        Recipe({"name": "film_conv", "width": 8}, None, "pooled").identity(),
        Recipe({"name": "film_conv"}, None, "pooled", torch.bfloat16).identity(),
    ]  # fmt: skip
    assert len({store.digest(key) for key in keys}) == len(keys)


def test_bfloat16_is_near_float32(tmp_path):
    exact, fast = (encode(Films(), Recipe({"name": "film_conv"}, None, "pooled", dtype), tmp_path / str(dtype), key=str(dtype))
                   for dtype in (torch.float32, torch.bfloat16))  # fmt: skip
    a, b = (made.array("rows.npy").astype(np.float32) for made in (exact, fast))
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert cosine.min() > 0.999 and not np.array_equal(a, b)
    assert rows.choose_dtype("float32", torch.device("cpu")) is torch.float32


def test_altered_rows_are_noticed(tmp_path):
    made = encode(Films(), FILM, tmp_path / "e")
    path = made.folder / "rows.npy"
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtefactError, match="altered"):
        store.open(made.folder, "encoded").array("rows.npy")
