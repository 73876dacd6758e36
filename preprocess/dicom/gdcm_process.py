"""gdcm in a process of its own: it decodes what nothing else of a free licence does, and calls abort() on every broken frame.

Measured with python-gdcm 3.2.6: one altered byte of a JPEG ends the interpreter with "terminate called", some bytes with a fault. Here only
the child ends; the frame is Unreadable, and the next one starts a new child. The child has a bound of memory and of time, no core dump
(which would hold a patient's image), and says nothing.

One request at a time, over pipes: a line of JSON (transfer syntax, size and kind of the pixels, bytes that follow) and the bytes of the
pixel data; the same way back. A child is started on first use (half a second), once in each process that decodes.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

import numpy as np

from omnifuse.preprocess.schema import ResourceError, Unreadable

SECONDS = 60
MEMORY_BYTES = 2**32
COMMAND = (sys.executable, "-m", "omnifuse.preprocess.dicom.gdcm_process")


class Decoder:
    """A child and the way to talk to it; may be called from several threads."""

    def __init__(self):
        self.child: subprocess.Popen | None = None
        self.inherited: subprocess.Popen | None = None
        self.lock = threading.Lock()

    def __call__(self, syntax: str, options: dict[str, Any], data: bytes) -> np.ndarray:
        """The stored values.

        Args:
            options: what pydicom's as_pixel_options tells of the dataset.
            data: the value of PixelData.

        Raises:
            Unreadable: the child failed, died, or took too long.
            ResourceError: it cannot start.
        """
        with self.lock:
            try:
                return self._ask({"syntax": syntax, "options": options}, data)
            except (OSError, EOFError, ValueError):
                # Also after an error that it survived: nobody knows what the frame did to its memory.
                self.close()
                raise Unreadable("cannot be decoded") from None

    def _ask(self, about: dict[str, Any], data: bytes) -> np.ndarray:
        if self.child is None or self.child.poll() is not None:
            self.close()
            self.child = _started()
        with _timed(self.child):
            _send(self.child.stdin, about, data)
            about, data = _receive(self.child.stdout)
        return np.frombuffer(bytearray(data), dtype=about["dtype"]).reshape(about["shape"])

    def close(self) -> None:
        """Ends the child, if there is one."""
        child, self.child = self.child, None
        if child is not None:
            child.kill()
            with suppress(OSError):  # what it never read
                child.stdin.close()
            child.stdout.close()
            child.wait()

    def forget(self) -> None:
        """In a forked process: the child and the lock are the parent's. It is kept, so that nobody waits for it."""
        self.inherited, self.child, self.lock = self.child, None, threading.Lock()


decode = Decoder()
atexit.register(decode.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=decode.forget)


def _started() -> subprocess.Popen:
    """A child that said it is ready.

    Raises:
        ResourceError: it cannot run at all, so that no frame is to blame.
    """
    alone = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # their stacks would use up its memory
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    # Not in the folder of the data, from which it would import what looks like a module.
    child = subprocess.Popen(COMMAND, cwd=sys.prefix, env={**os.environ, **alone}, **pipes)
    try:
        with _timed(child):
            _receive(child.stdout)
    except (EOFError, ValueError):
        child.communicate()
        raise ResourceError("the process that decompresses DICOM cannot start", hint="python -c 'import gdcm' should work") from None
    return child


@contextmanager
def _timed(child: subprocess.Popen) -> Iterator[None]:
    """Ends the child when it does not answer: whoever reads from it comes to an end of file."""
    timer = threading.Timer(SECONDS, child.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _send(pipe: BinaryIO, about: dict[str, Any], data: bytes) -> None:
    pipe.write(json.dumps({**about, "bytes": len(data)}).encode() + b"\n")
    pipe.write(data)
    pipe.flush()


def _receive(pipe: BinaryIO) -> tuple[dict[str, Any], bytes]:
    line = pipe.readline()
    if not line:
        raise EOFError
    about = json.loads(line)
    data = pipe.read(about["bytes"])
    if len(data) < about["bytes"]:
        raise EOFError
    return about, data


def main() -> None:
    """The child: answers until it is told no more. Any failure ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # meant for the parent, which ends this one when it ends
    with suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # gdcm prints to where the answers go
    import gdcm  # noqa: F401
    from pydicom.pixels import get_decoder

    _send(answers, {}, b"")
    with suppress(EOFError):
        while True:
            about, data = _receive(sys.stdin.buffer)
            decoder = get_decoder(about["syntax"])
            pixels, _ = decoder.as_array(data, raw=True, decoding_plugin="gdcm", allow_excess_frames=False, **about["options"])
            _send(answers, {"shape": pixels.shape, "dtype": pixels.dtype.str}, pixels.tobytes())


if __name__ == "__main__":
    main()
