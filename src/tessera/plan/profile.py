"""What a Snakemake profile asks for each rule: ranks, threads, memory, walltime, GPUs.

Only numbers are taken, as they stand for a job's first attempt: ``4000 * attempt`` is 4000. What
depends on anything else (a job's input, a Python lambda) is passed over.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tessera.errors import TesseraError
from tessera.plan.estimate import Placement

_CALCULATE: dict[type, Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
}
_CALLS: dict[str, Callable[..., float]] = {"min": min, "max": max, "int": int, "round": round}
_MINUTES = {"s": 1 / 60, "m": 1.0, "h": 60.0, "d": 1440.0, "w": 10080.0}
_MB = {"B": 1e-6, "K": 1e-3, "M": 1.0, "G": 1e3, "T": 1e6}
# The names under which plugins know GPUs of a job, and of each of its ranks.
_GPUS, _GPUS_A_TASK = ("gpu", "gpus", "ngpus", "nvidia_gpu"), "gpus_per_task"


class Profile:
    """Placements by rule; a rule that the profile does not name gets the default."""

    def __init__(self, data: dict[str, Any] | None = None) -> None:
        data = data or {}
        self._default = _pairs(data.get("default-resources"))
        self._rules: dict[str, dict[str, Any]] = {}
        for section in ("set-resources", "set-threads"):
            for rule, asked in _of_rules(data.get(section)):
                given = {"threads": asked} if section == "set-threads" else _pairs(asked)
                self._rules.setdefault(rule, {}).update(given)

    def of(self, rule: str) -> Placement:
        """Return how a rule's jobs are placed.

        Memory and ranks of the default are left out: a rule's own come before them.
        """
        named = self._rules.get(rule, {})
        tasks, threads = _number(named.get("tasks")), _number(named.get("threads"))
        gpus = max((_number(named.get(name)) or 0.0 for name in _GPUS), default=0.0)
        gpus = gpus or (_number(named.get(_GPUS_A_TASK)) or 0.0) * (tasks or 1)
        memory = _number(named.get("mem_mb")) or _sized(named.get("mem"), _MB)
        both = self._default | named
        minutes = _sized(both.get("runtime"), _MINUTES)
        return Placement(
            None if tasks is None else int(tasks),
            None if threads is None else int(threads),
            int(gpus),
            None if memory is None else memory * 1e6,
            None if minutes is None else minutes * 60,
        )


def read_profile(folder: Path) -> Profile:
    """Read a profile: a folder with ``config.yaml`` (or ``config.v8+.yaml``), or the file itself.

    Raises:
        TesseraError: there is none, or it is not YAML.
    """
    places = [folder] if folder.is_file() else sorted(folder.glob("config*.yaml"), reverse=True)
    if not places:
        raise TesseraError(f"{folder}: no profile here; give a folder such as profiles/slurm")
    try:
        data = yaml.safe_load(places[0].read_text())
    except (OSError, yaml.YAMLError) as error:
        said = " ".join(str(error).split())
        raise TesseraError(f"{places[0]}: is no profile ({said}); give one in YAML") from None
    if not isinstance(data, dict):
        raise TesseraError(f"{places[0]}: is no profile; expected 'key: value' lines")
    return Profile(data)


def _of_rules(given: Any) -> list[tuple[str, Any]]:
    """``{rule: value}``, or the command line's ``[rule=value]`` and ``[rule:name=value]``."""
    if isinstance(given, dict):
        return list(given.items())
    found = []
    for item in given if isinstance(given, list) else []:
        left, _, value = str(item).partition("=")
        rule, colon, name = left.partition(":")
        found.append((rule, {name: value} if colon else value))
    return found


def _pairs(given: Any) -> dict[str, Any]:
    if isinstance(given, dict):
        return given
    split = (str(item).partition("=") for item in given) if isinstance(given, list) else ()
    return {name.strip(): value.strip() for name, _, value in split}


def _sized(given: Any, units: dict[str, float]) -> float | None:
    """A number, or one with a unit such as ``2h`` or ``4GB``."""
    match = re.fullmatch(r"([\d.]+)\s*([A-Za-z])(?:i?[bB])?", str(given).strip().strip("\"'"))
    if match and match[2] in units:
        return float(match[1]) * units[match[2]]
    return _number(given)


def _number(given: Any) -> float | None:
    """The value of a number or of arithmetic on the first attempt; None for anything else."""
    try:
        return _value(ast.parse(str(given).strip().strip("\"'"), mode="eval").body)
    except (SyntaxError, ValueError, ArithmeticError, TypeError):
        return None


def _value(node: ast.expr) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(node.value)
    if isinstance(node, ast.Name) and node.id == "attempt":
        return 1.0
    if isinstance(node, ast.BinOp) and type(node.op) in _CALCULATE:
        return _CALCULATE[type(node.op)](_value(node.left), _value(node.right))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _CALLS:
        return float(_CALLS[node.func.id](*map(_value, node.args)))
    raise ValueError("not arithmetic")
