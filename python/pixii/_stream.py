"""Answers in pieces: walked with or without asyncio, each piece once."""
import asyncio
import contextlib
import os

from . import _errors

_WAIT_SECONDS = 0.1  # between two looks at signals, of who waits without asyncio


class Piece(dict):
    """What came at once: token_ids, perhaps text, log_probs, top_logprobs, and at the end finish_reason and completion_usage."""

    def data(self):
        return self

    @property
    def text(self):
        return self.get("text", "")

    @property
    def token_ids(self):
        return self["token_ids"]


class Stream:
    """One answer. Left early, or closed, it ends where it is computed, too."""

    def __init__(self, begin, take, drop):
        # begin(wake) -> (key, prompt tokens, ...); take(key, seconds, prompt tokens); drop(*all that begin gave).
        self._take, self._drop = take, drop
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            self._begun = begin(self._wake)
        except BaseException:
            os.close(self._wake)
            raise
        self._key, self._prompt_tokens = self._begun[0], self._begun[1]
        self._ready = []
        self._given, self._cached = 0, 0
        self._open = True

    def _read(self, seconds):
        for answer in self._take(self._key, seconds, self._prompt_tokens):
            self._ready.append(self._finished(Piece(answer)))

    def _finished(self, piece):
        self._given += len(piece["token_ids"])
        self._cached += piece.pop("cached_tokens", 0)
        if "finish_reason" in piece and "error" not in piece:
            prompt = piece.pop("prompt_tokens")
            piece["completion_usage"] = {"prompt_tokens": prompt, "completion_tokens": self._given, "total_tokens": prompt + self._given,
                                         "prompt_tokens_details": {"cached_tokens": self._cached}}
        return piece

    def _pop(self):
        piece = self._ready.pop(0)
        if "finish_reason" in piece:
            self.close()
        if "error" in piece:
            raise _errors.from_native(*piece["error"])
        return piece

    def close(self):
        """Nobody wants more."""
        if self._open:
            self._open = False
            self._drop(*self._begun)
            os.close(self._wake)

    cancel = close

    def __del__(self):
        if getattr(self, "_open", False):
            with contextlib.suppress(Exception):
                self.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close()

    def __iter__(self):
        return self

    def __next__(self):
        while not self._ready:
            if not self._open:
                raise StopIteration
            self._read(_WAIT_SECONDS)
        return self._pop()

    def __aiter__(self):
        return self

    async def __anext__(self):
        while not self._ready:
            if not self._open:
                raise StopAsyncIteration
            self._read(0)
            if not self._ready:
                await self._woken()
        return self._pop()

    async def aclose(self):
        self.close()

    async def _woken(self):
        loop = asyncio.get_running_loop()
        woken = loop.create_future()

        def on_wake():
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake)
            if not woken.done():
                woken.set_result(None)

        loop.add_reader(self._wake, on_wake)
        try:
            await woken
        finally:
            if self._open:
                loop.remove_reader(self._wake)
