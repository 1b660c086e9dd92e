"""Where the program is that comes with the package, and `pixii` as a command of an installed wheel."""
import os
import pathlib
import shutil
import sys

_DATA = pathlib.Path(__file__).resolve().parent / "_data"


def find():
    """PIXII_BINARY, the program of the wheel, or the one of PATH; None: there is none."""
    given = os.environ.get("PIXII_BINARY")
    if given:
        return given
    own = _DATA / "bin/pixii"
    return str(own) if own.is_file() else shutil.which("pixii")


def use_models():
    """The extension module finds the wheel's models as the program does."""
    models = _DATA / "share/pixii/models"
    if models.is_dir():
        os.environ.setdefault("PIXII_MODELS_DIR", str(models))


def become(words):
    """Never returns, unless it raises OSError."""
    path = find()
    if not path:
        raise FileNotFoundError("the program pixii is neither in this package nor in PATH; PIXII_BINARY names it")
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execv(path, [path, *words])
    except OSError as error:
        raise OSError(f"{path}: {error.strerror}") from error


def main():
    try:
        become(sys.argv[1:])
    except OSError as error:
        sys.exit(f"pixii: {error}")
