"""The page, from results folders that hold everything, little, or nothing."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tessera.cli import main
from tessera.report import chart, picture
from tessera.report.cost import costs, rule_of
from tessera.report.dag import Graph, draw, graph
from tessera.report.results import Results
from tessera.report.viewers import neuroglancer_state
from tessera.volume.box import Box, Grid, Triple
from tessera.volume.store import Layout, create_volume

SHAPE = (12, 40, 48)
BENCHMARK = "s\th:m:s\tmax_rss\n{}\t0:00:01\t{}\n"


class Page(HTMLParser):
    """What a browser would see: tags that are open, ids, places that links lead to."""

    _VOID = ("meta", "img", "input", "br", "link", "hr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.alts: list[str | None] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag not in self._VOID:
            self.open.append(tag)
        self.ids += [found["id"]] if found.get("id") else []
        self.links += [found["href"]] if tag == "a" and found.get("href") else []
        self.sources += [str(found[k]) for k in ("src", "srcset") if k in found]
        if tag == "img":
            self.alts.append(found.get("alt"))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        return

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes what is not open"


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def volume(path: Path, data: np.ndarray) -> None:
    layout = Layout(Triple(*data.shape), str(data.dtype), (2.0, 1.0, 1.0), Triple(8, 8, 8))
    made = create_volume(path, layout)
    for block in Grid.of(data.shape, made.shard):
        made.write(block.write, data[block.write.slices])


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """A specimen with two tiles, a model and three somas, one of them named to break HTML."""
    root, random = tmp_path / "mouse", np.random.default_rng(0)
    data = random.normal(5, 1, SHAPE).astype(np.float32)
    volume(root / "mosaic/volume.zarr", data)
    counts, edges = np.histogram(data, 64)
    statistics = {"mean": 5.0, "std": 1.0, "p01": 2.7, "p99": 7.3}
    statistics |= {"histogram": counts.tolist(), "edges": edges.tolist()}
    write_json(
        root / "mosaic/volume.json",
        {"shape": SHAPE, "voxel_um": [2, 1, 1], "dtype": "float32", "digest": "d1"}
        | {"statistics": statistics},
    )
    tiles = [
        {
            "name": f"t{n}", "shape": [12, 30, 30], "valid_radius_vox": 15.0,
            "solved_um": [0, 20, 15 + 20 * n], "correction_vox": [0, 0.5 * n, -1.5 * n],
        }
        for n in range(2)
    ]  # fmt: skip
    pair = {"a": "t0", "b": "t1", "overlap_vox": [12, 30, 10], "shift_vox": [0, 0.5, -1.5]}
    pair |= {"quality": 0.9, "residual": 0.04, "used": True}
    write_json(
        root / "mosaic/positions.json",
        {"anchor": "t0", "voxel_um": [2, 1, 1], "tiles": tiles, "pairs": [pair], "rms_vox": 0.04},
    )
    for n in range(2):
        candidates = [[c, (c - 20.3) ** 2 * 1e-5] for c in range(10, 30)]
        axis = {"column": 20.3, "tilt_deg": 0.0, "confidence": 0.8, "candidates": candidates}
        write_json(root / f"recon/t{n}/axis.json", axis)
        pictures = {k: random.random((20, 30)) for k in ("flat", "dark", "slice")}
        sinograms = {k: random.random((50, 30)) for k in ("sinogram_raw", "sinogram_clean")}
        np.savez(
            root / f"recon/t{n}/qc.npz",
            **pictures,
            **sinograms,
            axis_candidates=random.integers(0, 255, (60, 120)).astype(np.uint8),
            profile=random.random(30),
            ring_score=np.array([3.0, 0.2]),
        )
    facts = {"classes": ["background", "soma"], "net": {"name": "unet3d"}, "digest": "m1"}
    write_json(root / "train/tissue/model.json", facts)
    rows = [{"step": s, "loss": 1 / s, "seconds": s, "dice_soma": 0.5} for s in range(1, 9)]
    text = "\n".join(map(json.dumps, rows)) + '\n{"step": 9, "lo'  # killed while writing
    (root / "train/tissue/curves.jsonl").write_text(text)
    somas(root)
    score = {"value": 0.91, "low": 0.85, "high": 0.95, "unit": "1", "n": 40, "of": "blocks"}
    undefined = {"value": None, "low": None, "high": None, "unit": "1", "n": 0, "of": "objects"}
    write_json(root / "evaluate/metrics.json", {"soma.dice": score, "soma.f1": undefined})
    for name, seconds, peak in (("tissue_0000", 30, 800), ("tissue_0001", 50, 700)):
        path = root / f"predict/benchmarks/{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(BENCHMARK.format(seconds, peak))
    return root


def somas(root: Path) -> None:
    """Labels of three cubes, measured by the stages' own commands."""
    ids = np.zeros(SHAPE, np.uint32)
    corners = [(2, 5, 5), (4, 20, 20), (5, 30, 40)]
    for n, (z, y, x) in enumerate(corners, 1):
        ids[z : z + 4, y : y + 5, x : x + 5] = n
    folder = root / "label/tissue/soma"
    volume(folder / "labels.zarr", ids)
    where = [np.argwhere(ids == n) for n in (1, 2, 3)]
    np.savez(
        folder / "objects.npz",
        id=[1, 2, 3],
        voxels=[len(w) for w in where],
        centroid_zyx_vox=[w.mean(0) for w in where],
        box_start=[w.min(0) for w in where],
        box_stop=[w.max(0) + 1 for w in where],
    )
    write_json(folder / "labels.json", {"path": "labels.zarr", "objects": 3, "digest": "l1"})
    line = ["analyse", "--labels", str(folder / "labels.json")]
    assert main([*line, "--out", str(root / "analyse/tissue")]) == 0
    status = (ids > 0).astype(np.uint8)[3:6]
    np.savez(
        root.joinpath("evaluate").mkdir() or root / "evaluate/tissue_slices.npz",
        image=np.zeros((3, *SHAPE[1:]), np.uint8),
        truth=status,
        predicted=status,
        start=np.array([[n, 0, 0] for n in (3, 4, 5)]),
        voxel_um=np.array([2.0, 1, 1]),
        classes=np.array(["background", "soma"]),
        **{"soma.true": 2 * status, "soma.found": status},
    )


