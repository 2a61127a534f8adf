"""`commonwatt network validate` and `hosting`: verdicts, exit codes, a run's folder, a table, and the page."""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from network.assumed import Reactive, Uncertainty
from network.envelope import compute
from sim.network_case import load
from sim.network_case_prepared import prepared
from sim.network_page import Picture
from sim.network_report_validation import page
from sim.network_validate import case_words, validate, verdict
from sim.network_validate_given import of_case, of_run
from sim.results import Run
from sim.run_feeder import feeder_of

CASE = """\
name: street
seed: 3
grid: {source: street, v_min_pu: 0.95, v_max_pu: 1.05, monitored: all}
customers:
  export_cap_kw: 30
  import_cap_kw: 30
base_load: {from: none}
validation: {samples: 300, data: {load_percent: 10.0}, messages: {draws: 2}}
hosting: {size_kw: 25.0, placements: 20}
"""


@pytest.fixture
def street(tmp_path):
    """Three customers on three phases at the end of one cable, as CSV tables with a case beside them."""
    folder = tmp_path / "street"
    folder.mkdir()
    (folder / "buses.csv").write_text(
        "bus_id,v_nominal_v,is_source,source_v_pu,x,y\ns,400,true,1.0,0,0\nm,400,false,,30,10\ne,400,false,,80,0\n"
    )
    (folder / "branches.csv").write_text(
        "branch_id,kind,from_bus,to_bus,r1_ohm,x1_ohm,c1_nf,r0_ohm,x0_ohm,c0_nf,rating_a\n"
        "L,line,s,m,0.04,0.01,0,0.15,0.03,0,200\nM,line,m,e,0.04,0.01,0,0.15,0.03,0,200\n"
    )
    (folder / "connections.csv").write_text("agent_id,bus_id,phase,base_kw\nanna,e,a,1\nben,e,b,1\ncleo,e,c,1\n")
    path = tmp_path / "case.yaml"
    path.write_text(CASE)
    return path


def test_an_unsafe_envelope_ends_with_one_and_names_what_breaks(street, call):
    """The two-corner envelope: UNSAFE first, with use, bus, phase and size; JSON says the same."""
    code, out, _ = call("network", "validate", str(street))
    assert code == 1
    assert re.match(
        r"UNSAFE  street: bus e, phase [abc] (falls|rises) to \d\.\d+ pu, \d\.\d+ pu (below|above) its limit", out
    )
    assert "export" in out.splitlines()[0]
    code, text, _ = call("network", "validate", str(street), "--json")
    told = json.loads(text)
    assert code == 1
    assert told["status"] == "unsafe"
    assert told["referee"]["agrees"]
    worst = told["worst"][0]
    assert worst["excess"] == pytest.approx(worst["excess_by_referee"], abs=1e-8)
    assert told["uses"][0]["use"] == "corners"
    assert told["uses"][0]["violations"] > 0


def test_a_robust_envelope_ends_with_nought_and_tells_its_price(street, call):
    """SAFE, and the line `robust` says what is given up; nothing is given away at the corners."""
    code, out, _ = call("network", "validate", str(street), "--set", "envelopes.mode=robust")
    assert code == 0
    assert out.startswith("SAFE  street: none of ")
    assert re.search(r"robustness   \d\S* % less export and \d\S* % less import than the two-corner envelope", out)
    code, text, _ = call(
        "network", "validate", str(street), "--set", "envelopes.mode=robust", "--json", "--samples", "50"
    )
    told = json.loads(text)
    assert told["cost_of_robustness_export"] > 0.1
    assert abs(told["conservatism_export"]) < 1e-3
    assert told["samples"] == 50


