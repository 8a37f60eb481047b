"""The deployment benchmark measures what it says."""

import time

from SCFNet.benchmarks.deploy import _folder_rows, _network_row, best_in_turns, make_photos


def test_the_best_of_turns():
    order = []

    def sleeper(name, seconds):
        def run():
            order.append(name)
            time.sleep(seconds)

        return run

    best = best_in_turns({"slow": sleeper("slow", 0.03), "fast": sleeper("fast", 0.0)}, 2)
    assert order == ["slow", "fast", "slow", "fast"] and best["slow"] >= 0.03 > best["fast"]


def test_rows(tmp_path):
    network = _network_row(rounds=1)
    assert 0 < network["ratio"] < 1
    photos = make_photos(tmp_path / "photos", 12)
    rows = _folder_rows(photos, tmp_path, rounds=1)
    assert len(list((tmp_path / "masks").glob("*.png"))) == 12
    assert rows[0]["what"] == "folder of 12 photos, masks written" and rows[0]["ratio"] > 0
    assert 0.05 < rows[2]["ratio"] < 1
