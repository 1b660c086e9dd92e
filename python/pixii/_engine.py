"""An engine in this process: a model, its KV cache and its batches, without HTTP."""
import array
import atexit
import json
import weakref

import _pixii

from . import _errors, _stream

_STOP_CONDITIONS = ("max_tokens", "min_tokens", "ignore_eos")
_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty", "seed", "logit_bias",
             "allowed_token_ids", "bad_words")
_ROUTING = {"adapter": "lora_name", "cache_salt": "cache_salt", "priority": "priority"}
_open = weakref.WeakSet()


@atexit.register
def _close_all():
    # An engine's thread must not want the interpreter once that is gone.
    for engine in list(_open):
        engine.close()


def _in_order(processors):
    """Several as one: the engine takes one of Python's a request."""
    def chain(tokens, logits):
        for processor in processors:
            processor(tokens, logits)
    chain.__qualname__ = ", ".join(getattr(one, "__qualname__", type(one).__qualname__) for one in processors)
    return chain


class Generation(_stream.Stream):
    """An answer of `Engine.generate`: walk it, or take all of it as `.text`, `.tokens`, `.finish_reason`, `.usage`."""

    def __init__(self, begin, take, drop, stop):
        super().__init__(begin, take, drop)
        self._stop = stop
        self._held = ""  # that may be the beginning of a stop text
        self._text, self._tokens = [], []
        self.finish_reason = None
        self.usage = None

    def _pop(self):
        piece = super()._pop()
        if self._stop:
            self._cut(piece)
        self._text.append(piece.text)
        self._tokens += piece["token_ids"]
        self.finish_reason = piece.get("finish_reason", self.finish_reason)
        self.usage = piece.get("completion_usage", self.usage)
        return piece

    def _cut(self, piece):
        text = self._held + piece.text
        places = [(at, word) for word in self._stop if (at := text.find(word)) >= 0]
        if places:
            at, word = min(places)
            piece["text"], self._held = text[:at], ""
            piece["finish_reason"], piece["stop_reason"] = "stop", word
            if "completion_usage" not in piece:
                piece["prompt_tokens"] = self._prompt_tokens
                self._given -= len(piece["token_ids"])
                self._finished(piece)
            self._ready = []
            self.close()
            return
        keep = 0
        if "finish_reason" not in piece:
            keep = max((size for word in self._stop for size in range(1, len(word)) if text.endswith(word[:size])), default=0)
        piece["text"], self._held = text[:len(text) - keep], text[len(text) - keep:]

    def _drain(self):
        for _ in self:
            pass
        return self

    @property
    def text(self):
        """All of it, once it is there."""
        return "".join(self._drain()._text)

    @property
    def tokens(self):
        """All of them, once they are there."""
        self._drain()
        return list(self._tokens)


class Engine:
    """`Engine("tiny-chat").generate("Hello", max_tokens=8).text`

    `flags`: those of `pixii serve` that an engine has, by name, with underscores: `Engine("tiny-chat", max_batch=8, threads=2)`.
    """

    def __init__(self, model="tiny-chat", **flags):
        flags.setdefault("log_level", "warn")
        arguments = []
        for name, value in flags.items():
            flag = "--" + name.replace("_", "-")
            for one in value if isinstance(value, (list, tuple)) else [value]:
                arguments += [flag if one else f"--no-{flag[2:]}"] if isinstance(one, bool) else [flag, str(one)]
        self._native = _pixii.Engine(model=str(model), arguments=arguments)
        self._native.start()
        _open.add(self)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close()

    def close(self):
        """What runs ends with `ShuttingDown`."""
        self._native.close()
        _open.discard(self)

    def card(self):
        """The model and the sizes of its cache."""
        return self._native.card()

    def encode(self, text, special=True):
        try:
            text.encode()
        except UnicodeEncodeError as lone:
            raise _errors.InvalidArgument(f"text: is no UTF-8: {lone.reason} at {lone.start}") from None
        return self._native.encode(text, special)

    def decode(self, token_ids):
        return self._native.decode(list(token_ids))

    def generate(self, prompt, *, stop=(), logprobs=None, guided=None, stop_token_ids=(), logits_processors=(), **options):
        """A Generation. `prompt`: a text, or tokens. `options`: max_tokens, temperature, top_p, seed and so on, as requests have them.

        `stop`: texts that end it. `logprobs`: of the chosen token and so many best. `guided`: {"json": schema}, {"regex": …}, {"choice": […]},
        {"grammar": …} or {"json_object": True}. `logits_processors`: each is called before every draw as `processor(tokens, logits)`; `tokens` is the
        prompt and the output so far, `logits` a memoryview of floats that it may change in place: `numpy.asarray(logits)` is an
        array on the same memory. Both are there for the time of the call alone.
        """
        request = {"token_ids": self.encode(prompt) if isinstance(prompt, str) else list(prompt), "stop_conditions": {}, "sampling_options": {},
                   "output_options": {}, "routing": {}}
        for name, value in options.items():
            if name in _STOP_CONDITIONS:
                request["stop_conditions"][name] = value
            elif name in _SAMPLING:
                request["sampling_options"][name] = value
            elif name in _ROUTING:
                request["routing"][_ROUTING[name]] = value
            else:
                raise _errors.InvalidArgument(f"{name}: generate has no such option", param=name)
        request["stop_conditions"]["stop_token_ids_hidden"] = list(stop_token_ids)
        request["sampling_options"]["guided_decoding"] = guided
        request["output_options"]["logprobs"] = logprobs
        stop = [stop] if isinstance(stop, str) else list(stop)
        if not all(isinstance(word, str) and word for word in stop):
            raise _errors.InvalidArgument(f"stop: {stop!r} holds what is no text", param="stop")
        processors = list(logits_processors)
        for processor in processors:
            if not callable(processor):
                raise _errors.InvalidArgument(f"logits_processors: a {type(processor).__name__} cannot be called", param="logits_processors")
        native = self._native
        processors = [_in_order(processors)] if len(processors) > 1 else processors
        return Generation(lambda wake: native.generate(request, processors, wake), native.take,
                          lambda key, prompt, numbers: native.drop(key, numbers), stop)

    def chat(self, messages, *, template_kwargs=None, **options):
        """The same for a conversation: a text, or messages as clients of the API write them."""
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        tokens = self._native.encode_chat(json.dumps(messages), json.dumps(template_kwargs or {}))
        return self.generate(tokens, **options)

    def logits(self, prompt):
        """Of the token behind `prompt`: floats with the buffer protocol, `numpy.asarray(engine.logits(prompt))`."""
        kept = array.array("f")

        def keep(tokens, logits):
            kept.frombytes(logits.cast("B"))
        self.generate(prompt, max_tokens=1, temperature=0, ignore_eos=True, logits_processors=[keep])._drain()
        return kept
