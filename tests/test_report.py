"""The paper's table of scores, the files that scores become, and what is read back."""

import csv
import json
import re

import numpy as np
import pytest

from SCFNet.errors import InputError
from SCFNet.metrics import PaperScore, PysodScore
from SCFNet.scoring.cost import Cost
from SCFNet.scoring.paper_table import paper_table, to_latex, to_markdown
from SCFNet.scoring.report import (
    per_image_csv,
    read_costs,
    read_rows,
    read_scores,
    to_csv,
    to_json,
)
from SCFNet.scoring.tasks import Result


class FixedScore(PaperScore):
    """A score of one image with given M, F and E."""

    def __init__(self, *values):
        super().__init__()
        self.sums[0] = 1
        self.fixed = values

    def result(self):
        return dict(zip(self.table, self.fixed))


def result(method, data="S", score=(0.1, 0.8, 0.7), missing=(), extra=(), unreadable=()):
    score = FixedScore(*score) if isinstance(score, tuple) else score
    return Result(method, data, score, list(missing), list(extra), list(unreadable))


def real_result(method="m", data="S"):
    """Of a map and its mask, and of the map beside a mask that is black."""
    score = PaperScore()
    for mask in ([0, 255, 255], [0, 0, 0]):
        score.add(np.array([[0, 255, 90]], np.uint8), np.array([mask], np.uint8))
    return result(method, data, score, ["x"], [], ["y", "z"])


FOUR = [
    result("a"),
    result("b", "S", (0.2, 0.9, 0.7)),
    result("c", "S", (0.10001, 0.7, 0.5)),
    result("d", "T", (0.3, 0.3, 0.3)),
]
DIAGONAL = np.eye(16, dtype=np.uint8) * 255


