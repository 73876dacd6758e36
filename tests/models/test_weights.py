"""Weights: where they are looked for, what is said where they are not, and every way in which a file may be hostile."""

import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file

from omnifuse.models import published
from omnifuse.models.encoders.bert import Bert
from omnifuse.models.encoders.dinov2 import DINOv2
from omnifuse.models.encoders.resnet34 import ResNet34
from omnifuse.models.encoders.vit_small import ViTSmall
from omnifuse.models.tensor_files import read_tensors
from omnifuse.models.weights import find_weights, run_weights
from omnifuse.preprocess import store
from omnifuse.preprocess.schema import ArtefactError, ConfigError, OmnifuseError, ResourceError

NAME = "resnet34-b627a593.pth"


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    """Empty caches of torch and of huggingface_hub, and no way out."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


@pytest.fixture
def canary(tmp_path):
    return tmp_path / "canary"


class Attack:
    """Unpickled, it makes the canary."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text and "Traceback" not in text
    return text


def folder(path: Path, config: dict | str, weights: dict | None = None) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    save_file(weights or {"w": torch.ones(2)}, path / "model.safetensors")
    return path


# Where they are


def test_none_is_none():
    assert find_weights(ResNet34, "none") is None


def test_offline_and_absent_names_places_files_and_ways_out(tmp_path):
    with pytest.raises(ConfigError) as error:
        find_weights(ResNet34, "imagenet", tmp_path / "models")
    told = one_line(error)
    for part in (NAME, str(tmp_path / "models"), str(tmp_path / "torch/hub/checkpoints"), "--model-dir", "--allow-download", "resnet34"):
        assert part in told
    with pytest.raises(ConfigError) as error:
        find_weights(Bert, "bert-base-uncased")
    for part in ("config.json", "model.safetensors", str(tmp_path / "hub/models--google-bert--bert-base-uncased"), "--allow-download"):
        assert part in one_line(error)


@pytest.mark.parametrize("place", ["models", "torch/hub/checkpoints"])
def test_a_file_of_torch_is_found_by_its_name_and_its_hash(tmp_path, monkeypatch, place):
    path = tmp_path / place / NAME
    path.parent.mkdir(parents=True)
    torch.save({"w": torch.ones(2)}, path)
    with pytest.raises(ArtefactError, match="not the file of that name"):
        find_weights(ResNet34, "imagenet", tmp_path / "models")
    source = published.TorchFile(f"resnet34-{store.sha256(path)[:8]}.pth")
    path.rename(path.with_name(source.name))
    monkeypatch.setattr(ResNet34, "published", {"imagenet": source})
    weights = find_weights(ResNet34, "imagenet", tmp_path / "models")
    assert weights.path == path.with_name(source.name) and torch.equal(weights.tensors()["w"], torch.ones(2))


@pytest.mark.parametrize(
    "place",
    [
        "models/dinov2-small",
        "models/facebook/dinov2-small",
        "hub/models--facebook--dinov2-small/snapshots/ed25f3a31f01632728cabb09d1542f84ab7b0056",
        "hub/models--facebook--dinov2-small/snapshots/another",
    ],
)
def test_a_repository_is_found_in_the_model_folder_and_in_the_cache(tmp_path, place):
    home = folder(tmp_path / place, {"model_type": "dinov2", "hidden_size": 24})
    weights = find_weights(DINOv2, "small", tmp_path / "models")
    assert weights.folder == home and weights.architecture == {"model_type": "dinov2", "hidden_size": 24}
    assert weights.files == ("config.json", "model.safetensors") and not weights.native


def test_of_several_snapshots_the_pinned_one_is_taken_then_main(tmp_path):
    cached = tmp_path / "hub/models--WinKawaks--vit-small-patch16-224"
    for name in ("a", "b"):
        folder(cached / "snapshots" / name, {"model_type": "vit"})
    (cached / "refs").mkdir()
    (cached / "refs/main").write_text("b")
    assert find_weights(ViTSmall, "imagenet-224").folder.name == "b"