def write(root: Path, *more: str) -> str:
    out = root / "report/index.html"
    assert main(["report", "--results", str(root), "--out", str(out), *more]) == 0
    return out.read_text()


def test_page_has_every_section_and_needs_no_network(full: Path) -> None:
    text = write(full)
    page = Page(text)
    assert not page.open, "every tag is closed"
    wanted = {"recon", "volume", "training", "unseen", "scores", "objects", "run", "provenance"}
    assert wanted <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert {h[1:] for h in page.links if h.startswith("#")} <= set(page.ids)
    assert all(source.startswith("data:image/") for source in page.sources)
    assert not re.search(r"url\(['\"]?https?:|@import|<link|src=['\"]?https?:", text)
    assert all(alt is not None for alt in page.alts)
    assert len(text) < 8e6


def test_numbers_of_the_run_stand_on_the_page(full: Path) -> None:
    text = write(full)
    for wanted in (
        "0.850 – 0.950",
        "3 somas",
        "Candidates for the rotation axis",
        "1 min 20 s",
        "800 MiB",
        "t0 – t1",
        "20.30",
    ):
        assert wanted in text, wanted


def test_a_title_cannot_break_the_page(full: Path) -> None:
    text = write(full, "--settings", json.dumps({"title": "<script>alert(1)</script> & co"}))
    assert "<script>alert(1)" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; co" in text


