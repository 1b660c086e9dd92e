"""A client of the OpenAI API over HTTP, without packages of others; the same calls with and without asyncio.

Nothing is tried again by itself (`retries=0`): a request that failed may have been answered. With `retries` only what the server
says may succeed later is (429, 503, 529), after what Retry-After says, and never once a token has come.
"""
import asyncio
import http.client
import json
import ssl
import time
import urllib.parse

from . import _errors

_RETRYABLE = {429, 503, 529}
_ERROR_BYTES_MAX = 1 << 20
_RETRY_SECONDS_MAX = 60.0


class Answer(dict):
    """A JSON object whose members are attributes, too."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def text(self):
        """Of the first choice of an answer, or of one event of a stream."""
        choice = (self.get("choices") or [{}])[0]
        if "message" in choice or "delta" in choice:
            return (choice.get("message") or choice.get("delta") or {}).get("content") or ""
        return choice.get("text") or ""


def _loads(text):
    return json.loads(text, object_hook=Answer)


def _error_of(status, data):
    try:
        error = json.loads(data)
        error = error.get("error", error)
        detail, code, param = error.get("message") or "", error.get("code"), error.get("param") or ""
    except (ValueError, AttributeError):
        detail, code, param = data[:500].decode("utf-8", "replace"), None, ""
    cls = _errors.BY_STATUS.get(status, _errors.PixiiError)
    words = "".join(word.capitalize() for word in str(code).split("_")) if isinstance(code, str) else None
    if words in _errors.BY_CODE:
        cls = _errors.BY_CODE[words]
    return cls(detail, code=cls.code, param=param, status=status)


class _Base:
    def __init__(self, url="http://127.0.0.1:8000", *, api_key=None, timeout=600.0, retries=0, headers=None, cafile=None):
        parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise _errors.InvalidArgument(f"url: {url!r} is not http://HOST:PORT", param="url")
        self._tls = ssl.create_default_context(cafile=cafile) if parts.scheme == "https" else None
        self._host, self._port = parts.hostname, parts.port or (443 if self._tls else 80)
        self._prefix = parts.path.rstrip("/").removesuffix("/v1")
        self.timeout, self.retries = timeout, retries
        self._headers = {"Host": parts.netloc.rpartition("@")[2], "Accept": "application/json, text/event-stream", **(headers or {})}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"

    @staticmethod
    def _chat(messages, options):
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        return {"messages": messages, **options}


class Client(_Base):
    """`Client("http://127.0.0.1:8000").chat("Hello", model="tiny-chat").text`"""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._idle = []  # connections that can be used again

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close()

    def close(self):
        for connection in self._idle:
            connection.close()
        self._idle = []

    def chat(self, messages, **options):
        """POST /v1/chat/completions. With stream=True an iterator of events."""
        return self._ask("/v1/chat/completions", self._chat(messages, options))

    def complete(self, prompt, **options):
        """POST /v1/completions; `prompt` is a text or a list of token ids."""
        return self._ask("/v1/completions", {"prompt": prompt, **options})

    def embed(self, input, **options):
        return self._ask("/v1/embeddings", {"input": input, **options})

    def models(self):
        return [model["id"] for model in self.request("GET", "/v1/models")["data"]]

    def request(self, method, path, body=None):
        """Any route: the JSON object of its answer."""
        response, connection = self._send(method, path, body)
        data = response.read()
        self._done(response, connection)
        return _loads(data) if data else Answer()

    def _ask(self, path, body):
        return self._stream(path, body) if body.get("stream") else self.request("POST", path, body)

    def _send(self, method, path, body):
        data = None if body is None else json.dumps(body).encode()
        headers = dict(self._headers)
        if data is not None:
            headers["Content-Type"] = "application/json"
        attempt = 0
        while True:
            used = bool(self._idle)
            connection = self._idle.pop() if used else self._connect()
            try:
                connection.request(method, self._prefix + path, body=data, headers=headers)
                response = connection.getresponse()
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError) as error:
                connection.close()
                if used:
                    continue  # it was closed while nobody used it: nothing was answered
                raise _errors.Disconnected(f"{method} {path}: {error}") from error
            except TimeoutError as error:
                connection.close()
                raise _errors.DeadlineExceeded(f"{method} {path}: no answer within {self.timeout} s") from error
            except OSError as error:
                connection.close()
                raise _errors.Disconnected(f"{self._host}:{self._port}: {error}") from error
            if response.status < 400:
                return response, connection
            fault = response.read(_ERROR_BYTES_MAX)
            wait = response.getheader("Retry-After")
            self._done(response, connection)
            if response.status not in _RETRYABLE or attempt >= self.retries:
                raise _error_of(response.status, fault)
            attempt += 1
            time.sleep(_pause(wait, attempt))

    def _connect(self):
        if self._tls:
            return http.client.HTTPSConnection(self._host, self._port, timeout=self.timeout, context=self._tls)
        return http.client.HTTPConnection(self._host, self._port, timeout=self.timeout)

    def _done(self, response, connection):
        if response.isclosed() and not response.will_close and len(self._idle) < 8:
            self._idle.append(connection)
        else:
            connection.close()

    def _stream(self, path, body):
        response, connection = self._send("POST", path, body)
        return self._events(response, connection, path)

    def _events(self, response, connection, path):
        whole = False
        reader = _EventReader()
        try:
            while not whole:
                try:
                    line = response.readline()
                except TimeoutError as error:
                    raise _errors.DeadlineExceeded(f"POST {path}: nothing came for {self.timeout} s") from error
                except (OSError, http.client.HTTPException) as error:
                    raise _errors.Disconnected(f"POST {path}: {error}") from error
                if not line:
                    raise _errors.Disconnected(f"POST {path}: the stream ended without [DONE]")
                event = reader.push(line)
                if event is _EventReader.DONE:
                    whole = True
                elif event is not None:
                    yield event
        finally:
            if whole:
                response.read()
                self._done(response, connection)
            else:
                connection.close()  # the server sees it and stops


def _pause(header, attempt):
    try:
        return min(max(float(header), 0.0), _RETRY_SECONDS_MAX)
    except (TypeError, ValueError):
        return min(0.25 * 2 ** attempt, _RETRY_SECONDS_MAX)


class _EventReader:
    """Lines of server-sent events to JSON objects."""

    DONE = object()

    def __init__(self):
        self._kind = ""

    def push(self, line):
        line = line.rstrip(b"\r\n")
        if line.startswith(b"event:"):
            self._kind = line[6:].strip().decode("utf-8", "replace")
        if not line:
            self._kind = ""
        if not line.startswith(b"data:"):
            return None
        data = line[5:].strip()
        if data == b"[DONE]":
            return self.DONE
        event = _loads(data)
        if "error" in event and event["error"]:
            error = event["error"]
            raise _error_of(error.get("status") or error.get("http_code") or 500 if isinstance(error, dict) else 500, data)
        if self._kind:
            event.setdefault("event", self._kind)
        return event


class AsyncClient(_Base):
    """The same for asyncio: `await AsyncClient(url).chat("Hello", model="tiny-chat")`, `async for event in await client.chat(..., stream=True)`."""

    async def __aenter__(self):
        return self

    async def __aexit__(self, kind, value, trace):
        pass

    async def chat(self, messages, **options):
        return await self._ask("/v1/chat/completions", self._chat(messages, options))

    async def complete(self, prompt, **options):
        return await self._ask("/v1/completions", {"prompt": prompt, **options})

    async def embed(self, input, **options):
        return await self._ask("/v1/embeddings", {"input": input, **options})

    async def models(self):
        return [model["id"] for model in (await self.request("GET", "/v1/models"))["data"]]

    async def request(self, method, path, body=None):
        exchange = await self._send(method, path, body)
        try:
            data = b"".join([part async for part in exchange.body()])
        finally:
            exchange.close()
        return _loads(data) if data else Answer()

    async def _ask(self, path, body):
        if not body.get("stream"):
            return await self.request("POST", path, body)
        return self._events(await self._send("POST", path, body), path)

    async def _send(self, method, path, body):
        attempt = 0
        while True:
            exchange = _Exchange(self, method, self._prefix + path, body)
            try:
                await exchange.open()
                if exchange.status < 400:
                    return exchange
                fault = b"".join([part async for part in exchange.body()])[:_ERROR_BYTES_MAX]
            except BaseException:
                exchange.close()
                raise
            exchange.close()
            if exchange.status not in _RETRYABLE or attempt >= self.retries:
                raise _error_of(exchange.status, fault)
            attempt += 1
            await asyncio.sleep(_pause(exchange.headers.get("retry-after"), attempt))

    async def _events(self, exchange, path):
        reader, rest = _EventReader(), b""
        try:
            async for part in exchange.body():
                *lines, rest = (rest + part).split(b"\n")
                for line in lines:
                    event = reader.push(line)
                    if event is _EventReader.DONE:
                        return
                    if event is not None:
                        yield event
            raise _errors.Disconnected(f"POST {path}: the stream ended without [DONE]")
        finally:
            exchange.close()  # if it is not whole, the server sees it and stops


class _Exchange:
    """One request on one connection."""

    def __init__(self, client, method, path, body):
        self._client, self._method, self._path = client, method, path
        self._data = b"" if body is None else json.dumps(body).encode()
        self._has_body = body is not None
        self._writer = None
        self.status, self.headers = 0, {}

    async def _within(self, awaitable):
        try:
            return await asyncio.wait_for(awaitable, self._client.timeout)
        except (asyncio.TimeoutError, TimeoutError) as error:
            raise _errors.DeadlineExceeded(f"{self._method} {self._path}: nothing came for {self._client.timeout} s") from error
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise _errors.Disconnected(f"{self._method} {self._path}: {error}") from error

    async def open(self):
        client = self._client
        self._reader, self._writer = await self._within(
            asyncio.open_connection(client._host, client._port, ssl=client._tls, limit=1 << 24,
                                    server_hostname=client._host if client._tls else None))
        fields = {**client._headers, "Connection": "close"}
        if self._has_body:
            fields |= {"Content-Type": "application/json", "Content-Length": str(len(self._data))}
        head = f"{self._method} {self._path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items()) + "\r\n"
        self._writer.write(head.encode("latin-1") + self._data)
        await self._within(self._writer.drain())
        line = await self._within(self._reader.readline())
        words = line.split(b" ", 2)
        if len(words) < 2 or not words[1].isdigit():
            raise _errors.Disconnected(f"{self._method} {self._path}: the connection closed before an answer")
        self.status = int(words[1])
        while (line := (await self._within(self._reader.readline())).strip()):
            name, _, value = line.decode("latin-1").partition(":")
            self.headers[name.strip().lower()] = value.strip()

    async def body(self):
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            while True:
                size = int((await self._within(self._reader.readline())).split(b";")[0] or b"0", 16)
                if size == 0:
                    return
                yield await self._within(self._reader.readexactly(size))
                await self._within(self._reader.readline())
        elif "content-length" in self.headers:
            left = int(self.headers["content-length"])
            while left > 0:
                part = await self._within(self._reader.read(min(left, 1 << 16)))
                if not part:
                    raise _errors.Disconnected(f"{self._method} {self._path}: {left} bytes of the answer are missing")
                left -= len(part)
                yield part
        else:
            while part := await self._within(self._reader.read(1 << 16)):
                yield part

    def close(self):
        if self._writer is not None:
            self._writer.close()
            self._writer = None
