"""What every program shares towards its user: options in full, how far a long step is, and lines
that no one need read."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO, cast

from tqdm import tqdm

from trainables.laws import did_you_mean

NUMBER = re.compile(r"-\.?\d")
PATIENCE = 2.0  # seconds: what takes longer shows how far it is


class Parser(argparse.ArgumentParser):
    """Takes options in full only; one that is mistyped is refused, and the nearest is named."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Looks at the options first: a mistyped one would leave its value to another."""
        words = list(sys.argv[1:] if args is None else args)
        options = self._option_string_actions
        for word in words[: words.index("--")] if "--" in words else words:
            name = word.split("=")[0]
            value = len(word) < 2 or " " in word or NUMBER.match(word)  # as argparse has it
            first = options.get(word[:2])
            short = first is not None and first.nargs != 0  # -k50
            if word.startswith("-") and name not in options and not value and not short:
                self.error(f"{name}: no such option{did_you_mean(name, options)}")
        return super().parse_known_args(words, namespace)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            error.message += did_you_mean(
                str(value), [str(choice) for choice in action.choices or ()]
            )
            raise


def bar(count: int, what: str, unit: str = "pictures") -> Any:
    """A bar on the terminal, tqdm's, of what takes longer than `PATIENCE`; none where there is no
    terminal. It is closed by `with`, and leaves nothing behind.

    Args:
        count: how many there are in all.
        what: is done with them, such as `embedded`.
        unit: what they are.
    """
    look: dict[str, Any] = {"dynamic_ncols": True, "leave": False, "file": sys.stderr}
    return tqdm(total=count, desc=what, unit=f" {unit}", delay=PATIENCE, disable=None, **look)


def told(what: str) -> Callable[[int, int], None]:
    """The same for a pass over pictures that says itself how many are done, and how many there
    are."""
    shown: list[Any] = []

    def tell(done: int, count: int) -> None:
        if not shown:
            shown.append(bar(count, what))
        shown[0].update(done - shown[0].n)
        if done == count:
            shown[0].close()

    return tell


def few(values: Sequence[object], most: int = 10) -> str:
    """The first of them, as text on one line."""
    shown = ", ".join(map(str, values[:most]))
    return shown + ", ..." * (len(values) > most)


def in_a_line(error: BaseException) -> str:
    """What an error says, on one line; its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


class BestEffort:
    """Calls what only shows something: that it fails is said once, and stops nothing.

    Attributes:
        failed: it has failed at least once.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self.failed = False

    def __call__(self, show: Callable[..., object], *arguments: Any, **named: Any) -> None:
        try:
            show(*arguments, **named)
        except Exception as error:
            if not self.failed:
                self.failed = True
                cause = " ".join(f"{type(error).__name__}: {error}".split())
                print(f"warning: {self.what} failed ({cause}); all else goes on", file=sys.stderr)


@contextlib.contextmanager
def patient_streams() -> Iterator[None]:
    """Within it nothing that is printed raises, whether or not it can be encoded and written."""
    before = sys.stdout, sys.stderr
    mine = [None if stream is None else cast(TextIO, _Patient(stream)) for stream in before]
    sys.stdout, sys.stderr = mine
    try:
        yield
    finally:
        for stream in filter(None, mine):
            stream.flush()
        sys.stdout, sys.stderr = before


class _Patient:
    """A text stream whose reader may go away; signs that it cannot encode are escaped."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        self._attempt(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._attempt(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _attempt(self, show: Callable[[], object]) -> None:
        try:
            show()
        except (OSError, ValueError) as error:  # a ValueError: the stream was closed
            with contextlib.suppress(OSError, ValueError):  # or Python would flush it at its end
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)
            if self._stream is sys.__stdout__:
                cause = f"standard output is lost ({error})"
                print(f"warning: {cause}; all else goes on", file=sys.stderr)
