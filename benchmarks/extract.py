"""Speed and disk of `omnifuse extract`: films through ResNet34, reports through a BERT, each against its own bare parts, interleaved.

    python benchmarks/extract.py                     256 films of 2544 x 3056, 2048 reports, a network of bert-base's size, five runs
    python benchmarks/extract.py --bert tiny --films 8 --reports 16 --runs 1

P4   films a second / the bound. On a CPU decoding and encoding share the cores: the bound is 1 / (1 / decode + 1 / forward), with decode
     (a process a core, nothing else) and forward (ResNet34 alone on ready tensors) measured bare in the same run with the same settings
P5   real word pieces a second / those of the bare network on full batches, each as long as one of extraction's in the mean, without
     mask or padding; and the padding's share of what extraction runs. [CLS] and [SEP] count as real on both sides
P13  bytes on disk of what was extracted / float16 values of the real word pieces (of films: of their rows)

Time runs from the first item to the last block on disk; building the network and joining the blocks at the end are told apart. Films are
noisy copies of those in $OMNIFUSE_TEST_DATA/cxr_hannover, or shadows where it is absent; weights are random, saved and found as a user's.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import torch
from measure import load
from PIL import Image
from tqdm import tqdm
from transformers import BertConfig, BertModel
from transformers.utils import logging

from omnifuse.models import decoding, registry
from omnifuse.models.encoded import BLOCK, encode_items
from omnifuse.models.parts.texts import Texts
from omnifuse.models.parts.windows import Windows
from omnifuse.models.rows import Means, Recipe, Rows, cast_once, choose_dtype
from omnifuse.models.weights import find_weights
from omnifuse.preprocess import image
from omnifuse.preprocess.items import Items

WIDTH, HEIGHT, DISTINCT = 2544, 3056, 16  # of a film of MIMIC-CXR-JPG; so many different ones are written
SHORTEST, LONGEST = 10, 280  # words of a report, as in Wu et al. 2025
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
BERTS = {
    "base": {},
    "tiny": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128, "vocab_size": 4096},
}


# What is extracted


def make_films(folder: Path, count: int, rng: np.random.Generator) -> Items:
    """`count` films; DISTINCT files, which are enough for a decoder that keeps nothing."""
    home = Path(os.environ.get("OMNIFUSE_TEST_DATA") or "/nonexistent") / "cxr_hannover"
    sources = sorted(path for path in home.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    names = [f"{number}.jpg" for number in range(min(DISTINCT, count))]
    for number, name in enumerate(names):
        film = Image.open(sources[number % len(sources)]).convert("L") if sources else _shadow(number)
        pixels = np.asarray(film.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.float32)
        noisy = pixels + rng.normal(0, 3, pixels.shape).astype(np.float32)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / name, quality=90)
    paths = list(itertools.islice(itertools.cycle(names), count))
    return Items("cxr", "image", pl.DataFrame({"path": paths}), folder, dict(image.DEFAULTS))


def _shadow(number: int) -> Image.Image:
    """Two dark fields on a light ground."""
    y, x = np.mgrid[-1:1:256j, -1:1:256j]
    fields = [np.exp(-8 * ((x - side) ** 2 + (y / 1.5) ** 2)) for side in (-0.45 - 0.01 * number, 0.45)]
    return Image.fromarray((220 - 180 * sum(fields)).clip(0, 255).astype(np.uint8))


def make_reports(count: int, vocabulary: list[str], rng: np.random.Generator) -> Items:
    """`count` texts of 10 to 280 words, about 60 in the median; every tenth word is none of the vocabulary and falls into pieces."""
    lengths = np.exp(rng.normal(4.1, 0.6, count)).astype(int).clip(SHORTEST, LONGEST)
    texts = []
    for length in lengths:
        words = rng.choice(vocabulary, length)
        broken = rng.random(length) < 0.1
        texts.append(" ".join(np.where(broken, np.char.add(words, "x"), words)))
    return Items("rep", "text", pl.DataFrame({"text": texts}), None, {})


def save_weights(folder: Path, size: str, dtype: torch.dtype) -> tuple[Recipe, Recipe, list[str]]:
    """Random weights of ResNet34 and of a BERT where `--weights` finds them: recipes of both, and words of the vocabulary."""
    torch.manual_seed(0)
    resnet = registry.find("encoder", "resnet34")
    path = folder / "resnet34.pth"
    torch.save(resnet([1, 224, 224]).network.state_dict(), path)
    bert = folder / "bert"
    config = BertConfig(**BERTS[size])
    BertModel(config).save_pretrained(bert)
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = ["".join(some) for some in itertools.islice(itertools.product(letters[:12], repeat=4), 2000)]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*special, *letters, *(f"##{letter}" for letter in letters), *words]
    unused = [f"[unused{number}]" for number in range(config.vocab_size - len(pieces))]
    (bert / "vocab.txt").write_text("\n".join([*pieces, *unused]) + "\n")
    films = Recipe({"name": "resnet34"}, find_weights(resnet, str(path)), "pooled", dtype)
    texts = Recipe({"name": "bert"}, find_weights(registry.find("encoder", "bert"), str(bert)), "tokens", dtype)
    return films, texts, words


# What is measured


class Clock:
    """The time between the first item and the last block, by the progress that `encode_items` tells."""

    def __init__(self):
        self.seconds = 0.0

    @contextmanager
    def __call__(self, description: str, total: int, unit: str):
        started = time.perf_counter()
        with tqdm(total=total, desc=description, unit=unit, leave=False) as bar:
            yield bar
        self.seconds = time.perf_counter() - started


def extract(items: Items, recipe: Recipe, means: Means, out: Path) -> tuple[float, float, int]:
    """(seconds between first and last item, seconds before and after, bytes of the artefact)."""
    shutil.rmtree(out, ignore_errors=True)
    clock, started = Clock(), time.perf_counter()
    made = encode_items(items, np.arange(len(items)), recipe, out, "benchmark", means, clock)
    beside = time.perf_counter() - started - clock.seconds
    if made.meta["unusable"]:
        raise SystemExit(f"{made.meta['unusable']}: nothing can be measured by such items")
    return clock.seconds, beside, sum(path.stat().st_size for path in out.rglob("*") if path.is_file())


def decode(pool, items: Items) -> float:
    """Seconds of decoding alone, a process a core."""
    started = time.perf_counter()
    for _ in pool.imap_unordered(items.decode, range(len(items)), chunksize=1):
        pass
    return time.perf_counter() - started


@torch.inference_mode()
def forward(run, batches: list, dtype: torch.dtype) -> float:
    """Seconds of a network alone."""
    started = time.perf_counter()
    for batch in batches:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            run(batch)
    return time.perf_counter() - started


def batches_of(lengths: list[int], tokens: int) -> list[list[int]]:
    """Pieces of the texts of each batch that extraction makes."""
    blocks = [lengths[start : start + BLOCK["text"]] for start in range(0, len(lengths), BLOCK["text"])]
    return [[block[place] for place in batch] for block in blocks for batch in decoding.bucket(block, tokens)]


def run_places(batches: list[list[int]], window: int) -> int:
    """Places that the network is run on, [CLS], [SEP] and padding among them: a batch is cut into groups of like length."""
    places = 0
    for batch in batches:
        sizes = torch.tensor(batch)
        real = torch.arange(int(sizes.max())) < sizes[:, None]
        windows = Windows.cut(Texts.of(real.long(), real), window)
        places += sum(len(group) * (int(windows.length[group].max()) + 2) for group in windows.groups())
    return places


# What is printed


def report(name: str, rates: list[float], unit: str) -> None:
    print(f"  {name:<34} {statistics.median(rates):10,.1f} {unit} ({min(rates):,.1f} to {max(rates):,.1f})")


def spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


def films(items: Items, recipe: Recipe, means: Means, runs: int, out: Path) -> None:
    with multiprocessing.get_context("fork").Pool(CORES) as pool:  # before torch has threads
        pool.map(items.decode, range(min(len(items), 2 * CORES)), chunksize=1)
        network = cast_once(recipe.build(items), recipe.dtype).network
        size = items.settings["size"]
        batch = torch.rand(min(means.size, len(items)), 3, size, size).contiguous(memory_format=torch.channels_last)
        batches = [batch] * max(1, len(items) // len(batch))
        forward(network, batches[:1], recipe.dtype)
        decoded, encoded, made, beside = [], [], [], []
        for _ in range(runs):
            decoded.append(len(items) / decode(pool, items))
            encoded.append(len(batches) * len(batch) / forward(network, batches, recipe.dtype))
            seconds, more, size_on_disk = extract(items, recipe, means, out)
            made.append(len(items) / seconds)
            beside.append(more)
    print(f"films: {len(items):,}, decoded to {size} x {size}; {str(recipe.dtype)[6:]}, {means.workers} workers; {load()}")
    report(f"decode alone, {CORES} processes", decoded, "films/s")
    report("forward alone", encoded, "films/s")
    report("extraction", made, "films/s")
    print(f"  {'before the first, after the last':<34} {statistics.median(beside):10.1f} s")
    print(f"  P4  {spread([rate / (1 / (1 / d + 1 / f)) for rate, d, f in zip(made, decoded, encoded)])} of the bound")
    print(f"  P13 {size_on_disk / (2 * 512 * len(items)):.3f} of 512 float16 values a film")


def reports(items: Items, recipe: Recipe, means: Means, runs: int, out: Path) -> None:
    encode = Rows(items, recipe, means)
    lengths = [len(pieces) for pieces in encode.tokenise(items.table["text"].to_list())]
    network, width = encode.encoder.network, encode.encoder.token_dim
    if max(lengths) > encode.encoder.window:
        raise SystemExit("a report is longer than a window, and its special tokens are counted once here")
    texts = batches_of(lengths, means.tokens)
    real, places = sum(lengths) + 2 * len(lengths), run_places(texts, encode.encoder.window)
    batches = [torch.randint(5, 2000, (len(batch), round(statistics.mean(batch)) + 2)) for batch in texts]
    full = sum(batch.numel() for batch in batches)
    forward(network, batches[-1:], recipe.dtype)
    bare, made, beside = [], [], []
    for _ in range(runs):
        bare.append(full / forward(network, batches, recipe.dtype))
        seconds, more, size_on_disk = extract(items, recipe, means, out)
        made.append(real / seconds)
        beside.append(more)
    layers, kind = network.config.num_hidden_layers, str(recipe.dtype)[6:]
    print(f"reports: {len(items):,}, {min(lengths)} to {max(lengths)} pieces; {layers} layers of {width}, {kind}; {load()}")
    report("forward alone, full batches", bare, "pieces/s")
    report("extraction", made, "real pieces/s")
    print(f"  {'before the first, after the last':<34} {statistics.median(beside):10.1f} s")
    print(f"  P5  {spread([a / b for a, b in zip(made, bare)])} of the bare forward; padding {1 - real / places:.1%}")
    print(f"  P13 {size_on_disk / (2 * width * sum(lengths)):.3f} of float16 tokens x real length")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, default=256)
    parser.add_argument("--reports", type=int, default=2048)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--workers", type=int, default=min(CORES, 16), help="processes that decode while the encoder runs")
    parser.add_argument("--dtype", choices=["auto", "float32", "bfloat16"], default="auto")
    parser.add_argument("--bert", choices=list(BERTS), default="base", help="size of the text network")
    given = parser.parse_args()
    logging.disable_progress_bar()
    rng, means = np.random.default_rng(0), Means(workers=given.workers)
    with tempfile.TemporaryDirectory() as home:
        place = Path(home)
        film_recipe, text_recipe, vocabulary = save_weights(place, given.bert, choose_dtype(given.dtype, torch.device("cpu")))
        (place / "films").mkdir()
        if given.films:
            films(make_films(place / "films", given.films, rng), film_recipe, means, given.runs, place / "encoded-films")
        if given.reports:
            reports(make_reports(given.reports, vocabulary, rng), text_recipe, means, given.runs, place / "encoded-reports")


if __name__ == "__main__":
    main()
