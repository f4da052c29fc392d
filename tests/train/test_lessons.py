"""Several labelled volumes to one model, and uses that are kept apart."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from tessera.check import check_config
from tessera.compute.horovod import Team
from tessera.config import Model, parse_config
from tessera.errors import TesseraError
from tessera.nets import bundle
from tessera.train import command
from tessera.train.sampling import take_census
from tessera.train.source import open_lessons
from tessera.train.targets import make_target
from tessera.volume.box import Box
from tessera.volume.store import open_volume
from tests.train.conftest import balls, write_volume

CUBE = (8, 8, 8)


@pytest.fixture
def second(specimen):
    """Another specimen, brighter and of another contrast: its volume.json and its labels."""
    folder = specimen / "second"
    image, ids = balls((32, 32, 32), seed=1)
    image = 50 * image + 300
    write_volume(folder / "volume.zarr", image)
    write_volume(folder / "ids.zarr", ids.astype(np.uint32))
    statistics = {"mean": float(image.mean()), "std": float(image.std())}
    facts = {"path": "volume.zarr", "digest": "e", "statistics": statistics}
    (folder / "volume.json").write_text(json.dumps(facts))
    return folder


def _other(folder, **split):
    return {
        "volume": {"path": str(folder / "volume.zarr")},
        "labels": [{"path": str(folder / "ids.zarr"), "instances_of": "soma"}],
        "split": split,
    }


def _train(specimen, settings, name, truth="truth.zarr", others=()):
    command.run(
        Model.model_validate(settings),
        str(specimen / "volume.json"),
        truth and str(specimen / truth),
        specimen / name,
        Team(),
        others=[str(folder / "volume.json") for folder in others],
    )
    return specimen / name


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_a_volume_learned_from_beside_is_learned_from_as_the_own(specimen, small):
    """The specimen's own volume, named as a further one, gives the same weights."""
    own = _train(specimen, small, "own")
    settings = {
        **small,
        "split": {},
        "volumes": [{**_other(specimen), "split": small["split"]}],
    }
    beside = _train(specimen, settings, "beside", truth=None, others=[specimen])
    a, b = (load_file(folder / bundle.WEIGHTS) for folder in (own, beside))
    assert all((a[name] == b[name]).all() for name in a)
    tested = bundle.load(beside).facts.training["test"]["volumes.0"]
    assert 0 < tested["dice_soma"] < 1


def test_two_volumes_are_learned_from_each_in_its_own_brightness(specimen, second, small):
    boxes = {"train": [{"stop": [32, 32, 24]}], "test": [{"start": [0, 0, 24]}]}
    settings = {**small, "steps": 120, "ema": 0.95, "volumes": [_other(second, **boxes)]}
    out = _train(specimen, settings, "both", others=[second])
    facts = bundle.load(out).facts
    assert facts.training["test"]["volumes.0"]["dice_soma"] > 0.8
    assert facts.data["volumes"] == ["e"] and len(facts.data["labels"]) == 2
    assert facts.normalisation["mean"] < 10  # the specimen's own, which is predicted on

    source, lessons = open_lessons(
        Model.model_validate(settings),
        str(specimen / "volume.json"),
        str(specimen / "truth.zarr"),
        [str(second / "volume.json")],
    )
    images = [one.source.image(one.regions("train", (16,) * 3)[0].box) for one in lessons]
    assert all(abs(image.mean()) < 0.3 and 0.5 < image.std() < 1.5 for image in images)
    assert lessons[0].source is source and [one.name for one in lessons] == ["", "volumes.0"]


def test_a_voxel_may_be_of_several_classes(specimen, small):
    """Balls lie in a slab that is a class of its own: both say yes where they meet."""
    ids = open_volume(specimen / "ids.zarr").read(Box.of((0, 0, 0), (32, 40, 48))) > 0
    slab = np.zeros(ids.shape, np.uint8)
    slab[8:24] = 2
    slab[30] = 255
    write_volume(specimen / "slab.zarr", slab)
    settings = {
        **small,
        "target": "multilabel",
        "loss": "ce",
        "classes": ["background", "soma", "slab"],
        "labels": [
            {"path": str(specimen / "slab.zarr")},
            {"path": str(specimen / "ids.zarr"), "instances_of": "soma"},
        ],
    }
    _, lessons = open_lessons(
        Model.model_validate(settings), str(specimen / "volume.json"), None, []
    )
    (region,) = lessons[0].regions("train", (16, 16, 16))
    labels = region.read(region.box)[1]
    target, counts = make_target(torch.from_numpy(labels), "multilabel", 3)
    soma, slab = ids[..., :32], slab[..., :32]
    known = (slab != 255) | soma
    assert np.array_equal(counts[0].numpy(), known)
    assert np.array_equal(target[1].numpy() > 0, soma)
    assert np.array_equal(target[2].numpy() > 0, slab == 2)
    assert np.array_equal(target[0].numpy() > 0, known & ~soma & (slab != 2))
    census = take_census([region], 3, bits=True)
    assert census.voxels.tolist() == target.sum((1, 2, 3)).int().tolist()
    facts = bundle.load(_train(specimen, settings, "m", truth=None)).facts
    assert facts.activation == "sigmoid" and facts.training["best_validation"] > 0


