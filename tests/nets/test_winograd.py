"""Minimal filtering against torch's own convolutions."""

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from tessera.nets.winograd import convolve, fits, transform

CLOSE = 5e-5  # of results whose spread is about one
SIZES = st.tuples(*[st.integers(3, 17)] * 3)


def last(x):
    return x.permute(0, 2, 3, 4, 1)


def first(x):
    return x.permute(0, 4, 1, 2, 3)


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=40, deadline=None)
@given(
    samples=st.integers(1, 3),
    size=SIZES,
    inputs=st.sampled_from([8, 16, 24, 64]),
    outputs=st.sampled_from([8, 16, 24, 32, 40, 48]),
    pad=st.integers(0, 1),
    relu_in=st.booleans(),
    slope=st.sampled_from([1.0, 0.0, 0.25]),
    biased=st.booleans(),
    threads=st.integers(1, 3),
)
def test_it_is_the_convolution(
    samples, size, inputs, outputs, pad, relu_in, slope, biased, threads
):
    x = random(samples, inputs, *size, seed=1)
    weight = random(outputs, inputs, 3, 3, 3, seed=2) / (27 * inputs) ** 0.5
    bias = random(outputs, seed=3) if biased else None
    wanted = functional.conv3d(torch.relu(x) if relu_in else x, weight, bias, padding=pad)
    wanted = functional.leaky_relu(wanted, slope)
    made = convolve(
        last(x), transform(weight), bias, threads, pad=pad, relu_in=relu_in, slope=slope
    )
    torch.testing.assert_close(first(made), wanted, atol=CLOSE, rtol=0)


def test_wide_maps_and_many_channels():
    # More tiles along x than a patch holds, more channels than a cache.
    x = random(1, 72, 5, 4, 130, seed=1)
    weight = random(64, 72, 3, 3, 3, seed=2) / (27 * 72) ** 0.5
    made = first(convolve(last(x), transform(weight)))
    torch.testing.assert_close(made, functional.conv3d(x, weight, padding=1), atol=CLOSE, rtol=0)


@pytest.mark.parametrize(("slope", "slope_of_sum"), [(1.0, 0.0), (0.25, 1.0), (0.0, 0.5)])
def test_several_maps_are_joined_and_a_part_of_a_map_is_added(slope, slope_of_sum):
    a, b = random(2, 8, 7, 8, 40, seed=1), random(2, 24, 7, 8, 40, seed=2)
    weight = random(16, 32, 3, 3, 3, seed=3) / 30
    there = random(2, 16, 9, 11, 42, seed=4)[:, :, 1:-1, 3:, :-2]
    made = convolve(
        [last(a), last(b)], transform(weight), slope=slope, beside=last(there),
        slope_of_sum=slope_of_sum,
    )  # fmt: skip
    convolved = functional.conv3d(torch.cat([a, b], 1), weight, padding=1)
    wanted = functional.leaky_relu(functional.leaky_relu(convolved, slope) + there, slope_of_sum)
    torch.testing.assert_close(first(made), wanted, atol=CLOSE, rtol=0)


def test_a_sum_may_go_where_it_came_from():
    a, there = random(1, 8, 7, 8, 9, seed=1), random(1, 16, 7, 8, 9, seed=4)
    weight = random(16, 8, 3, 3, 3, seed=3) / 15
    out = last(there).contiguous()
    assert convolve(last(a), transform(weight), beside=out, out=out) is out
    wanted = there + functional.conv3d(a, weight, padding=1)
    torch.testing.assert_close(first(out), wanted, atol=CLOSE, rtol=0)


def test_a_part_of_a_map_is_not_copied_wrongly():
    whole = random(1, 12, 11, 13, 16, seed=1)
    weight = random(8, 16, 3, 3, 3, seed=2) / 20
    part = whole[:, 2:9, 3:, 1:-2]
    made = convolve(part, transform(weight), pad=0)
    wanted = functional.conv3d(first(part), weight)
    torch.testing.assert_close(first(made), wanted, atol=CLOSE, rtol=0)


def test_threads_samples_and_calls_change_no_bit():
    x = random(3, 16, 11, 13, 40, seed=1)
    kernel = transform(random(32, 16, 3, 3, 3, seed=2))
    one = convolve(last(x), kernel)
    for threads in (1, 2, 3, 50):
        assert torch.equal(convolve(last(x), kernel, threads=threads), one)
    assert torch.equal(convolve(last(x[1:2]), kernel, threads=2), one[1:2])


def test_what_is_not_a_number_is_seen():
    x = torch.zeros(1, 3, 3, 3, 8)
    x[0, 1, 1, 1, 0] = torch.nan
    kernel = transform(random(8, 8, 3, 3, 3))
    assert convolve(x, kernel, relu_in=True, slope=0).isnan().any()


@pytest.mark.parametrize(
    ("shape", "does"),
    [
        ((16, 8, 3, 3, 3), True),
        ((12, 8, 3, 3, 3), False),
        ((8, 1, 3, 3, 3), False),
        ((8, 8, 1, 3, 3), False),
    ],
)
def test_only_whole_vectors_of_cubes_fit(shape, does):
    assert fits(torch.zeros(shape)) is does


def test_narrow_and_wide_vectors_sum_alike():
    """The same bytes on a processor without 512-bit vectors, which this one then plays."""
    script = """
import hashlib, torch
from tessera.nets.winograd import convolve, transform
from tessera.nets.winograd_gradient import weight_gradient
for inputs, outputs in ((16, 32), (24, 24), (8, 48)):
    rand = lambda *s: torch.randn(s, generator=torch.Generator().manual_seed(0))
    x, w, y = rand(1, 7, 8, 9, inputs), rand(outputs, inputs, 3, 3, 3), rand(1, 7, 8, 9, outputs)
    made = convolve(x, transform(w), relu_in=True)
    slope = weight_gradient(x.permute(0, 4, 1, 2, 3), y.permute(0, 4, 1, 2, 3))
    print(*(hashlib.sha256(t.numpy().tobytes()).hexdigest() for t in (made, slope)))
"""
    narrow = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma"}
    found = [
        subprocess.run(
            [sys.executable, "-c", script], env=os.environ | env, check=True, text=True,
            stdout=subprocess.PIPE,
        ).stdout
        for env in ({}, narrow)
    ]  # fmt: skip
    assert found[0] == found[1] != ""
