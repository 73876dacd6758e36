"""Text encoders: transformers' own numbers, long texts in windows, and what every one of them owes a sample."""

import pytest
import torch

from omnifuse.models import registry
from omnifuse.models.parts import hashed_words
from omnifuse.models.parts.pretrained_text import level_layers
from omnifuse.models.parts.texts import END

PRETRAINED = ("bert", "roberta", "modernbert", "longformer")
OWN = ("small_bert", "textcnn", "ngrams")
TEXT = PRETRAINED + OWN
# Small, and with so few positions that the texts below need several windows; textcnn and ngrams have no windows.
SHORT = {name: {"architecture": dict(registry.find("encoder", name).family.small)} for name in PRETRAINED}
SHORT["bert"]["architecture"]["max_position_embeddings"] = SHORT["modernbert"]["architecture"]["max_position_embeddings"] = 18
SHORT["roberta"]["architecture"]["max_position_embeddings"] = 20
SHORT["longformer"]["architecture"] |= {"max_position_embeddings": 20, "attention_window": 6}
SHORT |= {"small_bert": {"window": 16, "width": 32}, "textcnn": {}, "ngrams": {"width": 8}}


def made(name, **options):
    torch.manual_seed(0)
    encoder = registry.find("encoder", name)(**({"input_dim": 0} | SHORT[name] | options)).eval()
    for parameter in encoder.parameters():  # else a random network hardly looks at its words
        if parameter.ndim > 1:
            parameter.data.normal_(0, 0.2)
    return encoder


def texts(*lengths, seed=1):
    """Ids above the special ones [B, T] and mask [B, T]."""
    ids = torch.randint(110, 1000, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(seed))
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return ids * mask, mask


def everything(encoded):
    return [encoded.pooled, encoded.tokens, *(level for level, _ in encoded.levels)]


def alike(first, second, **tolerance):
    for a, b in zip(everything(first), everything(second), strict=True):
        torch.testing.assert_close(a, b, **({"rtol": 1e-4, "atol": 2e-5} | tolerance))


# Rules of every text encoder


@pytest.mark.parametrize("name", TEXT)
def test_one_token_for_each_id_and_levels_that_end_in_the_tokens(name):
    encoder, (ids, mask) = made(name), texts(45, 3, 16)
    encoded = encoder(ids, mask)
    assert encoded.pooled.shape == (3, encoder.dim) and encoded.tokens.shape == (3, 45, encoder.token_dim)
    assert torch.equal(encoded.mask, mask) and not encoded.tokens[~mask].any()
    assert [level.shape for level, _ in encoded.levels] == [(3, 45, width) for width in encoder.level_dims]
    assert all(torch.equal(real, mask) for _, real in encoded.levels) and len(encoded.levels) <= 6
    if name != "textcnn":
        assert torch.equal(encoded.levels[-1][0], encoded.tokens)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", TEXT)
def test_neither_padding_nor_batch_nor_order_changes_a_text(name, train):
    """In train mode too: what is dropped belongs to the sample."""
    encoder, (ids, mask) = made(name, dropout=0.4).train(train), texts(45, 3, 16, 30)
    key, shuffle = torch.tensor([5, 6, 7, 8]), torch.tensor([2, 0, 3, 1])
    plain = encoder(ids, mask, key)
    shuffled = encoder(ids[shuffle], mask[shuffle], key[shuffle])
    wide = torch.nn.functional.pad(ids, (0, 9), value=7), torch.nn.functional.pad(mask, (0, 9))
    padded, alone = encoder(*wide, key), encoder(ids[1:2, :3], mask[1:2, :3], key[1:2])
    for a, b, c in zip(everything(plain), everything(shuffled), everything(padded), strict=True):
        torch.testing.assert_close(b, a[shuffle], rtol=1e-4, atol=2e-5)
        torch.testing.assert_close(c[:, :45] if c.ndim == 3 else c, a, rtol=1e-4, atol=2e-5)
    for a, b in zip(everything(plain), everything(alone), strict=True):
        torch.testing.assert_close(b, a[1:2, :3] if a.ndim == 3 else a[1:2], rtol=1e-4, atol=2e-5)
    assert (not train) == torch.equal(plain.pooled, encoder(ids, mask).pooled)  # without a key nothing is dropped


@pytest.mark.parametrize("name", TEXT)
def test_no_draw_from_torchs_generators(name):
    encoder, (ids, mask) = made(name, **({"tune_layers": -1} if name in PRETRAINED else {})).train(), texts(20, 9)
    key = torch.tensor([1, 2])
    first = encoder(ids, mask, key)
    torch.manual_seed(99)
    alike(encoder(ids, mask, key), first, rtol=0, atol=0)