@pytest.mark.parametrize("rule", ["equal", "proportional"])
def test_robustness_costs_what_the_same_rule_could_promise_without_it(street, rule):
    """One minus robust over deterministic, both of the case's rule, caps, floors and power factor, straight from the envelopes."""
    sets = (
        f"envelopes.rule={rule}", "envelopes.reactive.kind=power_factor", "envelopes.import_floor_kw=0.5",
        "envelopes.uncertainty.impedance_percent=10",
    )  # fmt: skip
    (street.parent / "street" / "connections.csv").write_text(
        "agent_id,bus_id,phase,base_kw\nanna,m,a,1\nben,e,b,1\ncleo,e,c,1\n"
    )
    ready = prepared(load(street, (*sets, "envelopes.mode=robust")))
    result = validate(of_case(ready), 20)
    active = np.ones(3, bool)
    limits = {
        mode: compute(
            ready.model, ready.base_injection_kw, ready.base_injection_kvar, active, ready.export_cap_kw, ready.import_cap_kw,
            ready.limits, rule=rule, mode=mode, source_v_pu=ready.source_v_pu, import_floor_kw=np.full(3, 0.5),
            reactive=Reactive.power_factor(0.95), uncertainty=doubt,
        )
        for mode, doubt in (("robust", Uncertainty(impedance_percent=10.0)), ("deterministic", Uncertainty()))
    }  # fmt: skip
    costs = [
        1.0 - getattr(limits["robust"], side).sum() / getattr(limits["deterministic"], side).sum()
        for side in ("import_limit_kw", "export_limit_kw")
    ]
    assert result.cost_of_robustness == pytest.approx(costs, rel=1e-9)
    assert min(costs) > 0.05


def test_quiet_says_nothing_and_mistakes_are_told(street, call):
    """--quiet leaves the exit code alone; an unknown key of the section, and a file for a folder, are refused with 2."""
    code, out, err = call("network", "validate", str(street), "--quiet", "--samples", "20")
    assert (code, out, err) == (1, "", "")
    code, _, err = call("network", "validate", str(street), "--set", "validation.sample=3")
    assert code == 2
    assert "validation.sample" in err
    code, _, err = call("network", "validate", str(street), "--out", str(street))
    assert code == 2
    assert "is a file" in err


def test_envelopes_of_a_table_are_tried(street, call):
    """What `network envelopes` writes is read again, for everybody; a stranger in it is told with the line of the case."""
    table = street.parent / "limits.csv"
    table.write_text(
        "time,agent_id,import_limit_kw,export_limit_kw\n"
        + "".join(f"2030-06-01T12:00Z,{who},0.5,0.5\n" for who in ("anna", "ben", "cleo"))
    )
    code, out, _ = call("network", "validate", str(street), "--set", "validation.file=limits.csv")
    assert code == 0
    assert "read from limits.csv" in out
    assert re.search(r"robustness   \d\S* % less export and \d\S* % less import than the two-corner envelope", out)
    generous = table.read_text().replace("0.5,0.5", "40,40")
    table.write_text(generous)
    code, out, _ = call("network", "validate", str(street), "--set", "validation.file=limits.csv")
    assert code == 1
    assert re.search(
        r"robustness   \S+ % more export and \S+ % more import than the two-corner envelope of the same rule", out
    )
    table.write_text(generous.replace("cleo", "clea"))
    code, _, err = call("network", "validate", str(street), "--set", "validation.file=limits.csv")
    assert code == 2
    assert '"clea", who is no customer' in err


def test_intervals_without_a_feasible_envelope_are_told_and_end_with_three(street, call):
    """A passive load that breaks a limit alone: nothing is promised, the element is named, exit code 3."""
    code, out, _ = call(
        "network", "validate", str(street), "--set", "customers.passive=[anna]", "--set", "base_load.from=nameplate",
        "--set", "base_load.factor=60", "--samples", "20",
    )  # fmt: skip
    assert code == 3
    assert re.search(r"infeasible   interval 0: \w+ is beyond its limit", out)
    code, out, _ = call(
        "network", "validate", str(street), "--set", "customers.passive=[anna]", "--set", "base_load.from=nameplate",
        "--set", "base_load.factor=1000", "--samples", "20",
    )  # fmt: skip
    assert code == 3
    assert "infeasible   interval 0: the power flow has no solution before anybody does anything" in out