def test_every_part_is_optional(full: Path) -> None:
    for folder in ("recon", "train", "label", "analyse", "evaluate", "predict"):
        for path in sorted((full / folder).rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        ids = Page(write(full)).ids
        assert "volume" in ids
    assert "scores" not in ids
    assert "objects" not in ids


def test_an_empty_folder_gives_a_page(tmp_path: Path) -> None:
    assert not Page(write(tmp_path)).open


def test_missing_or_broken_results_are_one_sentence(
    full: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["report", "--out", str(full / "x.html"), "--results"]
    assert main([*line, str(full / "nowhere")]) == 2
    (full / "evaluate/metrics.json").write_text('{"soma')
    assert main([*line, str(full)]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert "no results here" in errors[0]
    assert "run its stage again" in errors[1]


def test_the_same_results_give_the_same_page(full: Path) -> None:
    assert write(full) == write(full)


def test_costs_are_summed_by_rule(full: Path) -> None:
    (found,) = costs(Results(full))
    assert (found.rule, found.jobs, found.seconds, found.peak_mib) == ("predict", 2, 80, 800)


@pytest.mark.parametrize(
    ("stage", "stem", "rule"),
    [
        ("simulate", "truth", "simulate_truth"),
        ("simulate", "tile_z0_y0_x1", "simulate_scan"),
        ("recon", "tile_z0_y0_x1", "recon"),
        ("mosaic", "fuse_0001", "mosaic_fuse"),
        ("predict", "tissue_0003", "predict"),
        ("predict", "tissue_finish", "predict_finish"),
        ("label", "tissue_soma_relabel_0000", "label_relabel"),
        ("evaluate", "evaluate", "evaluate"),
        ("label", "cells_neuron_match_0001", "assemble_match"),
        ("label", "cells_neuron_assemble_merge", "assemble_merge"),
        ("label", "cells_neuron_contacts_0000", "contacts"),
        ("predict", "cells_refill_0000", "refill"),
        ("train", "cells_volume_0", "train_import"),
        ("train", "cells", "train"),
    ],
)
def test_rule_of_a_benchmark(stage: str, stem: str, rule: str) -> None:
    assert rule_of(stage, stem) == rule


def test_graph_follows_what_ran(full: Path) -> None:
    found = graph(Results(full))
    assert found.jobs["mosaic_register"] == found.jobs["report"] == 1
    assert ("mosaic_register", "mosaic_finish") in found.edges, (
        "rules that left nothing are bridged"
    )
    assert draw(found).count("<rect") == len(found.jobs)


def test_a_given_graph_is_drawn_and_a_circle_refused(
    full: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = full / "dag.json"
    write_json(path, {"rules": {"first": 1, "second": 30}, "edges": [["first", "second"]]})
    assert "30 jobs" in write(full, "--dag", str(path))
    write_json(path, {"rules": {"a": 1, "b": 1}, "edges": [["a", "b"], ["b", "a"]]})
    line = ["report", "--results", str(full), "--out", str(full / "x.html"), "--dag", str(path)]
    assert main(line) == 2
    assert "circle" in capsys.readouterr().err
    assert isinstance(graph(Results(full), None), Graph)


def test_viewer_state_names_the_volumes_in_metres(full: Path) -> None:
    state = neuroglancer_state(Results(full))
    assert state is not None
    assert state["dimensions"]["z"] == [2e-6, "m"]
    assert [layer["type"] for layer in state["layers"]] == ["image", "segmentation"]
    assert state["layers"][0]["source"].endswith("mosaic/volume.zarr/|zarr3:")
    write(full)
    assert json.loads((full / "report/viewer.json").read_text()) == state


@pytest.mark.parametrize(("width", "long"), [(400, 100), (399, 50), (81, 20), (4, 1), (1.0, 0.2)])
def test_scale_bars_are_round(width: float, long: float) -> None:
    assert picture.scale_length(width) == pytest.approx(long)


def test_outline_runs_around_the_pixels() -> None:
    mask = np.zeros((9, 9), bool)
    mask[2:6, 3:8] = True
    points = re.findall(r"([\d.]+) ([\d.]+)", str(picture.outlines(mask, "true")))
    x, y = np.array(points, float).T
    assert (x.min(), x.max(), y.min(), y.max()) == (3, 8, 2, 6)


@pytest.mark.parametrize("span", [(0, 1), (-3.2, 7.7), (1e-4, 3e-4), (0, 12345), (5, 5)])
def test_ticks_are_round_and_inside(span: tuple[float, float]) -> None:
    found = chart.ticks(*span)
    assert 1 <= len(found) <= 12
    assert all(span[0] - 1e-9 <= t <= span[1] + 1e-9 for t in found)


def test_nothing_finite_draws_nothing() -> None:
    line = chart.Line("loss", [1, 2], [float("nan"), float("inf")])
    assert chart.lines([line], "a", "b", "c") == ""


def test_picture_of_flat_values_is_no_error() -> None:
    assert picture.grey(np.full((4, 4), np.nan)).max() == 0
    assert Box.whole((1, 1, 1)).size == 1
