# SPDX-License-Identifier: Apache-2.0
"""The report of asv_bench/compare_peers.py, on what a run of it recorded."""

from __future__ import annotations

import importlib
import json
import re
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from support.folders import DATA, REPOSITORY

# From `compare_peers.py --isa avx2 --times 1 --rounds 3`.
RECORDED = DATA / "peer_comparison.json"


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(REPOSITORY / "asv_bench"))
    return importlib.import_module("comparison.report")


@pytest.fixture
def recorded() -> dict[str, Any]:
    return json.loads(RECORDED.read_text(encoding="utf-8"))


def rows(markdown: str, name: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in markdown.splitlines()
        if line.startswith(f"| {name} |")
    ]


def contender(recorded: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in recorded["contenders"] if each["name"] == name)


def test_json_holds_all_that_was_read(report: ModuleType) -> None:
    text = RECORDED.read_text(encoding="utf-8")
    assert report.Comparison.from_json(text).json() == text


def test_speeds_are_those_of_the_rounds(report: ModuleType, recorded: dict[str, Any]) -> None:
    markdown = report.markdown(report.Comparison.from_json(json.dumps(recorded)))
    ours = contender(recorded, "embellama F16")["seconds"]
    for each in recorded["contenders"]:
        if not each["seconds"]:
            continue
        speeds, _ = rows(markdown, each["name"])
        for workload, cell in zip(recorded["texts"], speeds[1:], strict=True):
            seconds = np.array(each["seconds"][workload])
            expected = [seconds.min(), np.median(seconds)]
            if workload == "one":
                expected = [1000 * value for value in expected]
            else:
                expected = [recorded["texts"][workload] / value for value in expected]
            if each["name"] != "embellama F16":
                expected.append(np.median(seconds / ours[workload]))
            printed = [float(value) for value in re.findall(r"[\d.]+", cell)]
            # Three digits are printed at least, but two of a ratio below 1.
            assert printed == pytest.approx(expected, rel=0.005, abs=0.005)


def test_the_mean_cosine_counts_each_text_once(
    report: ModuleType, recorded: dict[str, Any]
) -> None:
    each = contender(recorded, "onnxruntime int8")
    cosines = np.array([each["cosines"][workload] for workload in recorded["texts"]])
    counts = list(recorded["texts"].values())
    expected = [cosines[:, 0].min(), np.average(cosines[:, 1], weights=counts)]
    markdown = report.markdown(report.Comparison.from_json(json.dumps(recorded)))
    _, costs = rows(markdown, each["name"])
    assert [float(cell) for cell in costs[1:3]] == pytest.approx(expected, abs=1e-7)


def test_what_is_not_measured_is_in_the_table_with_the_reason(
    report: ModuleType, recorded: dict[str, Any]
) -> None:
    markdown = report.markdown(report.Comparison.from_json(json.dumps(recorded)))
    missing = [each for each in recorded["contenders"] if each["unavailable"]]
    assert [each["name"] for each in missing] == ["openvino bf16", "openvino int8", "torch bf16"]
    for each in missing:
        (speeds,) = rows(markdown, each["name"])
        assert speeds[1] == f"not measured: {each['unavailable']}"
        assert len(speeds) == 1 + len(recorded["texts"])


def test_without_the_baseline_there_are_no_ratios(
    report: ModuleType, recorded: dict[str, Any]
) -> None:
    recorded["contenders"] = [contender(recorded, "torch fp32")]
    markdown = report.markdown(report.Comparison.from_json(json.dumps(recorded)))
    speeds, _ = rows(markdown, "torch fp32")
    assert all(re.fullmatch(r"[\d.]+ \([\d.]+\)", cell) for cell in speeds[1:])
