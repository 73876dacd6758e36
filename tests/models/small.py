"""Small encoders, and what the command line hands over where nothing is overridden."""

from omnifuse import config


def small_encoders(modalities, **options) -> dict:
    return {name: {"name": "lstm", "hidden": 12, "dim": 8, **options} for name in modalities}


def method_defaults(name: str) -> dict:
    fields, _ = config.packaged("methods", name)
    return {"name": name, **{key: field.default for key, field in fields.items()}}
