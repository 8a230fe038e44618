"""Alerts, dashboard and runbook: what they name exists, and the alerts ring when they must."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from licensesvc.metrics import Metrics
from tests.support_process import CHECKOUT
from tests.support_tools import run, tool

DEPLOY = CHECKOUT / "deploy"
ALERTS = DEPLOY / "prometheus/alerts.yaml"
RULES = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
NAMES = [rule["alert"] for rule in RULES]
DASHBOARD = json.loads((DEPLOY / "grafana/licensesvc.json").read_text())
RUNBOOK = (DEPLOY / "runbook.md").read_text()
SCRAPED = {"up": set()}
"""What Prometheus itself adds."""


def known() -> dict[str, set[str]]:
    """Every sample name with its labels, after one of each was recorded."""
    metrics = Metrics()
    metrics.request("GET", "/healthz", 200, 0.1)
    metrics.batch(1, 0.1, 0.1)
    metrics.signed(0.1)
    metrics.licenses({"ACTIVE": 1})
    metrics.outbox(waiting=0, given_up=0, age_seconds=0)
    metrics.delisting("con_1", "failed_orders", 1, 5, 0)
    metrics.webhook("delivered")
    names = dict(SCRAPED)
    for family in metrics.families():
        for sample in family.samples:
            names.setdefault(sample.name, set()).update(sample.labels)
    return names


def unknown(expression: str) -> list[str]:
    """Metrics and labels of a PromQL expression that no server has."""
    names = known()
    wrong = [name for name in re.findall(r"\b(?:licensesvc|process)_[a-z_]+\b", expression) if name not in names]
    for name, matchers in re.findall(r"\b([a-z_]+)\{([^}]*)\}", expression):
        labels = set(re.findall(r"(\w+)(?:=~|!~|!=|=)", matchers)) - {"job", "instance"}
        wrong += [f"{name}{{{label}}}" for label in labels - names.get(name, set())]
    return wrong


def queries() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def test_promtool_accepts_the_alerts():
    outcome = run(tool("promtool"), "check", "rules", ALERTS)

    assert outcome.returncode == 0, outcome.stderr


def test_the_alerts_ring_for_a_sick_server_and_not_for_a_well_one():
    outcome = run(tool("promtool"), "test", "rules", DEPLOY / "prometheus/alerts_test.yaml")

    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


@pytest.mark.parametrize("name", NAMES)
def test_an_alert_that_never_rings_would_be_found(name: str, tmp_path: Path):
    rules = yaml.safe_load(ALERTS.read_text())
    next(rule for rule in rules["groups"][0]["rules"] if rule["alert"] == name)["expr"] = "vector(0) > 1"
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(rules))
    (tmp_path / "test.yaml").write_text((DEPLOY / "prometheus/alerts_test.yaml").read_text())

    assert run(tool("promtool"), "test", "rules", tmp_path / "test.yaml").returncode != 0


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_an_alert_asks_for_metrics_that_exist_and_has_its_section(rule: dict[str, Any]):
    assert unknown(rule["expr"]) == []
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"]["runbook_url"] == f"deploy/runbook.md#{rule['alert'].lower()}"
    assert f"\n## {rule['alert']}\n" in RUNBOOK


def test_every_section_of_the_runbook_is_an_alert():
    assert re.findall(r"^## (\w+)$", RUNBOOK, re.MULTILINE) == NAMES


def test_every_query_of_the_dashboard_asks_for_metrics_that_exist():
    assert len(queries()) > 10
    assert [wrong for query in queries() for wrong in unknown(query)] == []


def test_the_dashboard_shows_every_metric_of_ours():
    shown = " ".join(queries())
    families = [family.name for family in Metrics().families() if family.name.startswith("licensesvc_")]

    assert [name for name in families if name not in shown] == []


def test_every_query_of_the_dashboard_is_promql(tmp_path: Path):
    promtool = tool("promtool")
    rules = [
        {"record": f"panel:{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, query in enumerate(queries())
    ]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    outcome = run(promtool, "check", "rules", tmp_path / "rules.yaml")

    assert outcome.returncode == 0, outcome.stderr


def test_a_metric_or_label_that_does_not_exist_would_be_found():
    assert unknown("rate(licensesvc_http_requests_total[5m])") == ["licensesvc_http_requests_total"]
    assert unknown('licensesvc_licenses{phase="ACTIVE"}') == ["licensesvc_licenses{phase}"]
    assert unknown('licensesvc_licenses{state="ACTIVE"}') == []
