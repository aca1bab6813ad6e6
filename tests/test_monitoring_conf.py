"""conf/alerts.yml and conf/grafana-dashboard.json are well-formed.

Whether the metrics that they ask for exist is asked of two real workers in compat/test_observe.py.
"""

import json
import re
import shutil
import subprocess
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


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian: prometheus) is not installed")
def test_promtool_takes_the_rules():
    done = subprocess.run(
        ["promtool", "check", "rules", CONF / "alerts.yml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS: 12 rules found" in done.stdout
