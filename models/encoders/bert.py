"""BERT (Devlin et al. 2019): English, Chinese, clinical, or any local folder with a BERT in it, whatever its width.

Bio_ClinicalBERT (Alsentzer et al. 2019) was pretrained on all notes of MIMIC-III: scores on MIMIC's notes by it are of texts it has seen.
"""

from __future__ import annotations

from typing import ClassVar

from transformers import BertConfig, BertModel

from omnifuse.models.parts.pretrained_text import Family, PretrainedText
from omnifuse.models.published import Hub

_FILES = ("config.json", "model.safetensors", "vocab.txt")
_PICKLED = ("config.json", "pytorch_model.bin", "vocab.txt")  # published as a pickle alone; read with weights_only
_MORE = ("tokenizer.json", "tokenizer_config.json")


class Bert(PretrainedText):
    """Word pieces to an embedding, by a network of BERT's architecture."""

    family = Family("bert", BertConfig, BertModel, "bert.")
    published: ClassVar = {
        "bert-base-uncased": Hub("google-bert/bert-base-uncased", _FILES, _MORE),
        "bert-base-chinese": Hub("google-bert/bert-base-chinese", _FILES, _MORE),
        "emilyalsentzer/Bio_ClinicalBERT": Hub("emilyalsentzer/Bio_ClinicalBERT", _PICKLED, _MORE),
        "dmis-lab/biobert-v1.1": Hub("dmis-lab/biobert-v1.1", _PICKLED, _MORE),
    }