def test_files_and_folders_are_told_by_their_path(tmp_path):
    home = folder(tmp_path / "mine", {"hidden_size": 8})
    (home / "vocab.txt").write_text("[CLS]")
    assert find_weights(Bert, str(home)).files == ("config.json", "model.safetensors", "vocab.txt")
    weights = find_weights(ResNet34, str(home / "model.safetensors"))
    assert weights.files == ("model.safetensors",) and weights.architecture == {}
    with pytest.raises(ConfigError, match=r"resnet34 has no weights 'imagnet' \(did you mean imagenet\?"):
        find_weights(ResNet34, "imagnet")
    (home / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="has to hold config.json and model.safetensors or pytorch_model.bin"):
        find_weights(Bert, str(home))


def test_the_digest_is_of_names_and_bytes(tmp_path):
    home = folder(tmp_path / "mine", {"hidden_size": 8})
    digest = lambda: find_weights(Bert, str(home)).digest
    first = digest()
    assert digest() == first
    (home / "vocab.txt").write_text("[CLS]")
    second = digest()
    (home / "vocab.txt").write_text("[SEP]")
    assert len({first, second, digest()}) == 3


# The network


def test_nothing_is_fetched_unless_it_is_allowed(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *told, **more: asked.append(told))
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *told, **more: asked.append((told, more)))
    for encoder, name in ((ResNet34, "imagenet"), (DINOv2, "small")):
        with pytest.raises(ConfigError):
            find_weights(encoder, name, tmp_path / "models")
    assert not asked
    for encoder, name in ((ResNet34, "imagenet"), (DINOv2, "small")):
        with pytest.raises(ConfigError, match="not in"):  # the stand-in brings nothing
            find_weights(encoder, name, tmp_path / "models", allow_download=True)
    (url, target, prefix), (told, more) = asked
    assert (url, target, prefix) == (f"https://download.pytorch.org/models/{NAME}", str(tmp_path / "models" / NAME), "b627a593")
    assert told == ("facebook/dinov2-small",) and more["revision"] == "ed25f3a31f01632728cabb09d1542f84ab7b0056"
    assert more["allow_patterns"] == ["config.json", "model.safetensors"] and more["local_dir"] == tmp_path / "models/dinov2-small"


@pytest.mark.parametrize("encoder, name", [(ResNet34, "imagenet"), (DINOv2, "small")])
def test_a_download_that_fails_is_one_line(encoder, name, monkeypatch):
    def fail(*_, **__):
        raise OSError("no route to 10.0.0.1")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(ResourceError, match=r"cannot be downloaded \(OSError\) \(copy it to --model-dir\)") as error:
        find_weights(encoder, name, allow_download=True)
    assert "10.0.0.1" not in one_line(error)


# Configurations


@pytest.mark.parametrize(
    "config",
    [
        {"auto_map": {"AutoModel": "modeling_evil.Evil"}},
        {"text_config": {"auto_map": {"AutoModel": "modeling_evil.Evil"}}},
        '{"auto\\u005fmap": {}}',
    ],
)
def test_a_network_that_brings_code_is_refused(tmp_path, canary, config):
    home = folder(tmp_path / "evil", config)
    (home / "modeling_evil.py").write_text(f"open({str(canary)!r}, 'w')")
    with pytest.raises(ConfigError, match="auto_map"):
        find_weights(Bert, str(home))
    assert not canary.exists()


@pytest.mark.parametrize("config", ["", "[]", "{", "[" * 100_000])
def test_a_broken_configuration_is_one_line(tmp_path, config):
    with pytest.raises(ArtefactError) as error:
        find_weights(Bert, str(folder(tmp_path / "broken", config)))
    one_line(error)


def test_what_a_configuration_says_beside_the_shape_is_left_out(tmp_path):
    config = {
        "hidden_size": 8, "_attn_implementation_internal": "evil/kernel", "attn_implementation": "evil/kernel", "id2label": {"0": "x"},
        "_name_or_path": "/home/someone", "quantization_config": {}, "dtype": "float16",
    }  # fmt: skip
    assert find_weights(Bert, str(folder(tmp_path / "mine", config))).architecture == {"hidden_size": 8}


