"""How to train, whatever the method: the parameters of configs/train/default.yaml."""

from __future__ import annotations

from dataclasses import dataclass

from omnifuse.models.parts import class_weights
from omnifuse.preprocess.schema import ConfigError

CHOICES = {
    "optimizer": ("adam", "adamw", "sgd"), "schedule": ("linear", "constant"), "amp": ("auto", "off"), "keep": ("best", "last"),
    "class_weight": class_weights.CHOICES,
}  # fmt: skip
# What does not decide the outcome of a training: it may change between a stop and a resume.
INCIDENTAL = ("eval_batch_size", "log_steps", "checkpoint_steps", "checkpoint_seconds", "tensorboard")
LEAST = {"batch_size": 1, "epochs": 1, "patience": 1, "eval_batch_size": 1, "log_steps": 1, "checkpoint_steps": 0}
NOT_BELOW_ZERO = ("lr", "weight_decay", "momentum", "clip", "checkpoint_seconds")


@dataclass(frozen=True)
class TrainOptions:
    """Pin A20 of OmniFuse where it says something: Adam 2e-4, batch 128, 60 epochs, linear decay in their second half, clip 1.0.

    Args:
        batch_size: samples a step and process.
        epochs, patience: of a stage, at most; a method may ask for less. Patience counts epochs without a better monitored value.
        schedule: `linear` falls towards zero over the second half of a stage's epochs.
        clip: largest norm of the gradient; 0 does not clip.
        keep: `best` leaves each stage at its best epoch, where the method does not say otherwise; `last` trains for all its epochs and
            leaves the last (what pin A25 warns of in stage 1).
        class_weight: `balanced` lets the classes of each label count alike in every head's loss (pin A30).
        amp: `auto` computes in bfloat16 where the device is CUDA and has it.
        log_steps: every so many steps the loss terms of one step are logged, beside the means of each epoch.
        checkpoint_steps, checkpoint_seconds: save after so many steps or seconds, beside each epoch; 0: not.
    """

    optimizer: str = "adam"
    lr: float = 2e-4
    weight_decay: float = 0.0
    momentum: float = 0.9
    batch_size: int = 128
    epochs: int = 60
    patience: int = 10
    schedule: str = "linear"
    clip: float = 1.0
    keep: str = "best"
    class_weight: str = "none"
    amp: str = "auto"
    eval_batch_size: int = 512
    log_steps: int = 20
    checkpoint_steps: int = 0
    checkpoint_seconds: float = 300.0
    tensorboard: bool = True

    def __post_init__(self):
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ConfigError(f"train.{name} must be one of {', '.join(known)}")
        for name, least in LEAST.items():
            if getattr(self, name) < least:
                raise ConfigError(f"train.{name} must be at least {least}")
        for name in NOT_BELOW_ZERO:
            if not getattr(self, name) >= 0:
                raise ConfigError(f"train.{name} must not be negative")

    @property
    def outcome(self) -> dict:
        """The options that a result depends on."""
        return {name: value for name, value in vars(self).items() if name not in INCIDENTAL}

    def rate(self, epoch: int, epochs: int) -> float:
        """What the learning rate is multiplied by in `epoch` (from 1) of `epochs`."""
        steady = epochs - epochs // 2
        if self.schedule == "constant" or epoch <= steady:
            return 1.0
        return 1.0 - (epoch - steady) / (epochs - steady + 1)