def rows_of(table):
    lines = [line for line in to_markdown(table).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_best_two_are_marked_as_printed():
    header, _, *rows = rows_of(paper_table(FOUR, "paper", {"a": Cost(8e5, None)}))
    assert header[:6] == ["Method", "Params (M)", "FLOPs (G)", "S M ↓", "S F ↑", "S E ↑"]
    assert rows[0] == ["a", "0.80", "-", "**0.100**", "_0.800_", "**0.700**", "-", "-", "-"]
    assert rows[1][3:6] == ["_0.200_", "**0.900**", "**0.700**"]
    assert rows[2][3:6] == ["**0.100**", "0.700", "_0.500_"]
    assert rows[3][3:7] == ["-", "-", "-", "**0.300**"]


def test_the_librarys_protocol_has_its_own_columns():
    score = PysodScore()
    values = score.add(DIAGONAL, DIAGONAL)
    table = paper_table([result("m", "S", score)], "pysod", {})
    expected = [f"{values[name]:.3f}" for name in ("MAE", "Mean-F", "Adp-E")]
    assert rows_of(table)[2][3:] == expected
    assert table.notes == ["M, F, E: MAE, Mean-F, Adp-E; protocol pysod."]


def test_named_measures_have_a_column_behind_m_f_and_e():
    scores = {name: PaperScore(binary=["IoU", "BER"]) for name in "ab"}
    scores["a"].add(DIAGONAL, DIAGONAL)
    scores["b"].add(255 - DIAGONAL, DIAGONAL)
    results = [result(name, "S", score) for name, score in scores.items()]
    table = paper_table(results, "paper", {}, ["BER", "Max-F", "IoU"])
    header, _, best, worst = rows_of(table)
    assert header[6:] == ["S BER ↓", "S Max-F ↑", "S IoU ↑"]
    assert best[6:] == ["**0.000**", "**1.000**", "**1.000**"]
    assert worst[6] == "_1.000_" and worst[8] == "_0.000_"
    latex = to_latex(table)
    assert r"\multicolumn{6}{c}{S}" in latex and r"BER$\downarrow$ & Max-F$\uparrow$" in latex


def test_the_papers_own_rows_stand_above_sets_that_it_scores():
    results = [result("here", "ECSSD"), result("here", "mine")]
    _, _, *rows = rows_of(paper_table(results, "paper", {}, published=True))
    by_name = {name: cells for name, *cells in rows}
    assert list(by_name)[-2:] == ["SCFNet-STB (paper)", "here"] and len(rows) == 21
    of_mine = ["-"] * 3
    for name, cells in (
        ("KD-SCFNet, R50", ["0.80", "0.25", "0.035", "0.929", "0.952"]),
        ("GateNet", ["128.63", "136.22", "0.040", "0.925", "0.943"]),
        ("SCFNet-STB", ["88.16", "46.74", "0.023", "-", "-"]),
    ):
        assert by_name[f"{name} (paper)"] == [*cells, *of_mine]
    table = paper_table(results[1:], "paper", {}, published=True)
    assert [row[0].text for row in table.rows] == ["here"]
    assert table.notes[-1] == "The paper scores none of these sets."


def test_what_is_left_out_is_said():
    results = [
        result("a"),
        result("b", missing=["0002", "0005"], extra=["other"]),
        result("c", unreadable="stuvwxyz"),
        real_result("d"),
    ]
    table = paper_table(results, "paper", {})
    assert [row[0] for row in rows_of(table)[2:]] == ["a", r"b \*", r"c \*", r"d \*"]
    text = to_markdown(table)
    assert (
        r"\* b on S: averaged over 1 of 3 images; 2 missing (0002, 0005), 1 without mask (other)."
    ) in text
    assert "8 unreadable (s, t, u, v, w, and 3 more)" in text
    assert "All-black masks in S: 1; F is 0 there." in text


def test_latex_has_the_cells_and_the_marks_of_the_table():
    lines = to_latex(paper_table(FOUR, "paper", {"a": Cost(8e5, 2.5e8)})).splitlines()
    assert lines[1:3] == [r"\begin{tabular}{lcccccccc}", r"\toprule"]
    assert lines[3] == r" & Params & FLOPs & \multicolumn{3}{c}{S} & \multicolumn{3}{c}{T} \\"
    assert lines[4] == r"\cmidrule(lr){4-6} \cmidrule(lr){7-9}"
    assert lines[5].startswith(r"Method & (M) & (G) & $M\downarrow$ & $F_\beta\uparrow$ & $E\u")
    start = lines.index(r"\midrule") + 1
    cells = r"\textbf{0.100} & \textit{0.800} & \textbf{0.700} & - & - & -"
    assert lines[start] == rf"a & 0.80 & 0.25 & {cells} \\"
    assert lines.index(r"\bottomrule") == start + 4
    assert r"\textbf{Best}, \textit{second best}." in lines[-1]


@pytest.mark.parametrize(
    "name", ["50% & more", "a_b^2", r"C:\maps {x}", "#1 $~", "|", "two\nlines"]
)
def test_a_name_may_hold_any_character(name):
    table = paper_table([result(name, name)], "paper", {})
    escaped = to_latex(table)
    plain = to_latex(paper_table([result("N", "N")], "paper", {}))
    bare = re.sub(r"\\(text\w+\{\}|[&%$#_{}])", "", escaped)
    for character in "&%$#_{}~^\\":
        assert bare.count(character) == plain.count(character), character
    (header, _, row) = rows_of(table)
    assert len(row) == len(header) == 6


def test_json_and_csv_hold_the_scores():
    one = real_result()
    values = one.score.result()
    (row,) = json.loads(to_json([one], "paper", {"m": Cost(1e6, 2e9, "M3_0.5")}))["results"]
    assert row["values"] == values
    assert (row["images"], row["empty_masks"], row["unreadable"]) == (2, 1, ["y", "z"])
    assert (row["params"], row["model"], len(row["curves"]["f"])) == (1e6, "M3_0.5", 256)
    (line,) = csv.DictReader(to_csv([one], "paper").splitlines())
    assert (line["images"], line["missing"], line["unreadable"]) == ("2", "1", "2")
    assert float(line["Wgt-F"]) == values["Wgt-F"]


def test_a_value_that_is_no_number_is_not_the_best():
    nan = float("nan")
    rows = rows_of(paper_table([result("x", "S", (nan, nan, nan)), FOUR[0]], "paper", {}))[2:]
    assert rows[0][3:6] == ["nan", "nan", "nan"]
    assert rows[1][3:6] == ["**0.100**", "**0.800**", "**0.700**"]
    unclear = real_result()
    unclear.score.sums[2] = nan
    text = to_json([unclear], "paper", {})
    assert json.loads(text, parse_constant=pytest.fail)["results"][0]["values"]["MAE"] is None


def test_a_csv_of_images_is_whole_or_the_old_one(tmp_path):
    path = tmp_path / "new" / "images.csv"
    with per_image_csv(path) as write:
        write("m", "S", "two\nlines, \n", {"MAE": 0.5, "Max-F": 1.0})
        write("m", "S", "猫", {"MAE": 0.25, "Max-F": 0.5})
        assert not path.exists()
    rows = list(csv.DictReader(path.open(encoding="utf-8", newline="")))
    found = [(row["image"], row["MAE"]) for row in rows]
    assert found == [("two\nlines, \n", "0.5"), ("猫", "0.25")]
    old = path.read_bytes()
    with pytest.raises(InputError, match="a map is bad"), per_image_csv(path) as write:
        write("m", "S", "a", {"MAE": 0.5})
        raise InputError("a map is bad")
    assert path.read_bytes() == old and list(path.parent.iterdir()) == [path]
    with pytest.raises(InputError, match="cannot be written"), per_image_csv(path / "images.csv"):
        pass


def test_scores_and_costs_are_read_back(tmp_path):
    path = tmp_path / "scores.json"
    results = [real_result(data=data) for data in "ST"]
    path.write_text(to_json([*results, real_result("n")], "paper", {"m": Cost(1, 2, "M3_0.5")}))
    f = pytest.approx(results[0].score.result()["Mean-F"])
    first, second = read_scores(path)
    assert first == {"method": "m", "model": "M3_0.5", "F": f, "params": 1, "flops": 2}
    assert second == {"method": "n", "model": None, "F": f, "params": None, "flops": None}
    for entry in ('{"params": 44e6, "flops": 48e9}', '{"params": 44, "flops": 48}'):
        path.write_text(f'{{"U2Net": {entry}}}')
        assert read_costs(path) == {"U2Net": Cost(44e6, 48e9)}
    path.write_text('[{"model": "U2Net", "F": 0.9}]')
    assert read_rows(path) == [{"model": "U2Net", "F": 0.9}]


@pytest.mark.parametrize(
    "text",
    [
        *("{", "", "null", '{"a": 1}', "[1]", "[" * 100_000, '{"protocol": [], "results": 1}'),
        '{"protocol": "paper", "results": [{"model": "x", "values": {"Mean-F": "high"}}]}',
        '{"protocol": "paper", "results": [{"method": [1], "values": {"Mean-F": 1}}]}',
    ],
)
def test_other_files_are_no_results(tmp_path, text):
    path = tmp_path / "r.json"
    path.write_text(text)
    for read in (read_scores, read_rows, read_costs):
        with pytest.raises(InputError, match=r"r\.json: is not"):
            read(path)
    path.unlink()
    with pytest.raises(InputError, match=r"r\.json: cannot be read: No such file"):
        read_rows(path)