def test_a_network_of_another_kind_is_told(tmp_path):
    weights = find_weights(DINOv2, str(folder(tmp_path / "mine", {"model_type": "vit"})))
    with pytest.raises(ConfigError, match="dinov2 is a dinov2, these weights are of a vit"):
        DINOv2([1, 28, 28], architecture=weights.architecture)
    with pytest.raises(ConfigError, match="makes no dinov2"):
        DINOv2([1, 28, 28], architecture={"hidden_size": "large"})


# Files


def pickled(attack, path):
    torch.save({"w": torch.ones(2), "rng": attack}, path)


def legacy(attack, path):
    torch.save({"w": torch.ones(2), "rng": attack}, path, _use_new_zipfile_serialization=False)


def plain_pickle(attack, path):
    path.write_bytes(pickle.dumps(attack))


def old_tar(attack, path):
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            held = pickle.dumps(attack)
            archive.addfile(_member(name, held), io.BytesIO(held))


def _member(name, held):
    member = tarfile.TarInfo(name)
    member.size = len(held)
    return member


def numpy_objects(attack, path):
    with path.open("wb") as handle:
        np.save(handle, np.array([attack], dtype=object), allow_pickle=True)


def numpy_archive(attack, path):
    with path.open("wb") as handle:
        np.savez(handle, w=np.array([attack], dtype=object))


def script(attack, path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", [".pth", ".bin", ".pt", ".safetensors"])
@pytest.mark.parametrize("write", [pickled, legacy, plain_pickle, old_tar, numpy_objects, numpy_archive, script])
def test_objects_are_refused_and_never_run(tmp_path, canary, write, suffix):
    path = tmp_path / f"evil{suffix}"
    write(Attack(canary), path)
    with pytest.raises(ArtefactError) as error:
        read_tensors(path)
    assert "system" not in one_line(error) and not canary.exists()


@pytest.mark.parametrize("name", ["w.pt2", "w.ckpt", "w.pkl", "w.joblib", "w.npy", "w.npz", "w.tar", "w"])
def test_only_files_of_tensors_are_opened(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ConfigError, match="is not opened"):
        find_weights(ResNet34, str(tmp_path / name))


@pytest.mark.parametrize("name", ["/dev/zero", "pipe", "nowhere"])
def test_only_regular_files_are_opened(tmp_path, name):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="has no weights"):
        find_weights(ResNet34, str(tmp_path / name))


def test_a_compressed_archive_is_not_unpacked(tmp_path):
    torch.save({"w": torch.zeros(1_000_000)}, tmp_path / "plain.pth")
    with zipfile.ZipFile(tmp_path / "plain.pth") as plain, zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in plain.namelist():
            bomb.writestr(name, plain.read(name))
    assert (tmp_path / "bomb.pth").stat().st_size < 20_000
    with pytest.raises(ArtefactError, match="no whole file"):
        read_tensors(tmp_path / "bomb.pth")


@pytest.mark.parametrize(
    "held",
    [
        {},
        [torch.ones(2)],
        {"w": torch.ones(2), "epoch": 3},
        {3: torch.ones(2)},
        {"w": torch.ones(1).expand(1_000_000, 1_000_000)},
        {"w": torch.ones(2).to_sparse()},
        {"w": torch.tensor([1.0, float("nan")])},
        {"w": torch.tensor([1.0, float("inf")], dtype=torch.float16)},
    ],
)
def test_what_is_no_dictionary_of_finite_tensors_is_refused(tmp_path, held):
    torch.save(held, tmp_path / "w.pth")
    with pytest.raises(ArtefactError) as error:
        read_tensors(tmp_path / "w.pth")
    one_line(error)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: {"state_dict": {f"module.{n}": x for n, x in t.items()}, "epoch": 3}])
def test_plain_tensors_come_back_as_they_were(tmp_path, wrap, old):
    tensors = {"a.weight": torch.randn(3, 4), "a.count": torch.tensor(7), "half": torch.randn(5).half()}
    torch.save(wrap(tensors), tmp_path / "w.pth", _use_new_zipfile_serialization=not old)
    save_file(tensors, tmp_path / "w.safetensors")
    for name in ("w.pth", "w.safetensors"):
        found = read_tensors(tmp_path / name)
        assert found.keys() == tensors.keys() and all(torch.equal(found[key], tensors[key]) for key in tensors)