@pytest.mark.parametrize("name", TEXT)
def test_a_text_of_no_id_is_finite_and_leaves_the_others_alone(name):
    encoder, (ids, mask) = made(name), texts(20, 4)
    mask[1] = False
    encoded = encoder(ids, mask)
    assert all(torch.isfinite(x).all() for x in everything(encoded))
    torch.testing.assert_close(encoded.pooled[:1], encoder(ids[:1], mask[:1]).pooled, rtol=1e-4, atol=2e-5)
    assert torch.isfinite(encoder(ids, torch.zeros_like(mask)).pooled).all()
    assert encoder.zero().shape == (1, encoder.dim)


@pytest.mark.parametrize("name", TEXT)
def test_the_features_of_a_bare_encoder_are_what_stands_before_its_projection(name):
    encoder, (ids, mask) = made(name), texts(20, 4)
    projected, project = encoder(ids, mask).pooled, encoder.project
    bare = encoder.bare()(ids, mask).pooled
    assert bare.shape[1] == encoder.dim == {"textcnn": 300, "ngrams": 8 + 1}.get(name, encoder.token_dim)
    torch.testing.assert_close(project(bare), projected)


@pytest.mark.parametrize("name, options", [*((name, {}) for name in TEXT), ("bert", {"pool": "cls"})])
def test_each_text_of_a_sample_is_read_by_itself_and_counts_the_same(name, options):
    """So that what an encoder learns from is what its features keep."""
    encoder, (ids, mask) = made(name, **options), texts(45, 3, 20)
    row = torch.cat([torch.cat([text[real], torch.tensor([END])]) for text, real in zip(ids, mask)])[None]
    together = encoder(row, torch.ones_like(row, dtype=torch.bool))
    alone = encoder(ids, mask)
    project = encoder.project
    features = encoder.bare()(ids, mask).pooled  # [3, E]
    torch.testing.assert_close(together.pooled, project(features.mean(0, keepdim=True)), rtol=1e-4, atol=2e-5)
    assert torch.equal(together.mask, row != END) and not together.tokens[row == END].any()
    torch.testing.assert_close(together.tokens[together.mask], alone.tokens[mask], rtol=1e-4, atol=2e-5)
    for (level, real), (expected, there) in zip(together.levels, alone.levels, strict=True):
        torch.testing.assert_close(level[real], expected[there], rtol=1e-4, atol=2e-5)


# Windows and pooling of the pretrained ones


@pytest.mark.parametrize("name", PRETRAINED)
@pytest.mark.parametrize("lengths, atol", [((14,), 1e-6), ((14, 9), 1e-5)])
def test_one_window_is_transformers_own_forward(name, lengths, atol):
    """In a batch another kernel of attention rounds otherwise."""
    encoder, (ids, mask) = made(name), texts(*lengths)
    first, last = encoder.framing.tolist()
    encoded = encoder(ids, mask)
    for row, length in enumerate(lengths):
        framed = torch.tensor([[first, *ids[row, :length].tolist(), last]])
        told = {"global_attention_mask": (torch.arange(length + 2) == 0).long()[None]} if name == "longformer" else {}
        found = encoder.network(input_ids=framed, output_hidden_states=True, **told)
        torch.testing.assert_close(encoded.tokens[row, :length], found.last_hidden_state[0, 1:-1], rtol=0, atol=atol)
        torch.testing.assert_close(encoded.levels[0][0][row, :length], found.hidden_states[1][0, 1:-1], rtol=0, atol=atol)


