"""With what `omnifuse extract` encodes the items of each modality: encoder, weights, and what is kept.

    extract.MODALITY.encoder   .weights   .keep       in omnifuse.yaml, --set, or the options --encoder, --weights, --keep
    extract.MODALITY.OPTION                           an option of that encoder
    extract.MODALITY.decode.SETTING                   how its items are decoded, e.g. the leads of signals

By default the encoder of the papers with its published weights: films and slices ResNet34, texts BERT. An encoder without published
weights (for signals, and the small ones) learns with the rest: then what it reads is kept, `raw`, and training starts it from nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnifuse import config
from omnifuse.preprocess import store
from omnifuse.preprocess.schema import ConfigError, nearest
from omnifuse.workspace import Workspace

SHARED = ("size", "rate")  # what encoders of films, slices and signals and their decoders must agree on
ENCODERS = {"image": "resnet34", "volume": "resnet34", "text": "bert", "signal": "resnet1d"}
CHINESE = "bert-base-chinese"
KEEPS = ("pooled", "tokens", "levels", "raw")
AUTO, NONE = "auto", "none"


@dataclass(frozen=True)
class Choice:
    """`weights` is a published name, a path, or NONE; `options` those of the encoder, `decode` those of the decoder."""

    modality: str
    encoder: str
    weights: str
    keep: str
    options: dict[str, Any]
    decode: dict[str, Any]


def pairs(told: tuple[str, ...], modalities: list[str], flag: str) -> dict[str, str]:
    """`--weights cxr=imagenet`, or without `cxr=` for every modality with items."""
    found = {}
    for text in told:
        name, equals, value = text.partition("=")
        if equals and name not in modalities:
            raise ConfigError(f"{flag}: no modality {name!r} with items in this cohort", hint=nearest(name, modalities))
        found |= {name: value} if equals else dict.fromkeys(modalities, text)
    return found


def choose(
    space: Workspace, about: dict[str, dict[str, Any]], sets: tuple[str, ...], told: dict[str, dict[str, str]], raw: bool = False
) -> dict[str, Choice]:
    """A choice for every modality of `about`, which is the manifest's account of those with items.

    Args:
        told: encoder, weights and keep by modality, from the command line.
        raw: keep what the encoder reads, whatever else is said.

    Raises:
        ConfigError: with all that is wrong in any layer.
    """
    flags = {f"extract.{name}.{key}": config.Leaf(text, f"--{key}") for key, texts in told.items() for name, text in texts.items()}
    layers = [space.layers["extract"], {k: v for k, v in config.overrides(sets).items() if k.startswith("extract.")}, flags]
    layers = [{key: leaf for key, leaf in layer.items() if key.split(".")[1] in about or layer is not layers[0]} for layer in layers]
    return {name: _choice(name, described, layers, raw) for name, described in about.items()}


def _choice(name: str, about: dict[str, Any], layers: list[dict[str, config.Leaf]], raw: bool) -> Choice:
    from omnifuse.models import registry
    from omnifuse.preprocess.items import decoder_settings

    mine = [{key: leaf for key, leaf in layer.items() if key.startswith(f"extract.{name}.")} for layer in layers]
    prefix = f"extract.{name}."
    first = {f"{prefix}encoder": config.Field(ENCODERS[about["reads"]])}
    told = config.resolve(first, [{k: v for k, v in layer.items() if k in first} for layer in mine]).values[f"{prefix}encoder"]
    published = list(registry.find("encoder", told).published)
    fields = first | {f"{prefix}weights": config.Field(AUTO), f"{prefix}keep": config.Field(AUTO, choices=(AUTO, *KEEPS))}
    fields |= {f"{prefix}{option}": field for option, field in config.packaged("encoders", told)[0].items()}
    fields |= {f"{prefix}decode.{key}": config.Field(value) for key, value in decoder_settings(about).items()}
    values = {key.removeprefix(prefix): value for key, value in config.resolve(fields, mine).values.items()}
    decode = {key.removeprefix("decode."): values.pop(key) for key in list(values) if key.startswith("decode.")}
    weights = values.pop("weights")
    if weights == AUTO:
        chinese = about.get("language") == "zh" and CHINESE in published
        weights = CHINESE if chinese else published[0] if published else NONE
    keep = values.pop("keep")
    if raw or keep == AUTO:
        keep = "raw" if raw or weights == NONE else "pooled"
    encoder = values.pop("encoder")
    if weights != NONE and _is_run(Path(weights)):
        # What the run tuned it on, in size and rate too, whatever the options of the encoder that is usual for such items.
        tuned = _encoder_of(next(Path(weights).glob(f"fold*/{store.MANIFEST}")).parent, name)
        if encoder != tuned["name"] and any(f"{prefix}encoder" in layer for layer in mine):
            raise ConfigError(f"these weights are of {tuned['name']}, not of {encoder}", where=weights, hint=f"leave --encoder {name}= out")
        encoder, values = tuned.pop("name"), tuned
    for key in SHARED:
        if values.get(key) and any(f"{prefix}decode.{key}" in layer for layer in mine) and decode[key] != values[key]:
            told = f"{prefix}decode.{key} is {decode[key]}, and the encoder {encoder} reads a {key} of {values[key]}"
            raise ConfigError(told, hint=f"--set {prefix}{key}={decode[key]}")
    return Choice(name, encoder, weights, keep, values, decode)


def decode_settings(choice: Choice) -> dict[str, Any]:
    """How the items are decoded: what was told, and the size of films and slices, or the rate of signals, that the encoder wants."""
    return choice.decode | {key: choice.options[key] for key in SHARED if choice.options.get(key)}


def recipes(choice: Choice, cohort: store.Artefact, model_dir: Path | None, allow_download: bool, dtype) -> Any:
    """The recipe of a choice: one for all folds, or, where its weights are a run, one a fold.

    Raises:
        ConfigError: weights that are not there; a run of another cohort, or without one of the folds.
    """
    from omnifuse.models import registry
    from omnifuse.models.rows import Recipe
    from omnifuse.models.weights import find_weights

    if choice.weights != NONE and _is_run(Path(choice.weights)):
        return {fold: _tuned(choice, cohort, fold, dtype) for fold in cohort.meta["splits"]["folds"]}
    weights = find_weights(registry.find("encoder", choice.encoder), choice.weights, model_dir, allow_download)
    return Recipe({"name": choice.encoder, **choice.options}, weights, choice.keep, dtype)


def _is_run(path: Path) -> bool:
    return path.is_dir() and any(path.glob(f"fold*/{store.MANIFEST}"))


def _tuned(choice: Choice, cohort: store.Artefact, fold: int, dtype) -> Any:
    """The encoder of a unimodal run of the same cohort and fold: no patient of this fold's other parts has tuned it."""
    from omnifuse.models.rows import Recipe
    from omnifuse.models.weights import run_weights

    path = Path(choice.weights) / f"fold{fold}"
    if not (path / store.MANIFEST).is_file():
        raise ConfigError(f"was not tuned on fold {fold} of this cohort", where=choice.weights, hint="omnifuse train --fold all")
    run = store.open(path, "run")
    if run.meta["cohort"] != cohort.fingerprint:
        raise ConfigError("was tuned on another cohort, whose folds are others: test patients could have tuned it", where=path)
    return Recipe(_encoder_of(path, choice.modality), run_weights(run.file("weights.safetensors"), choice.modality), choice.keep, dtype)


def _encoder_of(path: Path, modality: str) -> dict[str, Any]:
    """`name` and options of the encoder that a run has tuned."""
    encoders = store.open(path, "run").meta["built"]["encoders"]
    if modality not in encoders:
        raise ConfigError(f"has no encoder of {modality}", where=path, hint=f"it has {', '.join(encoders)}")
    return {key: value for key, value in encoders[modality].items() if key != "architecture"}
