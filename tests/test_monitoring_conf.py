"""conf/alerts.yml and conf/grafana-dashboard.json are well-formed.

Whether the metrics that they ask for exist is asked of two real workers in compat/test_observe.py.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONF = Path(__file__).parents[1] / "conf"


def test_every_panel_has_its_place_and_its_questions():
    board = json.loads((CONF / "grafana-dashboard.json").read_text())
    panels = board["panels"]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(panels) == len({panel["id"] for panel in panels}) > 10
    for panel in panels:
        assert panel["targets"], panel["title"]
        for target in panel["targets"]:
            assert 'instance=~"$instance"' in target["expr"]
            # What a legend names must be left by the question.
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                assert re.search(rf"by \([^)]*\b{label}\b[^)]*\)", target["expr"]), target


PROMTOOL = shutil.which("promtool") or shutil.which("promtool", path=str(Path(sys.executable).parent))
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool (Debian: prometheus) is not installed")


def promtool(*arguments):
    assert PROMTOOL is not None
    return subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, check=False)


@needs_promtool
def test_promtool_takes_the_rules():
    done = promtool("check", "rules", CONF / "alerts.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS: 15 rules found" in done.stdout


# What two servers say every minute for half an hour: a is well, b is not.
SERIES = {
    'up{job="govc",instance="a"}': "1x40",
    'up{job="govc",instance="b"}': "0x40",
    'govc_http_requests_total{instance="a",status="200"}': "0+600x40",
    'govc_http_requests_total{instance="a",status="500"}': "0+6x40",
    'govc_http_requests_total{instance="b",status="200"}': "0+600x40",
    'govc_http_requests_total{instance="b",status="500"}': "0+60x40",
    'govc_http_unfinished_total{instance="a"}': "0+6x40",
    'govc_http_unfinished_total{instance="b"}': "0+600x40",
    'govc_log_failed_syncs_total{instance="a"}': "0x40",
    'govc_log_failed_syncs_total{instance="b"}': "0+1x40",
    'govc_log_failed_appends_total{instance="b"}': "0+1x40",
    'govc_log_sync_duration_seconds_bucket{instance="a",le="0.5"}': "0+100x40",
    'govc_log_sync_duration_seconds_bucket{instance="a",le="2.0"}': "0+101x40",
    'govc_log_sync_duration_seconds_bucket{instance="a",le="+Inf"}': "0+101x40",
    'govc_log_sync_duration_seconds_bucket{instance="b",le="0.5"}': "0+10x40",
    'govc_log_sync_duration_seconds_bucket{instance="b",le="2.0"}': "0+101x40",
    'govc_log_sync_duration_seconds_bucket{instance="b",le="+Inf"}': "0+101x40",
    'govc_log_size_bytes{instance="a"}': "8000000x40",
    'govc_log_size_bytes{instance="b"}': "600000000x40",
    'govc_log_failed_checkpoints_total{instance="b"}': "0+1x40",
    'govc_log_records_total{instance="a"}': "0+5x40",
    'govc_log_checkpoints_total{instance="a"}': "0+1x40",
    'govc_log_records_total{instance="b"}': "0+5x40",
    'govc_log_checkpoints_total{instance="b"}': "0x40",
    'govc_log_recoveries_total{instance="b"}': "0+1x40",
    'govc_login_file_refused{instance="a",file="tokens"}': "0x40",
    'govc_login_file_refused{instance="b",file="tokens"}': "1x40",
    'govc_audit_failed_total{instance="b"}': "0+1x40",
    'govc_logins_total{instance="a",outcome="refused"}': "0+30x40",
    'govc_logins_total{instance="b",outcome="refused"}': "0+120x40",
    'govc_limit_refusals_total{instance="a",limit="rate"}': "0+2x40",
    'govc_limit_refusals_total{instance="b",limit="rate"}': "0+60x40",
    'govc_helpers_waiting{instance="a",work="requests"}': "0x40",
    'govc_helpers_waiting{instance="b",work="requests"}': "3x40",
}


@needs_promtool
def test_each_alert_is_raised_for_the_server_that_is_ill_and_for_no_other(tmp_path):
    rules = re.findall(
        r"- alert: (\w+).*?severity: (\w+).*?summary: \"(.*?)\"\n", (CONF / "alerts.yml").read_text(), re.S
    )
    assert len(rules) == 15
    cases = []
    for name, severity, summary in rules:
        labels = {"instance": "b", "severity": severity}
        own = {"GovcDown": {"job": "govc"}, "GovcFileRefused": {"file": "tokens"}, "GovcRefusing": {"limit": "rate"}}
        labels |= own.get(name, {})
        said = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda match, labels=labels: labels[match[1]], summary)
        raised = [{"exp_labels": labels, "exp_annotations": {"summary": said}}]
        cases.append({"eval_time": "35m", "alertname": name, "exp_alerts": raised})
    test = {
        "rule_files": [str(CONF / "alerts.yml")],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in SERIES.items()],
                "alert_rule_test": cases,
            }
        ],
    }
    (tmp_path / "test.json").write_text(json.dumps(test))  # JSON is YAML
    done = promtool("test", "rules", tmp_path / "test.json")
    assert done.returncode == 0, done.stdout + done.stderr
