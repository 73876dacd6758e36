"""Texts to the word pieces of a pretrained network, by the vocabulary that lies beside its weights. Reads local files, never the network.

`tokenizer.json` is read as it stands; else `vocab.txt` makes a BERT tokeniser, and `vocab.json` with `merges.txt` a RoBERTa one. Texts
are brought to NFKC first: a BERT's own normaliser leaves full-width Latin letters and signs, which Chinese reports are full of, apart from
those in its vocabulary. Nothing is cut, padded or framed, and a note that holds `[SEP]` or `</s>` holds just these characters.

Differs from transformers where `vocab.txt` lies alone (Bio_ClinicalBERT): BertTokenizer would lower-case its texts, which a cased network
has never seen. Here the vocabulary tells: upper case in it means that case is kept.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from omnifuse.preprocess.schema import ArtefactError, ConfigError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from omnifuse.models.weights import Weights


class WordPieces:
    """Texts to arrays of ids."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True

    def __call__(self, texts: Sequence[str]) -> list[np.ndarray]:
        """[T] int64 of each text, without special tokens, however long."""
        normal = [unicodedata.normalize("NFKC", text) for text in texts]
        return [np.array(found.ids, np.int64) for found in self.tokenizer.encode_batch_fast(normal, add_special_tokens=False)]

    def number(self, piece: str) -> int | None:
        """The id of one piece of the vocabulary."""
        return self.tokenizer.token_to_id(piece)


def word_pieces(weights: Weights | None, encoder: str) -> WordPieces:
    """The tokeniser beside these weights.

    Raises:
        ConfigError: no weights, or none with a vocabulary.
        ArtefactError: a file of the vocabulary is broken.
    """
    if weights is None:
        raise ConfigError(
            f"{encoder} reads the word pieces of its weights, and there are none", hint="--weights, or the encoder small_bert"
        )
    for names, read in _READERS.items():
        if all(map(weights.has, names)):
            try:
                return WordPieces(read(*map(weights.file, names)))
            except Exception:  # tokenizers raises bare Exception, with the text of the line it stumbled over
                raise ArtefactError("is no vocabulary of word pieces", where=weights.file(names[0]), hint="get the file again") from None
    wanted = ", ".join(" with ".join(names) for names in _READERS)
    raise ConfigError(f"holds no vocabulary for {encoder}", where=weights.folder, hint=f"one of {wanted}")


def _read_json(path: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(path))


def _read_bert(path: Path) -> Tokenizer:
    from transformers import BertTokenizer

    pieces = path.read_text(encoding="utf-8").split("\n")
    vocabulary = {piece.rstrip("\r"): number for number, piece in enumerate(pieces) if piece.rstrip("\r")}
    return BertTokenizer(vocab=vocabulary, do_lower_case=_lower_case(path, vocabulary)).backend_tokenizer


def _lower_case(path: Path, vocabulary: dict[str, int]) -> bool:
    """What tokenizer_config.json says; else whether no piece of the vocabulary has an upper-case letter."""
    beside = path.with_name("tokenizer_config.json")
    told = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    if isinstance(told.get("do_lower_case"), bool):
        return told["do_lower_case"]
    return not any(re.search("[A-Z]", piece) for piece in vocabulary if not piece.startswith("["))


def _read_roberta(vocabulary: Path, merges: Path) -> Tokenizer:
    from transformers import RobertaTokenizer

    return RobertaTokenizer(vocab=str(vocabulary), merges=str(merges)).backend_tokenizer


VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json")
_READERS = {("tokenizer.json",): _read_json, ("vocab.txt",): _read_bert, ("vocab.json", "merges.txt"): _read_roberta}