def test_a_run_is_tried_with_its_own_meters(tiny_run):
    """Three homes and a store of a written-down run: the feeder from its tables, the meters as dispatch, compliance."""
    case = load("ieee33")
    given = of_run(tiny_run, case)
    run = Run(tiny_run)
    meters = run.query("SELECT meter_kw FROM meters ORDER BY agent_id, time").to_pydict()["meter_kw"]
    built = feeder_of(run)
    flow = built.model.solve(given.base_injection_kw, given.base_injection_kvar, given.source_v_pu)
    told = run.query("SELECT v_pu FROM bus_voltages ORDER BY bus_id, time").to_pydict()["v_pu"]

    np.testing.assert_allclose(given.dispatch_injection_kw.ravel(), -np.array(meters))
    np.testing.assert_allclose(flow.v_pu.ravel(), told, atol=1e-9)
    result = validate(given, 100)
    dispatch = next(tally for tally in result.found.tallies if tally.kind == "dispatch")
    assert dispatch.tried == 8
    assert np.isnan(dispatch.probability_at_most)
    assert given.compliance is not None
    assert result.found.certificate.agrees


def test_words_of_a_case_say_value_limit_and_difference(street):
    """The verdict names use and element; value minus limit is the difference that is told."""
    result = validate(of_case(prepared(load(street))), 60)
    case = result.found.worst_case
    numbers = [float(one) for one in re.findall(r"\d+\.\d+", case_words(case))]

    assert abs(numbers[0] - numbers[2]) == pytest.approx(numbers[1], abs=1e-4)
    assert case_words(case) in verdict(result)


# --- the page -----------------------------------------------------------------------------------------------------------


def figures_of(html):
    """The figures inside a page, unpacked."""
    text = re.search(r'id="data">(.*?)</script>', html, re.DOTALL).group(1)
    return json.loads(gzip.decompress(base64.b64decode(text)))


def test_the_page_holds_what_was_found_and_asks_for_nothing(street, call, tmp_path):
    """Verdict, table and pictures in one file; the profile has every node; the bars are the limits of the JSON."""
    out = tmp_path / "tried"
    code, text, _ = call("network", "validate", str(street), "--out", str(out))
    html, told = (out / "report.html").read_text(encoding="utf-8"), json.loads((out / "result.json").read_text())
    figures = figures_of(html)

    assert code == 1
    assert str(out / "report.html") in text
    assert "Unsafe." in html
    assert not re.search(r'(src|href)="https?:', html)
    assert sum(len(trace["y"]) for trace in figures["profile"]["data"]) == 9
    bars = figures["customers"]["data"][0]
    assert sorted(bars["y"]) == pytest.approx(
        sorted(one["export_limit_kw"][0] for one in told["limits"].values()), abs=1e-3
    )
    assert {"profile", "map", "ridges", "customers"} <= set(figures)
    assert "Under-voltage, pu·h" in html
    corners = told["uses"][0]
    assert corners["over_voltage_most_pu_h"] == pytest.approx(
        corners["over_voltage_worst_pu"] * 0.25
    )  # a quarter of an hour
    assert re.search(rf"<td[^>]*>\s*{corners['over_voltage_most_pu_h']:.3g}\s*</td>", html)
    assert len((out / "table.csv").read_text().splitlines()) == len(told["uses"]) + 1


def test_names_cannot_become_markup(street, call, tmp_path):
    """A customer called <script> is text in the page."""
    connections = street.parent / "street" / "connections.csv"
    connections.write_text(connections.read_text().replace("anna", "<script>alert(1)</script>"))
    call("network", "validate", str(street), "--samples", "20", "--out", str(tmp_path / "x"))
    assert "<script>alert(1)" not in (tmp_path / "x" / "report.html").read_text(encoding="utf-8")


