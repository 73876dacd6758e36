"""Signals: the first one asks the training to save a checkpoint and stop, the second one ends the process at once."""

from __future__ import annotations

import os
import signal
import threading

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Interrupted(SystemExit):
    """Stopped by a signal after a checkpoint was saved; the exit code is 128 and the signal's number (143, 130, 129)."""

    def __init__(self, number: int):
        self.signal = signal.Signals(number)
        super().__init__(128 + number)


class Interruption:
    """While entered, remembers a signal in `received` instead of dying of it. Elsewhere than in the main thread it does nothing."""

    def __init__(self):
        self.received: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._remember) for number in SIGNALS}
        return self

    def _remember(self, number: int, _: object) -> None:
        if self.received is not None:
            os._exit(128 + number)
        self.received = number

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
