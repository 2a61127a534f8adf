"""How agents reach one another: a post office between SimPy processes.

The ``ideal`` channel delivers at once and loses nothing, which is what lets a clearing run as one compiled kernel over all people.
What is sent is counted by sender and kind either way; single messages are kept only by a channel that can delay or lose them.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import simpy

__all__ = ["Ideal"]


class Ideal:
    """Delivers at once.

    A receiver opens a box once and yields its ``get()``; a sender posts. Receivers that need no event of their own (they look at the clock
    anyway) open none: posting to them is counted and goes nowhere.
    """

    def __init__(self, env: simpy.Environment) -> None:
        self.env = env
        self.sent: Counter[str] = Counter()
        self._boxes: dict[str, simpy.Store] = {}

    def box(self, receiver: str) -> simpy.Store:
        """Return the letter box of an agent, opened at the first call."""
        return self._boxes.setdefault(receiver, simpy.Store(self.env))

    def post(self, receiver: str, kind: str, content: Any = None) -> None:
        """Send one message; the content never leaves this process."""
        self.sent[kind] += 1
        box = self._boxes.get(receiver)
        if box is not None:
            box.put((kind, content))