@pytest.mark.parametrize("name", [*PRETRAINED, "small_bert"])
def test_windows_are_texts_of_their_own(name):
    encoder, (ids, mask) = made(name), texts(45, 20)
    assert encoder.window == 16 or name == "longformer"
    encoded = encoder(ids, mask)
    for row, length in enumerate((45, 20)):
        for start in range(0, length, encoder.window):
            piece = ids[row : row + 1, start : min(start + encoder.window, length)]
            alone = encoder(piece, torch.ones_like(piece).bool())
            torch.testing.assert_close(encoded.tokens[row : row + 1, start : start + piece.shape[1]], alone.tokens, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", PRETRAINED)
def test_what_is_pooled(name):
    ids, mask = texts(45, 9)
    mean, cls = (made(name, pool=pool) for pool in ("mean", "cls"))
    encoded = mean(ids, mask)
    expected = torch.stack([encoded.tokens[0, :45].mean(0), encoded.tokens[1, :9].mean(0)])
    torch.testing.assert_close(encoded.pooled, mean.project(expected), rtol=1e-4, atol=1e-5)
    starts = range(0, 45, cls.window)
    states = [
        cls._hidden(ids[:1, start : min(start + cls.window, 45)], torch.ones(1, min(cls.window, 45 - start)).bool())[-1] for start in starts
    ]
    expected = torch.stack([state[0, 0] for state in states]).mean(0)
    torch.testing.assert_close(cls(ids, mask).pooled[0], cls.project(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("depth, picked", [(1, (1,)), (6, (1, 2, 3, 4, 5, 6)), (12, (2, 4, 6, 8, 10, 12)), (22, (4, 8, 11, 15, 19, 22))])
def test_levels_are_at_even_distances(depth, picked):
    assert level_layers(depth) == picked


@pytest.mark.parametrize("name", PRETRAINED)
@pytest.mark.parametrize("tune, reached", [(0, []), (1, [1]), (2, [0, 1]), (-1, [0, 1])])
def test_a_gradient_reaches_the_tuned_layers_alone(name, tune, reached):
    encoder, (ids, mask) = made(name, tune_layers=tune).train(), texts(20, 9)
    encoder(ids, mask, torch.tensor([1, 2])).pooled.square().sum().backward()
    got = [any(p.grad is not None and p.grad.any() for p in layer.parameters()) for layer in encoder.layers()]
    assert [number for number, some in enumerate(got) if some] == reached
    learning = {id(p) for p in encoder.learnable()}
    assert all(id(p) in learning for p in encoder.parameters() if p.grad is not None)
    assert (id(encoder.network.get_input_embeddings().weight) in learning) == (tune == -1)
    assert all(id(p) in learning for p in encoder.project.parameters())


# What learns from nothing


def ordered(size, generator):
    """`a b` or `b a` somewhere among other words: a bag of words cannot tell."""
    ids, label, rows = torch.randint(10, 40, (size, 12), generator=generator), torch.arange(size) % 2, torch.arange(size)
    place = torch.randint(0, 11, (size,), generator=generator)
    ids[rows, place], ids[rows, place + 1] = torch.where(label.bool(), 5, 6), torch.where(label.bool(), 6, 5)
    return ids, torch.ones_like(ids).bool(), label.float()


@pytest.mark.parametrize("name, options, steps", [("small_bert", {"width": 64, "heads": 2}, 140), ("textcnn", {}, 40), ("ngrams", {}, 60)])
def test_it_learns_an_order_of_words_in_seconds(name, options, steps):
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    encoder, head = registry.find("encoder", name)(dim=16, **options).train(), torch.nn.Linear(16, 1)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=3e-3)
    for step in range(steps):
        ids, mask, label = ordered(48, generator)
        logit = head(encoder(ids, mask, torch.arange(48) + 1000 * step).pooled)[:, 0]
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(logit, label).backward()
        optimizer.step()
    ids, mask, label = ordered(200, generator)
    with torch.no_grad():
        right = (head(encoder.eval()(ids, mask).pooled)[:, 0] > 0) == label.bool()
    assert right.float().mean() > 0.95


def test_ngrams_are_those_of_the_words_that_end_at_each_and_know_their_order():
    ids = torch.tensor([[0, 7, 9, 7, 0], [9, 7, 3, 9, 7]])
    one, two, three = hashed_words.ngrams(ids, 3)
    assert torch.equal(one, ids)
    assert (two > 0).tolist() == [[False, False, True, True, False], [False, True, True, True, True]]
    assert (three > 0).tolist() == [[False, False, False, True, False], [False, False, True, True, True]]
    assert two[0, 3] == two[1, 1] == two[1, 4] and two[0, 2] != two[0, 3]  # 9 7, wherever it stands, and not 7 9
    assert len({int(gram) for gram in (three[0, 3], *three[1, 2:])}) == 4


def test_a_longer_text_of_the_same_words_has_another_embedding_but_the_same_mean():
    encoder = registry.find("encoder", "ngrams")(order=1).eval()
    ids = torch.tensor([[5, 6, 0, 0], [5, 6, 5, 6]])
    short, long = encoder(ids, ids > 0).pooled
    weight = encoder.project[0].weight[:, -1]
    torch.testing.assert_close(long - short, weight * torch.log(torch.tensor(2.0)))
