"""The gauges that a study exports are those that the Grafana dashboard queries."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

import study
from study.results.trials import STATUSES
from tests.conftest import PATIENCE

DASHBOARD = Path(study.__file__).with_name("grafana-dashboard.json")
PANELS = {
    "Best validation mAP by loss",
    "Validation mAP by trial",
    "Losses by trial",
    "Images per second",
    "Trials by status",
}

# Exports two trials, the second of which fails, and prints what the node's metrics port says.
EXPORT = """
import contextlib, re, sys, time, urllib.request
from pathlib import Path
import ray
from study.run import gauges as metrics
from study.run.gauges import Gauges
from study.results.studies import Study
from study.results.trials import TrialRecord
from tests.configurations import REFERENCES

metrics.STUDY_EVERY = float("inf")  # the same calls set the same gauges, however slow they are
ray.init(
    address="local", num_cpus=1, include_dashboard=False, log_to_driver=False,
    _system_config={"metrics_report_interval_ms": 500},
)
node = ray.nodes()[0]
url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
study = Study.create(Path(sys.argv[1]), {"plan": {"losses": ["smooth_ap", "triplet"]}})
gauges = Gauges(study)
for loss, val_map in (("smooth_ap", 0.5), ("triplet", 0.25)):
    trial = TrialRecord(f"{loss}-000", REFERENCES[loss])
    study.trials.append(trial)
    row = {"train_loss": 2.0, "val_loss": 3.0, "images_per_second": 1000.0}
    for epoch, value in ((1, 2 * val_map), (2, val_map)):
        trial.add_epoch({**row, "epoch": epoch, "val_map": value})
        gauges(trial)
trial.status = "failed"
gauges(trial)
text, last = "", re.compile(r'ray_study_trials{[^}]*status="failed"[^}]*} 1')
while not last.search(text):  # set last of all
    time.sleep(0.5)
    with contextlib.suppress(OSError), urllib.request.urlopen(url) as answer:
        text = answer.read().decode()
print(text)
"""


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    return json.loads(DASHBOARD.read_text())


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Sample]]:
    folder = tmp_path_factory.mktemp("results") / "s"
    command = [sys.executable, "-c", EXPORT, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    samples = defaultdict(list)
    for family in text_string_to_metric_families(done.stdout):
        for sample in family.samples:
            samples[sample.name].append(sample)
    return samples


def by(samples: list[Sample], tag: str) -> dict[str, float]:
    assert {sample.labels["study"] for sample in samples} == {"s"}
    return {sample.labels[tag]: sample.value for sample in samples}


def test_the_gauges_say_what_the_records_say(exposed: dict[str, list[Sample]]) -> None:
    trials = {"smooth_ap-000": 0.5, "triplet-000": 0.25}
    assert by(exposed["ray_study_validation_map"], "trial") == trials
    assert by(exposed["ray_study_training_loss"], "trial") == dict.fromkeys(trials, 2.0)
    assert by(exposed["ray_study_validation_loss"], "trial") == dict.fromkeys(trials, 3.0)
    assert by(exposed["ray_study_images_per_second"], "loss") == {
        "smooth_ap": 1000.0,
        "triplet": 1000.0,
    }
    best = by(exposed["ray_study_best_validation_map"], "loss")
    assert best == {"smooth_ap": 1.0}  # the only trial of triplet loss failed
    counts = by(exposed["ray_study_trials"], "status")
    assert {status: n for status, n in counts.items() if n} == {"running": 1.0, "failed": 1.0}
    assert counts.keys() == {*STATUSES}


def test_the_dashboard_queries_what_is_exposed(
    dashboard: dict[str, Any], exposed: dict[str, list[Sample]]
) -> None:
    panels = {panel["title"]: panel for panel in dashboard["panels"]}
    assert set(panels) == PANELS
    queried = set()
    for panel in panels.values():
        for target in panel["targets"]:
            (name,) = re.findall(r"ray_study_\w+", target["expr"])
            grouped = re.findall(r"by \(([^)]*)\)", target["expr"])[0].split(", ")
            shown = re.findall(r"{{(\w+)}}", target["legendFormat"])
            assert shown == grouped
            assert exposed[name], f"{name} is not exposed"
            assert all(set(grouped) <= set(sample.labels) for sample in exposed[name])
            queried.add(name)
    assert queried == {name for name in exposed if name.startswith("ray_study_")}


def test_the_dashboard_lets_a_user_choose_source_and_study(dashboard: dict[str, Any]) -> None:
    source, choice = dashboard["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == (
        "datasource",
        "datasource",
        "prometheus",
    )
    assert choice["name"] == "study"
    assert choice["query"]["query"] == "label_values(ray_study_trials, study)"
    for panel in dashboard["panels"]:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert all('study=~"$study"' in target["expr"] for target in panel["targets"])
