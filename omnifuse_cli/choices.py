"""Which method, encoders and training settings a command runs with: one flat configuration of dotted names.

    train.*               configs/train/default.yaml
    method.*              configs/methods/METHOD.yaml
    encoder.MODALITY.*    configs/encoders/ENCODER.yaml
    fusion.KEY            KEY of the method's own run, and not of the stage-1 runs that it starts from
    stage1.KEY            KEY of those alone; method.* are then the parameters of `unimodal`

Without such a scope `train.*` and `encoder.*` are meant for both: with --set train.lr=1e-3 a method starts from encoders of its own,
with --set fusion.train.lr=1e-3 from those that all methods share. Later layers win; within one, a scoped key wins over the bare one.

A method's own flags (`flags` in its YAML) become command-line options of `omnifuse train`; the command knows no method by name.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from omnifuse import config
from omnifuse.preprocess.schema import MODALITIES, ConfigError, nearest
from omnifuse.workspace import Workspace

FOR_SERIES, FOR_VECTORS, FOR_FEATURES = "lstm", "mlp", "embedding"
FUSION, STAGE1 = "fusion.", "stage1."
SECTIONS = ("train", "method", "encoder", "fusion", "stage1")  # of omnifuse.yaml


def encoders_of(pairs: tuple[str, ...]) -> dict[str, str]:
    """`--encoder ehr=lstm`, by modality."""
    chosen = {}
    for pair in pairs:
        modality, equals, name = pair.partition("=")
        if not equals:
            raise ConfigError(f"--encoder {pair!r} has no '='", hint="for example --encoder ehr=lstm")
        chosen[modality] = name
    return chosen


def default_encoder(about: dict) -> str:
    """What reads a modality as the features have it: an encoder that learns, or a projection of what a frozen one gave."""
    if about["reads"] == "series":
        return FOR_VECTORS if about["kind"] == "vector" else FOR_SERIES
    return FOR_FEATURES if about["reads"] == FOR_FEATURES else about["encoder"]["name"]


def check_encoder(modality: str, name: str, about: dict) -> None:
    """Raises ConfigError where the encoder cannot read what the features hold of the modality."""
    from omnifuse.models import registry

    reads = registry.find("encoder", name).reads
    if reads != about["reads"]:
        held = f"features of {about['encoder']['name']}" if about["reads"] == FOR_FEATURES else f"{about['reads']}s"
        hint = "omnifuse extract --raw, then train --tune-encoder" if about["reads"] == FOR_FEATURES else "omnifuse list encoders"
        raise ConfigError(f"the encoder {name} reads {reads}s, and of {modality} there are {held}", hint=hint)


def modalities_of(text: str | None, known) -> list[str]:
    """`--modalities ehr,cxr`, each of them in the cohort, in the cohort's order; all of them by default."""
    if text is None:
        return list(known)
    asked = [name.strip() for name in text.split(",") if name.strip()]
    for name in asked:
        if name not in known:
            what = "there is no modality" if name in MODALITIES else "unknown modality"
            raise ConfigError(f"{what} {name!r}", hint=nearest(name, known))
    if not asked:
        raise ConfigError("--modalities names none", hint=f"known: {', '.join(known)}")
    return [name for name in known if name in asked]


def method_flags() -> dict[str, dict[str, dict[str, object]]]:
    """{flag: {method: {parameter: value}}} of every packaged method; None is the value that is given with the flag."""
    flags: dict[str, dict[str, dict[str, object]]] = {}
    for method in config.packaged_names("methods"):
        _, meta = config.packaged("methods", method)
        for flag, parameters in (meta.get("flags") or {}).items():
            flags.setdefault(flag, {})[method] = parameters
    return flags


def values_of_flag(owners: dict[str, dict[str, object]]) -> list[str] | None:
    """What may be given with a flag: the choices of the parameters it sets, none where any text may; None where it is a mere switch."""
    taking = [(method, name) for method, parameters in owners.items() for name, value in parameters.items() if value is None]
    if not taking:
        return None
    choices = [config.packaged("methods", method)[0][name].choices for method, name in taking]
    return list(dict.fromkeys(choice for some in choices for choice in some))


def flag_layer(method: str, given: dict[str, object]) -> dict[str, config.Leaf]:
    """The parameters that the flags given on the command line set; `given` tells the value of each, of a switch true.

    A flag of another method is refused with its owner's name.
    """
    layer = {}
    known = method_flags()
    for flag, told in given.items():
        owners = known.get(flag, {})
        if method not in owners:
            belongs = f"belongs to --method {' or '.join(sorted(owners))}" if owners else "belongs to no method"
            raise ConfigError(f"{flag} {belongs}, not to {method}")
        for name, value in owners[method].items():
            value = told if value is None else value
            layer[f"method.{name}"] = config.Leaf(config.show(value) if not isinstance(value, list) else value, flag)
    return layer


def fields_of(method: str, encoders: dict[str, str]) -> dict[str, config.Field]:
    """Every parameter of a training run, by dotted name."""
    fields = {f"train.{name}": field for name, field in config.packaged("train", "default")[0].items()}
    fields |= {f"method.{name}": field for name, field in config.packaged("methods", method)[0].items()}
    for modality, encoder in encoders.items():
        fields |= {f"encoder.{modality}.{name}": field for name, field in config.packaged("encoders", encoder)[0].items()}
    return fields


def in_scope(layer: dict[str, config.Leaf], stage_one: bool) -> dict[str, config.Leaf]:
    """The layer as a stage-1 run reads it, or the method's own run: that scope's keys without their prefix, and none of the other's."""
    mine, other = (STAGE1, FUSION) if stage_one else (FUSION, STAGE1)
    bare = {name: leaf for name, leaf in layer.items() if not name.startswith((mine, other))}
    if stage_one:  # what is said of method.* is meant for the method that starts from these runs
        bare = {name: leaf for name, leaf in bare.items() if not name.startswith("method.")}
    return bare | {name.removeprefix(mine): leaf for name, leaf in layer.items() if name.startswith(mine)}


def resolve(
    space: Workspace,
    method: str,
    encoders: dict[str, str],
    config_file: Path | None = None,
    sets: tuple[str, ...] = (),
    flags: dict[str, config.Leaf] | None = None,
    seed: int | None = None,
    stage_one: bool = False,
    tuned: dict[str, config.Leaf] | None = None,
    unused: Iterable[str] = (),
) -> config.Resolved:
    """Every parameter of a training run, of a stage-1 run or of the method's own.

    Args:
        unused: modalities that this run does not see; what is said of their encoders is meant for other runs.
        tuned: what `omnifuse tune` found; it wins over the workspace, and gives way to everything that is told here.

    Raises:
        ConfigError: with all that is wrong in any layer.
    """
    layers = [{name: leaf for section in SECTIONS for name, leaf in space.layers.get(section, {}).items()}, tuned or {}]
    layers += [config.read_file(config_file)] if config_file else []
    layers += [config.overrides(sets), flags or {}]
    aside = tuple(f"encoder.{modality}." for modality in unused)
    layers = [{name: leaf for name, leaf in in_scope(layer, stage_one).items() if not name.startswith(aside)} for layer in layers]
    resolved = config.resolve(fields_of(method, encoders), layers)
    told = seed if seed is not None else space.settings.values["seed"]
    resolved.values["seed"] = told
    resolved.origins["seed"] = "--seed" if seed is not None else space.settings.origins["seed"]
    return resolved
