"""Errors by code: what clients get and what handlers raise. The codes are those of docs/reference/errors.md."""


class PixiiError(Exception):
    """`code` names the error, `detail` says what was tried, `param` the field at fault, `status` is HTTP's (0: there was none)."""

    code = "Internal"

    def __init__(self, detail="", *, code=None, param="", status=0):
        super().__init__(detail)
        self.detail, self.param, self.status = str(detail), param, status
        if code is not None:
            self.code = code

    def __str__(self):
        return f"{self.code}: {self.detail}"


class InvalidArgument(PixiiError, ValueError):
    code = "InvalidArgument"


class Unsupported(PixiiError):
    code = "Unsupported"


class Unauthenticated(PixiiError):
    code = "Unauthenticated"


class Forbidden(PixiiError):
    code = "Forbidden"


class NotFound(PixiiError):
    code = "NotFound"


class TooLarge(PixiiError):
    code = "TooLarge"


class Cancelled(PixiiError):
    code = "Cancelled"


class Unavailable(PixiiError):
    """Raised by a handler: another worker goes on with the request, from the tokens so far."""

    code = "Unavailable"


class ShuttingDown(Unavailable):
    code = "ShuttingDown"


class Disconnected(Unavailable, ConnectionError):
    code = "Disconnected"


class DeadlineExceeded(PixiiError, TimeoutError):
    code = "DeadlineExceeded"


class ResourceExhausted(PixiiError):
    code = "ResourceExhausted"


class QuotaExceeded(PixiiError):
    code = "QuotaExceeded"


class ModelFault(PixiiError):
    code = "ModelFault"


BY_CODE = {cls.code: cls for cls in (
    InvalidArgument, Unsupported, Unauthenticated, Forbidden, NotFound, TooLarge, Cancelled, Unavailable, ShuttingDown, Disconnected,
    DeadlineExceeded, ResourceExhausted, QuotaExceeded, ModelFault)}

# Of an answer over HTTP whose body names no code.
BY_STATUS = {400: InvalidArgument, 401: Unauthenticated, 403: Forbidden, 404: NotFound, 413: TooLarge, 429: QuotaExceeded,
             499: Cancelled, 503: Unavailable, 504: DeadlineExceeded, 529: ResourceExhausted}


def from_native(code, detail, param="", status=0):
    return BY_CODE.get(code, PixiiError)(detail, code=code, param=param, status=status)
