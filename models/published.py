"""What encoders have published: where it is looked for, and fetched from where that is allowed.

The caches of torch and huggingface_hub are found by the variables these libraries know, and are only read; nothing here asks the network
but `fetch`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from omnifuse.preprocess.schema import ResourceError

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # of a transformers folder; the first that is there
TOKENISER = ("vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt")


@dataclass(frozen=True)
class TorchFile:
    """One file, named as in torch's cache; an eight-digit ending of its stem is the start of its sha256.

    Args:
        url: its folder on the web.
    """

    name: str
    url: str = "https://download.pytorch.org/models"
    optional = ()

    @property
    def files(self) -> tuple[str, ...]:
        return (self.name,)

    @property
    def prefix(self) -> str | None:
        ending = Path(self.name).stem.rpartition("-")[2]
        return ending if len(ending) == 8 else None

    def places(self, model_dir: Path | None) -> list[Path]:
        """Where it is looked for, in this order; the first is where a download goes."""
        cache = Path(os.environ.get("TORCH_HOME") or _cache() / "torch").expanduser() / "hub" / "checkpoints"
        return [Path(model_dir), cache] if model_dir is not None else [cache]

    def find(self, model_dir: Path | None) -> Path | None:
        """The folder that holds it."""
        return next((folder for folder in self.places(model_dir) if (folder / self.name).is_file()), None)

    def fetch(self, model_dir: Path | None) -> None:
        import torch

        folder = self.places(model_dir)[0]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(f"{self.url}/{self.name}", str(folder / self.name), self.prefix, progress=False)
        except (OSError, RuntimeError) as error:
            raise _failed(self.name, error) from None


@dataclass(frozen=True)
class Hub:
    """A repository of the Hugging Face hub.

    Args:
        repo: owner/name.
        files: what must be there. Without `config.json` the weights say nothing of the network's shape.
        optional: what is taken where it is there: a tokeniser's files.
        revision: the commit that is downloaded; None: the newest.
    """

    repo: str
    files: tuple[str, ...] = (CONFIG, WEIGHTS[0])
    optional: tuple[str, ...] = ()
    revision: str | None = None

    def places(self, model_dir: Path | None) -> list[Path]:
        """Where it is looked for, in this order: by its name in the model folder, in the cache of huggingface_hub."""
        home = os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME") or _cache() / "huggingface") / "hub"
        cached = Path(home).expanduser() / f"models--{self.repo.replace('/', '--')}"
        return [*self._own(model_dir), cached]

    def _own(self, model_dir: Path | None) -> list[Path]:
        return [] if model_dir is None else [Path(model_dir) / self.repo.rpartition("/")[2], Path(model_dir) / self.repo]

    def find(self, model_dir: Path | None) -> Path | None:
        """The folder that holds it."""
        folders = [*self._own(model_dir), *self._snapshots(self.places(None)[0])]
        return next((folder for folder in folders if all((folder / name).is_file() for name in self.files)), None)

    def _snapshots(self, cached: Path) -> list[Path]:
        """The pinned one, that of `main`, and any other: what features are keyed by is the files' digest."""
        main = cached / "refs" / "main"
        told = [self.revision, main.read_text(encoding="utf-8").strip() if main.is_file() else None]
        return [cached / "snapshots" / name for name in told if name] + sorted((cached / "snapshots").glob("*"))

    def fetch(self, model_dir: Path | None) -> None:
        from huggingface_hub import snapshot_download

        where = {"cache_dir": self.places(None)[0].parent} if model_dir is None else {"local_dir": self._own(model_dir)[0]}
        try:
            snapshot_download(self.repo, revision=self.revision, allow_patterns=[*self.files, *self.optional], **where)
        except Exception as error:  # httpx, huggingface_hub and the system each have their own
            raise _failed(self.repo, error) from None


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()


def _failed(name: str, error: Exception) -> ResourceError:
    return ResourceError(f"{name} cannot be downloaded ({type(error).__name__})", hint="copy it to --model-dir")