def test_every_picture_has_its_answer_and_one_interval_has_no_axis_of_time(street):
    """Labels for those who do not see; the section over time is not there for a single interval."""
    _, sections = page(validate(of_case(prepared(load(street))), 60))
    pictures = [one for section in sections for one in section.figures]

    assert all(isinstance(one, Picture) and len(one.says) > 20 for one in pictures)
    assert "when" not in [section.id for section in sections]


def test_hosting_is_told_with_its_bounds_and_its_page(street, call, tmp_path):
    """Firm <= median <= maximum in words, JSON and picture; infeasible ends with 3."""
    code, text, _ = call("network", "hosting", str(street), "--json")
    told = json.loads(text)
    assert code == 0
    assert told["firm_kw"] <= told["median_kw"] <= told["maximum_kw"]
    assert told["placements"] == 20
    code, out, _ = call("network", "hosting", str(street), "--out", str(tmp_path / "hosts"))
    assert code == 0
    assert "hosting capacity" in out
    figures = figures_of((tmp_path / "hosts" / "report.html").read_text(encoding="utf-8"))
    assert sorted(figures["single"]["data"][0]["y"]) == pytest.approx(
        sorted(one["kw"] for one in told["alone"]), abs=0.01
    )
    code, out, _ = call(
        "network", "hosting", str(street), "--set", "base_load.from=nameplate", "--set", "base_load.factor=60"
    )
    assert code == 3
    assert "nothing can be added" in out


CHROMIUM = os.environ.get("COMMONWATT_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_a_browser_draws_every_picture_at_every_width(street, call, tmp_path, scheme):
    """No message, no request, no sideways scroll; each chart has marks inside it; a chart without data would not pass."""
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None or not Path(CHROMIUM).is_file():
        if os.environ.get("COMMONWATT_REQUIRE_BROWSER") == "1":
            pytest.fail("no Chromium was found, and COMMONWATT_REQUIRE_BROWSER=1 asks for it.")
        pytest.skip("no Chromium was found")
    call("network", "validate", str(street), "--out", str(tmp_path / "tried"))
    call("network", "hosting", str(street), "--out", str(tmp_path / "hosts"))
    with sync_api.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for folder in ("tried", "hosts"):
            for width in (360, 768, 1440):
                view = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
                said, asked = [], []
                view.on("console", lambda message, said=said: said.append(message.text))
                view.on("pageerror", lambda error, said=said: said.append(str(error)))
                view.on("request", lambda request, asked=asked: asked.append(request.url))
                view.goto((tmp_path / folder / "report.html").absolute().as_uri())
                view.wait_for_function("window.commonwatt && window.commonwatt.ready", timeout=60_000)
                marks = view.evaluate(MARKS)
                assert said == []
                assert [url for url in asked if not url.startswith(("file:", "blob:", "data:"))] == []
                assert view.evaluate("document.documentElement.scrollWidth") <= width
                assert len(marks) >= 3
                assert all(count > 0 and inside for count, inside in marks.values()), marks
                emptied = view.evaluate(
                    "() => { for (const f of Object.values(commonwatt.figures)) for (const t of f.data) { t.x = []; t.y = []; } return commonwatt.all().then(() => true) }"
                )
                assert emptied
                assert all(count == 0 for count, _ in view.evaluate(MARKS).values())
                view.close()
        chromium.close()


MARKS = """() => Object.fromEntries([...document.querySelectorAll(".chart")].map(el => {
  const marks = [...el.querySelectorAll(".points path, .lines path, .fills path, path.js-fill")].filter(p => { const b = p.getBBox(); return b.width + b.height > 1; });
  const box = el.getBoundingClientRect();
  const inside = marks.every(p => { const b = p.getBoundingClientRect(); return b.left >= box.left - 2 && b.right <= box.right + 2; });
  return [el.dataset.fig, [marks.length, inside]];
}))"""
