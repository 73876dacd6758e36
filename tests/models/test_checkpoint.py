"""Checkpoints: whole or not there, the newest that is whole, and errors of the disk that are told."""

import errno

import pytest
import torch

from omnifuse.models.checkpoint import Checkpoints, differences, load_optimizer, optimizer_tensors
from omnifuse.preprocess import store
from omnifuse.preprocess.schema import ResourceError


def save(checkpoints: Checkpoints, *numbers: int) -> None:
    for number in numbers:
        checkpoints.save(number, {"w": torch.full((3,), float(number)), "n": torch.tensor(number)}, {"number": number})
        checkpoints.wait()


def spoil_tensors(folder, name):
    path = folder / f"{name}.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


FAULTS = {
    "a flipped bit in a tensor": spoil_tensors,
    "a cut file": lambda folder, name: (folder / f"{name}.safetensors").write_bytes(b"abc"),
    "no tensors": lambda folder, name: (folder / f"{name}.safetensors").unlink(),
    "a changed state": lambda folder, name: (folder / f"{name}.json").write_text(
        (folder / f"{name}.json").read_text().replace('"number": ', '"number": 1')
    ),
    "a cut state": lambda folder, name: (folder / f"{name}.json").write_text("{"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_newest_that_is_whole_is_loaded_and_the_broken_one_named(tmp_path, fault):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 5, 10)
    FAULTS[fault](tmp_path, "000000000010")
    found = Checkpoints(tmp_path).load()
    assert found.state == {"number": 5} and found.tensors["w"].tolist() == [5, 5, 5]
    assert found.skipped == ["000000000010"]
    save(checkpoints, 7)  # goes on from 5: what lies ahead is gone
    assert Checkpoints(tmp_path).load().state == {"number": 7}
    assert sorted(path.name for path in tmp_path.glob("*.json")) == ["000000000005.json", "000000000007.json"]


@pytest.mark.parametrize("pointer", [None, "", "[]", '{"name": 3}', '{"name": "000000000999"}'])
def test_a_pointer_that_is_lost_does_no_harm(tmp_path, pointer):
    save(Checkpoints(tmp_path), 5, 10)
    (tmp_path / "latest").unlink() if pointer is None else (tmp_path / "latest").write_text(pointer)
    assert Checkpoints(tmp_path).load().state == {"number": 10}


def test_two_are_kept_and_nothing_is_half_written(tmp_path):
    save(Checkpoints(tmp_path), 1, 2, 3, 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "000000000003.json", "000000000003.safetensors", "000000000004.json", "000000000004.safetensors", "latest",
    ]  # fmt: skip
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.iterdir())


def test_what_changes_after_the_save_is_not_in_it(tmp_path):
    checkpoints, tensor, state = Checkpoints(tmp_path), torch.zeros(1000), {"inner": {"value": 0}}
    checkpoints.save(1, {"w": tensor}, state)
    tensor += 1
    state["inner"]["value"] = 1
    checkpoints.wait()
    found = checkpoints.load()
    assert found.tensors["w"].sum() == 0 and found.state == {"inner": {"value": 0}}


@pytest.mark.parametrize("call", range(1, 10))
def test_a_full_disk_is_told_and_leaves_the_older_one(tmp_path, monkeypatch, call):
    """The n-th sync fails: the error comes at the next save or wait, and an older checkpoint, or this one, is whole."""
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 5)
    real, calls = store.os.fsync, []

    def fail(handle):
        calls.append(handle)
        if len(calls) == call:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle)

    monkeypatch.setattr(store.os, "fsync", fail)
    checkpoints.save(10, {"w": torch.ones(3)}, {"number": 10})
    if call <= 6:  # three files, each synced with its folder
        with pytest.raises(ResourceError, match="the disk is full"):
            checkpoints.wait()
    else:
        checkpoints.wait()
    monkeypatch.undo()
    assert Checkpoints(tmp_path).load().state["number"] in (5, 10)
    assert not list(tmp_path.glob("*.tmp")) and not list(tmp_path.glob(".*"))


def test_nothing_there_is_nothing(tmp_path):
    assert Checkpoints(tmp_path / "none").load() is None


@pytest.mark.parametrize(
    "saved, wanted, expected",
    [
        ({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 2}}, []),
        ({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}}, ["b.c was 2, is 3"]),
        ({"a": 1}, {"b": 2}, ["a was 1, is None", "b was None, is 2"]),
        ({"a": {"b": 1}}, {"a": [1]}, ["a was {'b': 1}, is [1]"]),
    ],
)
def test_differences_are_named(saved, wanted, expected):
    assert differences(saved, wanted) == expected


@pytest.mark.parametrize("made", [torch.optim.Adam, torch.optim.AdamW, lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9)])
def test_an_optimiser_goes_on_where_it_was(made):
    """One of two parameters has had no gradient yet: it has no state, and gets none."""
    torch.manual_seed(0)
    first, gradients = [torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(2))], torch.randn(6, 3)
    optimizer = made(first, lr=0.1)

    def steps(parameters, optimizer, rows):
        for row in rows:
            parameters[0].grad = row.clone()
            optimizer.step()

    steps(first, optimizer, gradients[:3])
    second = [torch.nn.Parameter(p.detach().clone()) for p in first]
    other = made(second, lr=0.1)
    load_optimizer(other, optimizer_tensors(optimizer))
    steps(first, optimizer, gradients[3:])
    steps(second, other, gradients[3:])
    assert all(torch.equal(a, b) for a, b in zip(first, second))
    assert optimizer_tensors(optimizer).keys() == optimizer_tensors(other).keys()