def test_volumes_that_do_not_fit_are_refused(specimen, second, small):
    settings = {**small, "volumes": [_other(second)]}
    with pytest.raises(TesseraError, match="1 further volumes, but 0 were given"):
        _train(specimen, settings, "m")
    meta = second / "volume.zarr" / "zarr.json"
    coarse = json.loads(meta.read_text().replace("1.0", "2.0"))
    meta.write_text(json.dumps(coarse))
    with pytest.raises(TesseraError, match="2 x 2 x 2 um, but the specimen's are 1 x 1 x 1 um"):
        _train(specimen, settings, "m", others=[second])
    with pytest.raises(TesseraError, match="volumes.0: voxels of 2 x 2 x 2"):
        check_config(_config(specimen, second))
    with pytest.raises(TesseraError, match=r"volumes.0.split.train: the box is 0 to 33 along x"):
        meta.write_text(json.dumps(coarse).replace("2.0", "1.0"))
        check_config(_config(specimen, second, train=[{"stop": [32, 32, 33]}]))
    assert check_config(_config(specimen, second)).shape == (32, 40, 48)


def _config(specimen, second, **split):
    return parse_config(
        {
            "specimen": "s",
            "results": str(specimen / "results"),
            "volume": {"path": str(specimen / "volume.zarr"), "voxel_um": [1, 1, 1]},
            "models": {
                "m": {"classes": ["background", "soma"], "volumes": [_other(second, **split)]}
            },
        }
    )


def test_a_flood_filling_network_takes_no_further_volumes(second):
    with pytest.raises(TesseraError, match="own volume alone"):
        parse_config(
            {
                "specimen": "s",
                "volume": {"path": "v.h5"},
                "models": {
                    "m": {
                        "net": "ffn",
                        "classes": ["background", "soma"],
                        "volumes": [_other(second)],
                    }
                },
            }
        )


EDGE = st.integers(0, 8)
SPAN = st.tuples(EDGE, EDGE).filter(lambda s: s[0] < s[1])
BOX = st.tuples(SPAN, SPAN, SPAN)
USED = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["train", "validation", "test"]), BOX), max_size=4
)


@given(USED)
def test_no_voxel_has_two_uses_in_whichever_entry(used):
    """Entry 0 is the specimen's own volume, 1 the same file again, 2 another file.

    Truth: uses painted voxel by voxel; an entry without training boxes trains on all of it.
    """
    splits = [{"train": [], "validation": [], "test": []} for _ in range(3)]
    masks = {(f, use): np.zeros(CUBE, bool) for f in "ab" for use in splits[0]}
    for entry, use, spans in used:
        start, stop = zip(*spans, strict=True)
        splits[entry][use].append({"start": start, "stop": stop})
        masks["aab"[entry], use][tuple(slice(*s) for s in spans)] = True
    sound = True
    for entry, split in enumerate(splits):
        if not split["train"]:
            masks["aab"[entry], "train"][:] = True
            sound &= not split["validation"] and not split["test"]
    for file in "ab":
        sound &= (sum(masks[file, use].astype(int) for use in splits[0]) < 2).all()
    entries = [{"volume": {"path": p}, "labels": [{"path": "l"}]} for p in ("a", "b")]
    config = {
        "specimen": "s",
        "volume": {"path": "a"},
        "models": {
            "m": {
                "classes": ["background", "soma"],
                "labels": [{"path": "l"}],
                "split": splits[0],
                "volumes": [
                    {**one, "split": split} for one, split in zip(entries, splits[1:], strict=True)
                ],
            }
        },
    }
    if sound:
        parse_config(config)
    else:
        with pytest.raises(TesseraError, match="overlap|whole volume"):
            parse_config(config)
