"""Ctrl-C and SIGTERM, held back until what is under way is whole."""

import signal
import threading


class Interrupts:
    """Context manager: the first Ctrl-C (or SIGTERM) is noted and raised by `check`; a second Ctrl-C is raised at once.

    Python raises KeyboardInterrupt wherever it is, often between an update of the weights and the bookkeeping that
    belongs to it. In other threads than the main one, where Python delivers no signals, nothing is held back.
    """

    def __init__(self):
        self._noted, self._before = None, {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def noted(self):
        """Whether somebody asked for a stop."""
        return self._noted is not None

    def check(self):
        """Raise KeyboardInterrupt or SystemExit if somebody asked for a stop."""
        if self._noted == signal.SIGINT:
            raise KeyboardInterrupt
        if self._noted is not None:
            raise SystemExit(128 + self._noted)

    def _note(self, number, frame):
        del frame
        if self._noted == number == signal.SIGINT:
            raise KeyboardInterrupt
        self._noted = number
