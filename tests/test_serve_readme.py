"""What the READMEs' clients do: Python's and Node's against a real server, Ray's on two workers."""

import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from tests.conftest import COFFEE, DATA, ROOT, predict, readme_block, run_python
from tests.server import running

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("language", ["python", "js"])
def test_clients_write_a_cutout_and_say_a_fault(tmp_path, language):
    node = shutil.which("node")
    if language == "js" and not node:
        pytest.skip("needs Node")
    text = readme_block("urlopen" if language == "python" else "fetch", language)
    script = tmp_path / ("client.py" if language == "python" else "client.mjs")
    command = [sys.executable if language == "python" else node, script]
    with running() as server:
        script.write_text(text.replace("http://127.0.0.1:8000", server.address), "utf-8")
        for photo, said in ((COFFEE, ""), (DATA / "forward.npz", "is not an image")):
            shutil.copy(photo, tmp_path / "photo.jpg")
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
            assert said in done.stdout + done.stderr
            assert done.returncode == 0, done.stderr
    picture = cv2.imread(str(tmp_path / "cutout.png"), cv2.IMREAD_UNCHANGED)
    assert picture.shape == (*cv2.imread(str(COFFEE)).shape[:2], 4)


def test_ray_writes_the_masks_that_predict_writes(tmp_path):
    pytest.importorskip("ray")
    for name in ("a.jpg", "trip/b.jpg"):
        (tmp_path / "photos" / name).parent.mkdir(exist_ok=True)
        shutil.copy(COFFEE, tmp_path / "photos" / name)
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"no image")
    assert predict(tmp_path / "photos", "--output", tmp_path / "expected").returncode == 1
    done = run_python(readme_block("import ray", "python"), folder=tmp_path, path=ROOT)
    if "node timed out during startup" in done.stderr:
        pytest.skip("Ray gives its node 30 seconds to start, which this busy machine does not")
    assert "broken.jpg: is not an image" in done.stdout and "3 photos" in done.stdout, done.stderr
    for name in ("a.png", "trip/b.png"):
        found, right = (cv2.imread(str(tmp_path / f / name), 0) for f in ("masks", "expected"))
        np.testing.assert_array_equal(found, right)
