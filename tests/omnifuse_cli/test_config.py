"""Configuration: what wins, what is refused, and that all that is wrong is said at once."""

import pytest

from omnifuse import config
from omnifuse.preprocess.schema import ConfigError

FIELDS = {
    "train.lr": config.Field(2e-4, low=0, high=1),
    "train.epochs": config.Field(60, low=1),
    "train.amp": config.Field(False),
    "train.name": config.Field("adam", choices=("adam", "sgd")),
    "train.note": config.Field("text"),
    "train.steps": config.Field([1, 2]),
    "train.weights": config.Field(None),
}


@pytest.mark.parametrize(
    "text, name, value",
    [
        ("lr: 1e-4", "train.lr", 1e-4),  # PyYAML alone reads a text here
        ("lr: 1", "train.lr", 1.0),
        ("epochs: 1e1", "train.epochs", 10),
        ("amp: true", "train.amp", True),
        ("note: NO", "train.note", "NO"),  # PyYAML alone reads False here
        ("note: 1e3", "train.note", "1e3"),
        ("note: null", "train.note", "null"),
        ("steps: [3, 4]", "train.steps", [3, 4]),
        ("steps: 5", "train.steps", [5]),
        ("weights: null", "train.weights", None),
        ("weights: 1e-3", "train.weights", 1e-3),
        ("weights: '1'", "train.weights", "1"),
    ],
)
def test_texts_become_the_type_of_the_default(text, name, value):
    leaves = config.flatten(config.read_yaml(f"train:\n  {text}\n", "x.yaml"))
    resolved = config.resolve(FIELDS, [leaves])
    assert (resolved.values[name], type(resolved.values[name])) == (value, type(value))
    assert resolved.origins[name] == "x.yaml:2"


@pytest.mark.parametrize(
    "text, says",
    [
        ("train:\n  lrr: 1", "x.yaml:2: unknown key train.lrr (did you mean train.lr?)"),
        ("train:\n  lr: abc", "x.yaml:2: train.lr must be a number"),
        ("train:\n  lr: nan", "train.lr must be finite"),
        ("train:\n  lr: 2", "train.lr must be between 0 and 1"),
        ("train:\n  epochs: 0", "train.epochs must be at least 1"),
        ("train:\n  epochs: 1.5", "train.epochs must be a whole number"),
        ("train:\n  amp: yes", "train.amp must be true or false"),
        ("train:\n  name: adamw", "train.name must be one of adam, sgd"),
        ("train:\n  lr: [1, 2]", "train.lr takes one value"),
        ("train:\n  lr: 1\n  lr: 2", "x.yaml:3: lr stands twice"),
        ("train: &a\n  lr: 1", "anchors and aliases are not allowed"),
        ("a: &a 1\nb: *a", "anchors and aliases are not allowed"),
        ("train: !!python/object/apply:os.system ['true']", "tags are not allowed"),
        ("train:\n\tlr: 1", "x.yaml:2: is no valid YAML"),
        ("- 1", "must be a mapping"),
        ("? [a]\n: 1", "a name must be plain text"),
        ("a: [[1]]", "a list may hold plain values only"),
        ("a: " + "{b: " * 40 + "1" + "}" * 40, "nested too deeply"),
        ("a: " + "[" * 5000, "nested too deeply"),
        ("# " + "x" * 1_000_001, "larger than a configuration may be"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text, says):
    with pytest.raises(ConfigError) as caught:
        config.resolve(FIELDS, [config.flatten(config.read_yaml(text, "x.yaml"))])
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_everything_wrong_is_said_at_once():
    file = config.flatten(config.read_yaml("train:\n  lr: abc\n  epoch: 3\n", "x.yaml"))
    with pytest.raises(ConfigError) as caught:
        config.resolve(FIELDS, [file, config.overrides(("train.amp=maybe",))])
    assert all(text in str(caught.value) for text in ("x.yaml:2", "x.yaml:3", "did you mean train.epochs", "--set train.amp"))


def test_later_layers_win():
    file = config.flatten(config.read_yaml("train: {lr: 0.1, epochs: 2}", "x.yaml"))
    resolved = config.resolve(FIELDS, [file, config.overrides(("train.lr=0.2", "train.steps=[7, 8]"))])
    assert (resolved.values["train.lr"], resolved.origins["train.lr"]) == (0.2, "--set train.lr")
    assert (resolved.values["train.epochs"], resolved.origins["train.epochs"]) == (2, "x.yaml:1")
    assert resolved.values["train.steps"] == [7, 8]
    assert resolved.origins["train.amp"] == "default"
    assert resolved.section("train")["lr"] == 0.2


def test_set_without_a_value():
    with pytest.raises(ConfigError, match="has no '='"):
        config.overrides(("train.lr",))


@pytest.mark.parametrize("folder", ["methods", "encoders", "train"])
def test_every_packaged_default_obeys_its_own_ranges(folder):
    for name in config.packaged_names(folder):
        fields, _ = config.packaged(folder, name)
        for key, field in fields.items():
            if field.default is not None:
                assert config.convert(config.Leaf(_text(field.default), name), field) == field.default, key


def _text(value):
    return [config.show(item) for item in value] if isinstance(value, list) else config.show(value)
