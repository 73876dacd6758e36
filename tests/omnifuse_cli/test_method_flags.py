"""The flags that methods declare in their configs: what they set, who owns them, and what may be given with them."""

import itertools

import pytest
from command_line import run

from omnifuse import choices, config
from omnifuse.preprocess.schema import ConfigError


@pytest.mark.parametrize(
    "given, expected",
    [
        ({"--no-tla": True}, {"method.tla": False}),
        ({"--imp": "none"}, {"method.imp": "none"}),  # a text, not nothing
        ({"--imp": "fw/bw", "--no-dwfuse": True}, {"method.imp": "fw/bw", "method.dwfuse": False}),
    ],
)
def test_a_flag_sets_its_parameters_and_is_their_origin(given, expected):
    fields = {f"method.{name}": field for name, field in config.packaged("methods", "omnifuse")[0].items()}
    resolved = config.resolve(fields, [choices.flag_layer("omnifuse", given)])
    assert {name: resolved.values[name] for name in expected} == expected
    assert {name for name, origin in resolved.origins.items() if origin != "default"} == set(expected)
    assert {resolved.origins[name] for name in expected} == set(given)


def test_a_flag_of_another_method_names_its_owner():
    with pytest.raises(ConfigError, match="--imp belongs to --method omnifuse, not to concat"):
        choices.flag_layer("concat", {"--imp": "fw"})


def test_a_wrong_value_is_answered_with_those_there_are(capsys):
    code, _, err = run(capsys, "train", "--task", "mortality", "--method", "omnifuse", "--imp", "back")
    assert code == 2 and "--imp" in err and all(f"'{value}'" in err for value in ("none", "fw", "bw", "fw/bw"))


def test_a_flag_is_a_switch_of_all_its_methods_or_takes_a_value_of_all():
    for flag, owners in choices.method_flags().items():
        taking = {any(value is None for value in parameters.values()) for parameters in owners.values()}
        assert len(taking) == 1, flag
        assert (choices.values_of_flag(owners) is not None) == taking.pop()


def test_choices_hold_their_default():
    for folder in ("methods", "encoders", "train"):
        for name in config.packaged_names(folder):
            for key, field in config.packaged(folder, name)[0].items():
                assert not field.choices or field.default in field.choices, (name, key)


def test_every_row_of_table_4_is_listed(capsys):
    code, out, _ = run(capsys, "list", "methods")
    line = next(row for row in out.splitlines() if row.startswith("omnifuse"))
    rows = ("row (f) as it is", "(b) --no-tla --imp none", "(c) --imp none", "(d) --imp fw", "(e) --no-tla", "(a) is --method concat")
    assert code == 0 and all(row in line for row in rows)
    fields = {f"method.{name}": field for name, field in config.packaged("methods", "omnifuse")[0].items()}
    asked = [{}, {"--no-tla": True, "--imp": "none"}, {"--imp": "none"}, {"--imp": "fw"}, {"--no-tla": True}]
    found = [config.resolve(fields, [choices.flag_layer("omnifuse", flags)]).values for flags in asked]
    switches = [tuple(values[f"method.{name}"] for name in ("dwfuse", "tla", "imp")) for values in found]
    assert switches == [
        (True, True, "fw/bw"), (True, False, "none"), (True, True, "none"), (True, True, "fw"), (True, False, "fw/bw"),
    ]  # fmt: skip
    assert all(first != second for first, second in itertools.combinations(switches, 2))
