"""Packages of others: their names for pip, and a line that says why one does not import."""

import importlib.util
import linecache
import re
import sys
import traceback
from contextlib import suppress
from typing import Optional

OURS = ("SCFNet", "backbones", "datasets")

# What `pip install` takes for a module, if that is not its own name.
PACKAGES = {
    "PIL": "Pillow",
    "cv2": "opencv-python-headless",
    "paddle": "-r requirements.txt",
    "py_sod_metrics": "pysodmetrics",
    "skimage": "scikit-image",
    **dict.fromkeys(("fastapi", "uvicorn", "python_multipart"), "fastapi uvicorn python-multipart"),
}
# The packages that hold a module, and their first version that runs beside NumPy 2. Older ones
# print a page there, or end the process.
BESIDE_NUMPY_2 = {
    "cv2": (
        ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless",
         "opencv-contrib-python"),
        (4, 10),
    ),
    "onnxruntime": (("onnxruntime", "onnxruntime-gpu"), (1, 19)),
}  # fmt: skip
REASON = 160  # letters
# What Python says of a package that was imported and lacks something, as an empty folder does.
LACKS = re.compile(r"(?:module|cannot import name '\w+' from) '([A-Za-z]\w*)'")
IMPORT = re.compile(r"\s*(?:import|from) (\w+)")


def check_beside_numpy(module: str) -> None:
    """Raise ImportError, in one line, if `module` is installed and too old for the NumPy that is.

    The versions are asked before `module`, a key of BESIDE_NUMPY_2, is imported.
    """
    import numpy

    if int(numpy.__version__.partition(".")[0]) < 2:
        return
    from importlib import metadata

    packages, needed = BESIDE_NUMPY_2[module]
    too_old = {}
    for package in packages:
        with suppress(metadata.PackageNotFoundError):
            version = metadata.version(package)
            if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) >= needed:
                return
            too_old[package] = version
    for package, version in too_old.items():
        raise ImportError(
            f"{package} {version} does not run beside numpy {numpy.__version__}: "
            f"pip install --upgrade {package}",
            name=module,
        )


def is_installed(module: str) -> bool:
    """Return whether `module` is there; an empty folder, which Python imports too, is no module."""
    spec = importlib.util.find_spec(module)
    return bool(spec and spec.origin)


def why_not_imported(error: BaseException) -> Optional[str]:
    """Return in one line which package of others `error` says not to import, why, and the pip
    command; None if it says something else, as of a module of this repository.

    A package that is broken may raise anything: an ImportError or an OSError for a library that is
    missing, an AttributeError for a NumPy of another age, a SyntaxError for a damaged file; it may
    even end Python, by a SystemExit.
    """
    reason = " ".join(str(error).split())
    if "pip install" in reason:  # of `check_beside_numpy`
        return reason
    name = getattr(error, "name", None) or ""
    module = str(name).partition(".")[0] if isinstance(error, ImportError) else ""
    is_absent = isinstance(error, ModuleNotFoundError) and module == name
    lacking = _lacking(reason)
    absent = module if is_absent else ""
    if lacking and not is_installed(lacking):
        absent = lacking
    if absent in OURS:
        return None
    if absent:
        return f"{absent} is not installed: pip install {PACKAGES.get(absent, absent)}"
    broken = _package_being_imported(error) or module or (lacking if lacking in PACKAGES else "")
    if not broken or broken in OURS:
        return None
    if not (reason and isinstance(error, Exception)):  # '' of an assert, 1 of a SystemExit
        reason = traceback.format_exception_only(type(error), error)[-1].strip()
    if len(reason) > REASON:
        reason = f"{reason[:REASON]}..."
    package = PACKAGES.get(broken, broken)
    return f"{broken} does not import ({reason}): pip install --force-reinstall {package}"


def _lacking(reason: str) -> str:
    """Return the package that was imported and lacks something, says `reason`; else ''."""
    found = LACKS.match(reason)
    return found[1] if found and found[1] in sys.modules else ""


def _package_being_imported(error: BaseException) -> str:
    """Return the package of others whose import, begun by a module of ours, raised `error`; ''."""
    package = line = ""
    for frame, number in traceback.walk_tb(error.__traceback__):
        top = frame.f_globals.get("__name__", "").partition(".")[0]
        if top in (*OURS, "__main__"):
            package, line = "", linecache.getline(frame.f_code.co_filename, number)
        elif not package and top != "importlib":
            package = top if frame.f_code.co_name == "<module>" else "?"
    statement = IMPORT.match(line)
    if not package and statement:  # not a line of it ran, as of a file that is damaged
        return statement[1]
    return package.strip("?")
