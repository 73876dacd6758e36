"""omnifuse doctor: checks with a fix for each that fails."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import click

from omnifuse import console, options, workspace
from omnifuse.preprocess import store
from omnifuse.preprocess.schema import OmnifuseError

PACKAGES = ("torch", "torchvision", "transformers", "polars", "numpy", "scipy", "sklearn", "safetensors", "tensorboard", "matplotlib")
FLOORS = {"torch": (2, 11), "transformers": (5, 3)}


@click.command(name="doctor")
@options.common
def command(as_json: bool, dry_run: bool, seed: int | None, sets: tuple[str, ...]) -> None:
    """Check the installation, the machine and the workspace; each failed check names its fix.

    \b
    Example:
      omnifuse doctor
    """
    rows = []
    for name, check in CHECKS.items():
        try:
            rows.append({"check": name, "ok": True, "found": check(), "fix": ""})
        except Failed as failure:
            rows.append({"check": name, "ok": False, "found": failure.found, "fix": failure.fix})
    if not as_json:
        for row in rows:
            console.say(f"{'ok  ' if row['ok'] else 'FAIL'}  {row['check']:<22}{row['found']}")
            if row["fix"]:
                console.say(f"      fix: {row['fix']}")
    console.finish(as_json, {"checks": rows})
    if not all(row["ok"] for row in rows):
        raise click.exceptions.Exit(4)


class Failed(Exception):
    def __init__(self, found: str, fix: str):
        self.found, self.fix = found, fix


def _python() -> str:
    """-O drops the assertions that guard numbers."""
    if sys.flags.optimize:
        raise Failed(f"{platform.python_version()} with -O", "run Python without -O and PYTHONOPTIMIZE")
    return platform.python_version()


def _package(name: str) -> Callable[[], str]:
    def check() -> str:
        try:
            importlib.import_module(name)
        except Exception as error:
            raise Failed(f"cannot be imported ({type(error).__name__})", "pip install -c constraints.txt omnifuse") from error
        version = metadata.version({"sklearn": "scikit-learn"}.get(name, name))
        floor = FLOORS.get(name)
        if floor and tuple(int(part) for part in version.split("+")[0].split(".")[:2]) < floor:
            raise Failed(version, f"versions before {'.'.join(map(str, floor))} have known security holes: pip install -U {name}")
        return version

    return check


def _pair() -> str:
    """torchvision is built against one torch; a wrong pair fails only when an operator is called."""
    try:
        import torch
        from torchvision.ops import nms

        nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except Exception as error:
        raise Failed("do not fit together", "pip install torch==2.14.1 torchvision==0.29.1") from error
    return "fit together"


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        return f"cuda: {torch.cuda.get_device_name(0)}"
    if shutil.which("nvidia-smi"):
        raise Failed("a GPU is here, but torch does not see it", "install the torch build of your driver's CUDA version")
    return f"cpu, {os.cpu_count()} cores (no GPU)"


def _disk() -> str:
    free = store.free_bytes(Path.cwd())
    if free < 5e9:
        raise Failed(f"{free / 1e9:.1f} GB free here", "free space: MIMIC-IV's cohort and features need about 5 GB")
    return f"{free / 1e9:.0f} GB free here"


def _locks() -> str:
    """fcntl locks are what keeps two runs out of one folder; some network file systems ignore them."""
    import tempfile

    with tempfile.TemporaryDirectory(dir=Path.cwd() if os.access(Path.cwd(), os.W_OK) else None) as folder:
        try:
            with store.lock(Path(folder) / "probe"):
                pass
        except OSError as error:
            raise Failed("locks are refused here", "use a local disk, or mount the share with locking") from error
    return "work here"


def _workspace() -> str:
    try:
        space = workspace.find()
    except OmnifuseError as error:
        raise Failed(str(error), "mend omnifuse.yaml") from error
    if space.root is None:
        return "none here (omnifuse init DIR makes one)"
    if space.ehr is not None and not space.ehr.exists():
        raise Failed(f"{space.root}: ehr points to a folder that is not there", "set ehr: in omnifuse.yaml, or omnifuse demo --raw raw")
    return str(space.root)


CHECKS: dict[str, Callable[[], str]] = {"python": _python}
CHECKS |= {name: _package(name) for name in PACKAGES}
CHECKS |= {"torch and torchvision": _pair, "device": _device, "disk": _disk, "locks": _locks, "workspace": _workspace}