def header(told: dict | bytes, body: bytes = b"", length: int | None = None) -> bytes:
    text = told if isinstance(told, bytes) else json.dumps(told).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def one(start: int, end: int, shape=(2,), dtype="F32") -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x08",
        header({}, length=2**60),
        header(b"x" * 32),
        header({"w": one(0, 8)}, bytes(8), length=2**31),
        header({"w": one(0, 8)}, bytes(4)),
        header({"w": one(0, 8)}, bytes(64)),
        header({"a": one(0, 8), "b": one(4, 12)}, bytes(12)),
        header({"w": one(0, 8, (3,))}, bytes(8)),
        header({"w": one(0, 8, (-2,))}, bytes(8)),
        header({"w": one(0, 8, (2**62, 8))}, bytes(8)),
        header({"w": one(0, 8, dtype="OBJ")}, bytes(8)),
        header({"w": one(8, 0)}, bytes(8)),
        header(b'{"w": ' + b"[" * 10_000, bytes(8)),
        header({str(n): one(0, 0, (0,)) for n in range(1_000_000)}),
        save({"w": torch.tensor([float("nan")])}),
        save({"w": torch.ones(1000)})[:-5],
        save({}),
    ],
)
def test_a_doctored_safetensors_file_is_one_line(tmp_path, content):
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(ArtefactError) as error:
        read_tensors(tmp_path / "w.safetensors")
    one_line(error)


def change(tensors, how):
    name = "layer1.0.conv1.weight"
    if how == "shape":
        return tensors | {name: tensors[name][:, :-1]}
    if how == "missing":
        return {key: tensor for key, tensor in tensors.items() if key != name}
    return tensors | {"layer9.weight": torch.ones(1)}


@pytest.mark.parametrize("how", ["shape", "missing", "unknown"])
def test_weights_of_another_network_change_nothing(tmp_path, how):
    encoder = ResNet34([1, 32, 32])
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    tensors = {name: tensor.contiguous() + 1 for name, tensor in encoder.network.state_dict().items()}
    save_file({name: tensor.contiguous() for name, tensor in change(tensors, how).items()}, tmp_path / "w.safetensors")
    with pytest.raises(ConfigError, match="of another network") as error:
        encoder.load(find_weights(ResNet34, str(tmp_path / "w.safetensors")))
    one_line(error)
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


# Runs


@pytest.fixture
def run(tmp_path):
    encoder = ResNet34([1, 32, 32], dim=8)
    tensors = {f"encoders.cxr.{name}": tensor.contiguous().numpy() for name, tensor in encoder.state_dict().items()}
    built = {"encoders": {"cxr": {"name": "resnet34", "dim": 8, "architecture": {"a": 1}}}}
    with store.create(tmp_path / "run", "run", fingerprint="x", meta={"built": built, "task": "mortality"}) as out:
        store.write_safetensors(out.path("weights.safetensors"), tensors | {"head.weight": np.ones(2, np.float32)})
    return encoder, tmp_path / "run"


@pytest.mark.parametrize("name", ["", "weights.safetensors"])
def test_the_encoder_of_a_run(run, name):
    encoder, path = run
    weights = run_weights(path / name, "cxr")
    assert weights.native and weights.encoder["name"] == "resnet34" and weights.architecture == {"a": 1}
    tensors = weights.tensors()
    assert tensors.keys() == encoder.state_dict().keys()
    other = ResNet34([1, 32, 32], dim=8)
    other.load(weights)
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in other.state_dict().items())
    with pytest.raises(ConfigError, match="no modality 'ehr'"):
        run_weights(path, "ehr")


def test_a_run_that_was_altered_is_refused(run):
    _, path = run
    file = path / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(ArtefactError, match="altered"):
        run_weights(path, "cxr")
    with pytest.raises(OmnifuseError, match="artefact"):
        find_weights(ResNet34, str(path))
