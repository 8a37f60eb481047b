"""Packages of others: their names for pip, and a line that says why one does not import."""

import importlib.util
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


def why_not_imported(error: Exception) -> Optional[str]:
    """Return in one line which package of others `error` says not to import, why, and the pip
    command; None if it says something else, as of a module of this repository.

    A package that is broken may raise anything: an ImportError or an OSError for a library that is
    missing, an AttributeError for a NumPy of another age.
    """
    reason = " ".join(str(error).split())
    if "pip install" in reason:  # of `check_beside_numpy`
        return reason
    name = getattr(error, "name", None) or ""
    module = str(name).partition(".")[0] if isinstance(error, ImportError) else ""
    is_absent = isinstance(error, ModuleNotFoundError) and module == name
    absent = module if is_absent else _empty_folder(reason)
    if absent in OURS:
        return None
    if absent:
        return f"{absent} is not installed: pip install {PACKAGES.get(absent, absent)}"
    broken = _package_being_imported(error) or module
    if not broken or broken in OURS:
        return None
    if len(reason) > REASON:
        reason = f"{reason[:REASON]}..."
    package = PACKAGES.get(broken, broken)
    return f"{broken} does not import ({reason}): pip install --force-reinstall {package}"


def _empty_folder(reason: str) -> str:
    """Return the package that lacks something, says `reason`, as it is an empty folder; else ''."""
    found = LACKS.match(reason)
    is_empty = found and found[1] in sys.modules and not is_installed(found[1])
    return found[1] if found and is_empty else ""


def _package_being_imported(error: Exception) -> str:
    """Return the package of others whose import, begun by a module of ours, raised `error`; ''."""
    package = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        top = frame.f_globals.get("__name__", "").partition(".")[0]
        if top in (*OURS, "__main__"):
            package = ""
        elif not package and top != "importlib":
            package = top if frame.f_code.co_name == "<module>" else "?"
    return package.strip("?")
