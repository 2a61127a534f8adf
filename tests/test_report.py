"""The report of a run: its numbers recomputed from the tables by other code, its page inert, its every state readable."""

from __future__ import annotations

import base64
import gzip
import importlib.util
import itertools
import json
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sim import palette, report
from sim.report_charts import charts
from sim.report_data import collect
from sim.report_energy import SOURCES, USES, energy_flows
from sim.report_grid import feeder_map
from sim.report_live import Window, choose_windows, envelopes, live
from sim.report_tables import Clock, ReportError, RunTables

DT = 0.25


def _fabricated():
    """The module that makes run folders up; tests are no package, so it is loaded by its place."""
    name = "fabricated_run"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("fabricated_run.py"))
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def fabricate(folder, **changes):
    return _fabricated().fabricate(folder, **changes)


class _Text(HTMLParser):
    """The page as a person without JavaScript reads it, and every tag with its attributes."""

    def __init__(self):
        super().__init__()
        self.words, self.tags, self.silent = [], [], 0

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.silent += tag in {"script", "style"}

    def handle_endtag(self, tag):
        self.silent -= tag in {"script", "style"}

    def handle_data(self, data):
        if not self.silent:
            self.words.append(data)


class Page:
    """A report, read."""

    def __init__(self, folder, **options):
        self.folder = folder
        self.path = report.write(folder, **options)
        self.html = self.path.read_text(encoding="utf-8")
        parser = _Text()
        parser.feed(self.html)
        self.tags = parser.tags
        self.text = " ".join(plain(" ".join(parser.words)).split())

    def part(self, pattern):
        found = re.search(pattern, self.html, re.DOTALL)
        assert found, pattern
        return " ".join(plain(re.sub(r"<[^>]+>", "", found.group(1))).split())

    @property
    def headline(self):
        return self.part(r'<h1 id="headline">(.*?)</h1>')

    @property
    def lede(self):
        return self.part(r'<p class="lede" id="lede">(.*?)</p>')

    def answer(self, section):
        return self.part(rf'<section id="{section}">.*?<p class="ans">(.*?)</p>')

    def tile(self, key):
        return self.part(rf'data-tile="{key}">(.*?)</div>\s*</div>')

    def has(self, section):
        return f'<section id="{section}">' in self.html

    def figures(self):
        return sorted({attrs["data-fig"] for _, attrs in self.tags if "data-fig" in attrs})

    def data(self):
        packed = re.search(r'id="data" data-packed="(\w+)">(.*?)</script>', self.html, re.DOTALL)
        text = packed.group(2)
        return json.loads(gzip.decompress(base64.b64decode(text)) if packed.group(1) == "gzip" else text)


def plain(text):
    return text.replace("\u00a0", " ").replace("\u202f", "").replace("−", "-").replace("&amp;", "&").replace("’", "'")


def amount(text):
    """The first number of a text."""
    return float(re.search(r"-?\d+(?:\.\d+)?", text).group())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twenty homes, two days."""
    return fabricate(tmp_path_factory.mktemp("report") / "run")


@pytest.fixture(scope="module")
def page(folder):
    return Page(folder)


@pytest.fixture(scope="module")
def frames(folder):
    """Every table as pandas reads it."""
    return {
        (world, path.stem): pd.read_parquet(path)
        for world in ("tables", "reference", "ex_post", "unmanaged")
        for path in (folder / world).glob("*.parquet")
    }


def bills_of(frames, world):
    """Bill of every member, by pandas."""
    homes = frames["tables", "agents"].query("role == 'prosumer'").agent_id
    return frames[world, "bills"].groupby("agent_id").amount_eur.sum().reindex(sorted(homes), fill_value=0.0)


# -- numbers ---------------------------------------------------------------------------------------------------------------


def test_the_headline_is_what_the_bills_say(page, frames):
    """Percentage and losers of the headline, and both amounts of the lede, recomputed from the bills."""
    now, before = bills_of(frames, "tables"), bills_of(frames, "reference")
    losers = int((now - before > 0.005).sum())

    found = re.match(
        r"Sharing cut the members' bills by (\d+) % and kept the feeder inside its limits throughout the 2 days\. (\d+) of 20",
        page.headline,
    )
    assert found, page.headline
    assert int(found.group(1)) == round((1 - now.sum() / before.sum()) * 100)
    assert int(found.group(2)) == losers > 0
    assert f"paid {now.sum():.2f} € instead of {before.sum():.2f} €" in page.lede
    unmanaged = frames["unmanaged", "violations"]
    assert f"{unmanaged.time.nunique()} quarter-hours without envelopes, in none with sharing" in page.lede


def test_tiles_agree_with_the_tables(page, frames):
    """Every figure of the tiles, recomputed by pandas."""
    now, before = bills_of(frames, "tables"), bills_of(frames, "reference")
    homes = frames["tables", "agents"].query("role == 'prosumer'")
    meters = frames["tables", "meters"]
    at_home = meters[meters.agent_id.isin(homes.agent_id)]
    settled = frames["tables", "positions"].query("stage == 'settled'")
    settled = settled[settled.agent_id.isin(homes.agent_id)]
    bought_for_load = (
        at_home.merge(settled, on=["time", "agent_id"])
        .assign(came=lambda d: d.grid_buy_kw + d.rented_discharge_kw + (-d.exchange_kw).clip(lower=0))
        .assign(
            open=lambda d: (
                d.load_kw
                - np.minimum(d.pv_kw, d.load_kw)
                - np.minimum(d.load_kw - np.minimum(d.pv_kw, d.load_kw), d.battery_discharge_kw)
            )
        )
        .assign(share=lambda d: np.where(d.came > 0, d.open * d.grid_buy_kw / d.came.where(d.came > 0, 1), 0.0))
        .share.sum()
    )
    flows = frames["tables", "branch_flows"].query("branch_id == 'T1'").p_kw
    ref_flows = frames["reference", "branch_flows"].query("branch_id == 'T1'").p_kw

    assert amount(page.tile("bills").removeprefix("Members' bills, together")) == round(now.sum(), 2)
    assert f"reference {before.sum():.2f} €" in page.tile("bills")
    assert f"{int((before - now > 0.005).sum())}of 20" in page.tile("better_off").replace(" ", "", 0).replace(
        "off ", ""
    )
    assert f"worst +{(now - before).max():.2f} €" in page.tile("better_off")
    assert amount(page.tile("demand_local").removeprefix("Demand met locally")) == pytest.approx(
        100 * (1 - bought_for_load / at_home.load_kw.sum()), abs=0.5
    )
    assert amount(page.tile("peak_export").removeprefix("Peak export at the transformer")) == pytest.approx(
        -flows.min(), abs=0.5
    )
    assert f"reference {-ref_flows.min():.0f} kW" in page.tile("peak_export")
    assert "Quarter-hours outside limits 0of 192" in page.tile("outside").replace(" of", "of")
    assert f"without envelopes {frames['unmanaged', 'violations'].time.nunique()}" in page.tile("outside")
    lost = at_home.curtailed_kw.sum() / at_home.pv_available_kw.sum() * 100
    assert amount(page.tile("curtailed").removeprefix("Solar curtailed")) == pytest.approx(lost, abs=0.05)
    assert f"{at_home.curtailed_kw.sum() * DT:.0f} kWh" in page.tile("curtailed")


def test_the_operators_margin_is_that_of_the_key_figures(folder, frames):
    """The waterfall adds up to the figure `operator_margin_eur`, which other code computes."""
    tables = RunTables(folder)
    story = collect(tables)
    by_pandas = (
        -frames["tables", "bills"].query("agent_id == 'ess'").amount_eur.sum()
        - frames["tables", "storage"].wear_eur.sum()
    )

    assert story.storage.margin == pytest.approx(by_pandas, abs=1e-6)
    assert story.storage.margin == pytest.approx(story.figure("operator_margin_eur").value, abs=1e-6)
    assert sum(p.change for p in story.parties) == pytest.approx(story.figure("welfare_gain_eur").value, abs=0.02)


@pytest.mark.parametrize("world", ["run", "reference"])
def test_energy_adds_up_in_every_interval(folder, frames, world):
    """Sources are the demand and uses are the solar power, interval by interval."""
    flows = energy_flows(RunTables(folder), world)
    homes = frames["tables", "agents"].query("role == 'prosumer'").agent_id
    meters = frames["tables" if world == "run" else world, "meters"]
    sums = meters[meters.agent_id.isin(homes)].groupby("time")[["load_kw", "pv_available_kw", "curtailed_kw"]].sum()

    assert tuple(flows.sources) == SOURCES
    assert tuple(flows.uses) == USES
    assert np.allclose(sum(flows.sources.values()), sums.load_kw, atol=1e-9)
    assert np.allclose(sum(flows.uses.values()), sums.pv_available_kw, atol=1e-9)
    assert np.allclose(flows.uses["curtailed"], sums.curtailed_kw, atol=1e-12)
    assert min(v.min() for v in (*flows.sources.values(), *flows.uses.values())) > -1e-9


def test_energy_by_hand(tmp_path):
    """One interval, three homes: 4 kW of sun at the first, 1 kW used there, 2 to the second, 1 fed in; the third buys 0.5."""
    made = fabricate(tmp_path / "run", homes=3, steps=1, storage=False)
    meters = pq.read_table(made / "tables/meters.parquet").to_pandas()
    zero = dict.fromkeys(("battery_charge_kw", "battery_discharge_kw", "curtailed_kw"), 0.0)
    meters = meters.assign(
        **zero, pv_kw=[4.0, 0, 0], pv_available_kw=[4.0, 0, 0], load_kw=[1.0, 2.0, 0.5], meter_kw=[-3.0, 2.0, 0.5]
    )
    positions = pq.read_table(made / "tables/positions.parquet").to_pandas().query("stage == 'settled'")
    positions = positions.assign(
        exchange_kw=[2.0, -2.0, 0.0],
        grid_buy_kw=[0, 0, 0.5],
        grid_sell_kw=[1.0, 0, 0],
        rented_charge_kw=0.0,
        rented_discharge_kw=0.0,
    )
    for name, frame in (("meters", meters), ("positions", positions)):
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), made / f"tables/{name}.parquet")

    flows = energy_flows(RunTables(made), "run")

    assert {k: float(v[0]) for k, v in flows.sources.items()} == {
        "own solar": 1.0,
        "own battery": 0.0,
        "neighbours": 2.0,
        "shared storage": 0.0,
        "retailer": 0.5,
    }
    assert {k: float(v[0]) for k, v in flows.uses.items()} == {
        "used at home": 1.0, "own battery": 0.0, "neighbours": 2.0, "shared storage": 0.0, "fed in": 1.0, "curtailed": 0.0,
    }  # fmt: skip


def test_every_member_and_every_line_of_the_bill_travels_with_the_page(page, frames):
    """The carried bills are the table's, member by member, and each column of lines sums to its total."""
    carried, ids = page.data()["live"]["bill"], page.data()["live"]["members"]["id"]
    now, before = bills_of(frames, "tables"), bills_of(frames, "reference")

    assert ids == list(now.index)
    assert np.allclose(carried["total"], now, atol=1e-4)
    assert np.allclose(carried["total_reference"], before, atol=1e-4)
    assert np.allclose(np.sum(carried["run"], axis=0), carried["total"], atol=1e-3)
    assert len(carried["lines"]) == len(set(carried["lines"])) >= 6


def test_carried_voltages_are_those_of_the_table(folder, page, frames):
    """Unpacked from the page, a bus has the voltages of the table to a hundredth of a per cent."""
    data = page.data()["live"]
    assert data["worlds"] == ["With sharing", "Reference", "Without envelopes"]
    for world, folder_name in enumerate(("tables", "reference", "unmanaged")):
        raw = np.frombuffer(base64.b64decode(data["moving"]["voltage"][world][0]), dtype="<i2").reshape(
            len(data["grid"]["bus"]), -1
        )
        table = (
            frames[folder_name, "bus_voltages"]
            .pivot_table(index="bus_id", columns="time", values="v_pu")
            .loc[data["grid"]["bus"]]
        )
        assert np.abs(raw / 1e4 + 1 - table.to_numpy()).max() <= 0.5001e-4
    assert "MV" not in data["grid"]["bus"]  # the bus above the transformer is not part of the picture


def test_carried_envelopes_are_those_in_force(folder, frames):
    """Of two issues the later one that was announced before the interval counts; wanted is the meter before it was held."""
    tables = RunTables(folder)
    who = frames["tables", "envelopes"].agent_id.iloc[0]
    late = frames["tables", "envelopes"].query("agent_id == @who").copy()
    late["issued_at"] = late.time.iloc[96]
    late["export_limit_kw"] = 0.125
    changed = pd.concat([frames["tables", "envelopes"], late])
    copy = folder.parent / "two_issues"
    if not copy.exists():
        shutil.copytree(folder, copy)
    pq.write_table(pa.Table.from_pandas(changed, preserve_index=False), copy / "tables/envelopes.parquet")

    before, after = (envelopes(RunTables(place), [who], Window("", 0, 192)) for place in (folder, copy))
    own = frames["tables", "meters"].query("agent_id == @who").sort_values("time")

    assert np.array_equal(before.export_limit_kw[0, :96], after.export_limit_kw[0, :96])
    assert (after.export_limit_kw[0, 96:] == 0.125).all()
    assert np.allclose(before.wanted_kw[0], own.meter_kw - own.curtailed_kw)
    tables.close()


def test_the_feeder_is_drawn_from_its_busbar(folder):
    """Root first, parents before children, distances along the wires, one feeder per outgoing wire."""
    drawn = feeder_map(RunTables(folder))

    assert drawn.bus_id[0] == "LV"
    assert drawn.n_bus == 21
    assert drawn.transformer_ids == ("T1",)
    assert drawn.distance_unit == "m"
    assert drawn.distance[drawn.bus_id.index("B001")] == 34.0
    assert drawn.distance[drawn.bus_id.index("B004")] == 68.0
    assert len(set(drawn.feeder.tolist())) == 3
    assert drawn.order[0] == 0


# -- the page ---------------------------------------------------------------------------------------------------------------


def test_the_page_asks_for_nothing(page):
    """No address in any tag but those inside the page; the two texts that name an address are licences, not requests."""
    for tag, attrs in page.tags:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base"}, tag
        for name in ("src", "href", "data", "srcset", "action"):
            assert str(attrs.get(name, "#")).startswith("#"), (tag, attrs)
    own = (Path(report.__file__).parent / "templates" / "report.js").read_text() + (
        Path(report.__file__).parent / "templates" / "report.css"
    ).read_text()
    assert not re.search(
        r"https?://(?!www\.w3\.org/2000/svg)|@import|url\(|fetch\(|XMLHttpRequest|innerHTML|insertAdjacentHTML|document\.write|eval\(",
        own,
    )


def test_equal_runs_are_equal_pages(folder, tmp_path):
    """The same folder makes the same bytes, wherever it lies."""
    shutil.copytree(folder, tmp_path / "again")

    assert report.write(folder).read_bytes() == report.write(tmp_path / "again").read_bytes()


def test_plain_is_the_same_page_unpacked(folder, page, tmp_path):
    """`plain` carries the same data as it is, without anything to unpack."""
    shutil.copytree(folder, tmp_path / "plain")
    other = Page(tmp_path / "plain", plain=True)

    assert other.data() == page.data()
    assert 'data-packed="no"' in other.html
    assert len(other.html) > 2 * len(page.html)
    assert other.text.split("Can I trust")[0] == page.text.split("Can I trust")[0]


def test_a_scenario_may_ask_for_a_plain_page(folder, tmp_path):
    """`report: {plain: true}` holds whenever the report is written again."""
    shutil.copytree(folder, tmp_path / "asked")
    scenario = json.loads((tmp_path / "asked/scenario.yaml").read_text())
    scenario["report"]["plain"] = True
    (tmp_path / "asked/scenario.yaml").write_text(json.dumps(scenario))

    assert 'data-packed="no"' in Page(tmp_path / "asked").html


NASTY = {
    0: "<script>alert(1)</script>",
    4: "A member whose name has forty characters",
    7: "O'Hara & <b>Söhne</b>",
    9: "</script><img src=x onerror=alert(2)>",
}


@pytest.mark.parametrize("as_plain", [False, True])
def test_names_are_text_and_never_markup(tmp_path, as_plain):
    """A member called <script> is shown by its name and runs nothing, packed or plain."""
    made = fabricate(tmp_path / "run", homes=10, names=NASTY)
    found = Page(made, plain=as_plain)

    assert "<script>alert" not in found.html
    assert "<img src=x" not in found.html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in found.html
    assert not [tag for tag, attrs in found.tags if tag in {"img", "b"} and "onerror" in attrs]
    assert sum(tag == "script" for tag, _ in found.tags) == 3
    assert NASTY[9] in found.data()["live"]["members"]["id"]
    for name, figure in found.data()["figures"].items():
        drawn = json.dumps(
            [figure["layout"].get("annotations"), figure["layout"].get("xaxis"), figure["layout"].get("yaxis")]
        )
        assert "<script" not in drawn, name
        assert "<img" not in drawn, name


def test_readable_without_javascript(page):
    """Head, tiles, every answer and every table stand in the page itself."""
    for words in (
        "Members' bills, together",
        "The same people, three ways",
        "Sharing after the fact",
        "Highest voltage",
        "Checks",
        "Self sufficiency",
    ):
        assert words in page.text, words
    assert page.html.count("<noscript>") == 3
    assert page.html.count("<table") >= 8
    for section in ("energy", "price", "people", "storage", "grid", "envelopes", "trust"):
        assert len(page.answer(section)) > 40


def test_every_chart_has_a_label_and_its_figure(page):
    """Each chart is an image with a sentence; every static one exists in the data; nothing is carried that is not shown."""
    shown = [attrs for _, attrs in page.tags if attrs.get("class") == "chart"]

    assert len(shown) == 18
    assert all(attrs["role"] == "img" and len(attrs["aria-label"]) > 20 for attrs in shown)
    assert page.figures() == sorted(page.data()["figures"])


def test_all_key_figures_are_listed_with_their_reference(page, frames):
    """The table holds every headline figure of `kpis`, with definition and boundary."""
    from sim.kpis import FIGURES

    rows = re.search(r'id="figures">(.*?)</table>', page.html, re.DOTALL).group(1)
    assert rows.count("<tr>") == len(FIGURES) + 1
    for figure in FIGURES:
        assert plain(figure.boundary) in plain(rows)
        assert figure.says.split(":")[0].replace("'", "&#39;") in rows


def test_seed_versions_and_licence_are_named(page):
    """What the run was made of stands at the foot."""
    foot = page.part(r"<footer>(.*?)</footer>")

    assert "Run 7c41e0a9d2f1" in foot
    assert "seed 3" in foot
    assert "commonwatt 0.1.0" in foot
    assert "numpy 2.4.6" in foot
    assert "SimBench 1-LV-rural3--2-no_sw, Open Database License (ODbL)" in foot


def test_a_check_that_fails_is_shown_as_failed(folder, tmp_path):
    """A meter changed by a watt: the check fails, the section says so; NaN never passes."""
    for k, change in enumerate((0.001, float("nan"))):
        broken = tmp_path / f"broken{k}"
        shutil.copytree(folder, broken)
        table = pq.read_table(broken / "tables/meters.parquet").to_pandas()
        table.loc[7, "meter_kw"] += change
        pq.write_table(pa.Table.from_pandas(table, preserve_index=False), broken / "tables/meters.parquet")
        found = Page(broken)
        assert "checks failed: power at every meter adds up" in found.answer("trust")
        assert found.html.count('class="n fail"') >= 1


def test_books_that_do_not_balance_take_the_headline(folder, tmp_path):
    """A cent appears from nowhere: the headline begins with it."""
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    table = pq.read_table(broken / "tables/ledger.parquet").to_pandas()
    table.loc[3, "amount_micro_eur"] += 10_000
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False), broken / "tables/ledger.parquet")

    found = Page(broken)

    assert found.headline.startswith("The books do not balance: 1 transactions")
    assert re.search(r'<ul class="ticks" id="ticks"><li class="no"><b>Books</b>', found.html)


# -- states that are empty or strange ------------------------------------------------------------------------------------------


def test_no_finished_run_is_refused(tmp_path):
    """A folder without a manifest is named, with what to give instead."""
    with pytest.raises(ReportError, match=r"is no finished run: manifest\.json"):
        report.write(tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Pages of made-up runs, each made once."""
    known = {}

    def get(name, **changes):
        if name not in known:
            known[name] = Page(fabricate(tmp_path_factory.mktemp(name) / "run", **{"homes": 8, **changes}))
        return known[name]

    return get


def test_no_solar(made):
    """No sun: one sentence instead of the energy charts, and nobody was held back."""
    found = made("no_solar", solar=False)

    assert (
        found.answer("energy") == "There is no solar power and nothing was traded: the retailer delivered everything."
    )
    assert "No member has solar power" in found.answer("envelopes")
    assert 'data-tile="curtailed"' not in found.html
    assert "there is none in this run" in found.html  # the reason of the dash in "Solar used locally"
    assert "curtailed" not in found.data()["figures"]


def test_no_trade(made):
    """Nothing traded: prices are one sentence without axes, the market is not spoken of as converged."""
    found = made("no_trade", trade=False, storage=False)

    assert found.answer("price") == "Nothing was traded, so local energy has no price."
    assert "prices" not in found.figures()
    assert "There was no market to clear." in found.answer("trust")
    assert "Nobody saves, nobody pays more." in found.answer("people")


def test_no_storage(made):
    """Without a storage the section, the rail's item and the tile are gone."""
    found = made("no_storage", storage=False)

    assert not found.has("storage")
    assert '<a href="#storage">' not in found.html
    assert 'data-tile="operator"' not in found.html
    assert {"storage", "waterfall", "rights"} & set(found.data()["figures"]) == set()


def test_envelopes_off(made):
    """Nobody published envelopes: one sentence, and no picture of a world without them."""
    found = made("no_envelopes", envelopes=False)

    assert found.answer("envelopes") == "Not in this scenario: the network operator published no envelopes."
    assert found.data()["live"]["worlds"] == ["With sharing", "Reference"]
    assert 'data-live="envelope"' not in found.html


def test_one_agent(made):
    """A community of one: singular, no bars, no groups, no choice of members."""
    found = made("one", homes=1)

    assert found.answer("people").startswith("The only member")
    assert {"members", "groups"} & set(found.figures()) == set()
    assert 'id="who"' not in found.html


def test_one_interval(made):
    """A run of a single interval has a page."""
    found = made("one_interval", steps=1)

    assert "in this quarter-hour" in found.headline
    assert len(found.data()["figures"]["week"]["data"][0]["y"]) == 1


@pytest.mark.parametrize(("name", "scale"), [("credit", 0.3), ("nothing", 0.0)])
def test_a_reference_bill_of_zero_or_less(made, name, scale):
    """A credit before: amounts, no percentage."""
    found = made(name, load_scale=scale)

    assert re.match(r"Sharing (cost|saved) the members \d+\.\d\d € and", found.headline)
    assert "%" not in found.tile("bills")
    assert "received" in found.lede


def test_a_failed_power_flow(made):
    """Four intervals without a result: first in the headline, not proven, a gap in the data, hatched on the page."""
    found = made("failed", failed=(40, 41, 42, 100))

    assert found.headline.startswith("The power flow has no result in 4 quarter-hours.")
    assert "kept the feeder" not in found.headline
    assert found.answer("grid").startswith(
        "Not proven: the power flow has no result in 4 of 192 quarter-hours. Highest voltage +9.9 %"
    )
    assert "hatched: no power flow" in found.text
    raw = np.frombuffer(base64.b64decode(found.data()["live"]["moving"]["voltage"][0][0]), dtype="<i2").reshape(-1, 192)
    assert (raw[:, [40, 41, 42, 100]] == -32768).all()
    assert (raw[:, [39, 43, 99]] != -32768).all()
    assert found.data()["figures"]["duration"]["data"][0]["y"][0] is not None


def test_breaches_in_the_run(made):
    """A limit broken in the run itself is in the headline, the tick and the tile, with one count."""
    found = made("outside", outside=True)
    count = int(re.search(r"but the feeder left its limits in (\d+) quarter-hours", found.headline).group(1))

    assert count > 0
    assert f"Quarter-hours outside limits {count} of 192" in found.tile("outside").replace(
        f"{count}of", f"{count} of"
    ).replace("limits ", "limits ")
    assert '<li class="no"><b>Grid</b>' in found.html
    assert found.answer("grid").startswith(f"No: a limit was broken in {count} of 192")


def test_clearings_that_did_not_converge(made):
    """Three of them: in the headline, in the tick, in the checks, and the page opens on one of them."""
    found = made("unconverged", unconverged=3)
    clearings = found.data()["live"]["clearings"]

    assert found.headline.startswith("3 of 50 market sessions did not converge.")
    assert "1 of 13 checks failed: clearings that did not converge" in found.answer("trust")
    assert not clearings["converged"][clearings["start"]]


def test_every_clearing_is_held_to_the_tolerance_of_its_stage(made, tmp_path):
    """Day ahead a clearing ends at a tenth of the scenario's tolerance: the chart has its line there, the checks compare with it."""
    from sim.schema import DAY_AHEAD_TIGHTER

    found = made("own-tolerance")
    assert found.data()["live"]["tolerance"] == {"day_ahead": 1e-3 * DAY_AHEAD_TIGHTER, "intraday": 1e-3}
    assert "Every check passed" in found.answer("trust")
    broken = tmp_path / "broken"
    shutil.copytree(found.folder, broken)
    table = pq.read_table(broken / "tables/clearings.parquet").to_pandas()
    table.loc[table.index[table.stage == "day_ahead"][0], "primal_residual"] = (
        5e-4  # would do for an hour, not for a gate
    )
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False), broken / "tables/clearings.parquet")

    assert "1 of 13 checks failed: residual of converged clearings, day ahead" in Page(broken).answer("trust")


@pytest.mark.parametrize(
    ("name", "start", "minutes"), [("autumn", "2016-10-29T10:00", [120, 60]), ("spring", "2016-03-26T11:00", [60, 120])]
)
def test_days_of_92_and_100_quarter_hours(made, name, start, minutes):
    """The clocks change in the run: the page carries both offsets, the heading has local dates."""
    found = made(name, start=start, days=3)

    assert [m for _, m in found.data()["live"]["clock"]["offsets"]] == minutes
    assert found.data()["live"]["clock"]["steps"] == 288


def test_no_coordinates(made):
    """The feeder is laid out as a tree, and the page says so."""
    found = made("no_coordinates", coordinates=False)
    grid = found.data()["live"]["grid"]

    assert "the feeder is drawn as a tree" in found.text
    assert not grid["metres"]
    assert len({(x, y) for x, y in zip(grid["x"], grid["y"], strict=True)}) == len(grid["bus"])
    assert grid["unit"] == "m"  # the lines have lengths all the same


def test_no_picture_without_envelopes(made):
    """A run without the unmanaged world compares with the reference only."""
    found = made("no_unmanaged", unmanaged=False)

    assert found.data()["live"]["worlds"] == ["With sharing", "Reference"]
    assert "The feeder stayed inside its limits without sharing, too" in found.lede


# -- scale -------------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_year_is_hours_and_four_weeks(made):
    """A year of quarter-hours: hourly means with a band, a calendar, four named weeks, and the page says so."""
    found = made("year", homes=4, days=365)
    data = found.data()

    week = data["figures"]["week"]["data"]
    assert {trace["dx"] for trace in week} == {4}
    assert len(week[0]["y"]) == 8760
    assert {"Demand, lowest", "Demand, highest"} <= {trace["name"] for trace in week}
    assert len(data["figures"]["calendar"]["data"][0]["z"]) == 96
    assert 2 <= len(data["live"]["windows"]) <= 4
    assert all(w["steps"] == 672 for w in data["live"]["windows"])
    assert "Interval by interval only in" in found.text
    assert "mean of 4 intervals" in found.text
    assert found.path.stat().st_size < 6e6
    start = data["live"]["start"]["t"]
    assert any(w["start"] <= start < w["start"] + w["steps"] for w in data["live"]["windows"])


@pytest.mark.slow
def test_a_week_of_a_hundred_homes_is_three_megabytes(made):
    """Budget: 118 homes for a week stay below 3 MB, the data below 3 MB before compression."""
    found = made("week", homes=118, days=7)

    assert found.path.stat().st_size < 3e6
    assert len(json.dumps(found.data(), separators=(",", ":"))) < 3e6


@pytest.mark.slow
def test_a_thousand_homes_step_down_and_say_so(made):
    """1000 homes: boxes instead of dots, a search for members, coarser steps, below 6 MB, and the page says what was left out."""
    found = made("thousand", homes=1000, days=2)
    data = found.data()

    assert found.path.stat().st_size < 6e6
    assert len(data["figures"]["members"]["data"][0]["y"]) == 1000
    assert {trace["type"] for trace in data["figures"]["groups"]["data"]} == {"box", "scatter"}
    assert 'id="find"' in found.html
    assert data["live"]["moving"]["block"] > 1
    assert "To keep the file small" in found.text
    assert "The 50 best and the 50 worst of 1000 members" in found.text


def test_ten_homes_have_their_names_on_the_axis(made):
    """Few members: names instead of labels on the extremes."""
    found = made("ten", homes=10)

    assert len(found.data()["figures"]["members"]["layout"]["xaxis"]["ticktext"]) == 10


def test_the_ladder_steps_down_until_it_fits(folder):
    """With less room the steps get coarser and members fewer; the worst voltage of every step is kept."""
    tables = RunTables(folder)
    feeder, ids = feeder_map(tables), [f"H{k + 1:03d}" for k in range(20)]
    whole = [Window("", 0, 192)]
    sizes = []
    for budget in (3_000_000, 60_000, 20_000):
        found = live(tables, feeder, ("run", "unmanaged"), whole, ids, 0, budget)
        sizes.append(len(json.dumps(found.data)))
        raw = np.frombuffer(base64.b64decode(found.data["voltage"][1][0]), dtype="<i2")
        assert (
            raw.max()
            == 1 + raw.max() - 1
            == np.frombuffer(
                base64.b64decode(live(tables, feeder, ("unmanaged",), whole, ids, 0).data["voltage"][0][0]), dtype="<i2"
            ).max()
        )
        assert bool(found.notes) == (found.data["block"] > 1)
    assert sizes[0] > sizes[1] > sizes[2]


def test_windows_of_a_long_run_hold_what_they_are_named_after():
    """The weeks of a year contain their moments, inside the run, none twice."""
    clock = Clock(0, 900, 35_040, "UTC")
    named = {"highest voltage": 35_039, "dearest": 12, "most curtailment": 17_000}
    windows = choose_windows(clock, named, 9_000)

    for name, index in named.items():
        window = next(w for w in windows if name in w.name)
        assert window.start <= index < window.start + window.steps
    assert all(w.start >= 0 and w.start + w.steps <= clock.steps for w in windows)
    assert len({w.start for w in windows}) == len(windows)


# -- colours -------------------------------------------------------------------------------------------------------------------


def linear(colour):
    c = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


SIGHT = {  # Machado, Oliveira, Fernandes 2009, severity 1
    "normal": np.eye(3),
    "deutan": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "protan": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "tritan": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def oklab(light):
    return LAB @ np.cbrt(LMS @ np.clip(light, 0, 1))


def contrast(one, other):
    a, b = sorted((float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (one, other)), reverse=True)
    return (a + 0.05) / (b + 0.05)


@pytest.mark.parametrize("theme", [palette.LIGHT, palette.DARK], ids=["light", "dark"])
@pytest.mark.parametrize("sight", SIGHT)
def test_fills_are_told_apart_by_everybody(theme, sight):
    """Any two fills are at least 10 apart (OKLab x 100), for normal, deutan, protan and tritan sight."""
    seen = {name: oklab(SIGHT[sight] @ linear(theme[name])) for name in (*palette.FILLS, "ink")}

    for (a, one), (b, other) in itertools.combinations(seen.items(), 2):
        assert 100 * np.linalg.norm(one - other) >= 10, (a, b)


@pytest.mark.parametrize("theme", [palette.LIGHT, palette.DARK], ids=["light", "dark"])
def test_text_stands_out_from_what_it_stands_on(theme):
    """Contrast of at least 4.5 of text on the page and on cards, and of words on the fills they stand on."""
    for ink, ground in itertools.product(palette.TEXTS, ("bg", "paper")):
        assert contrast(theme[ink], theme[ground]) >= 4.5, (ink, ground)
    for name in ("solar", "peer", "store", "retail", "feed"):
        assert contrast(theme[f"on-{name}"], theme[name]) >= 4.5, name


def test_both_themes_have_the_same_roles():
    """A colour that one theme has, the other has; every colour a figure or a style names exists."""
    assert set(palette.LIGHT) == set(palette.DARK)
    folder = Path(report.__file__).parent
    named = set()
    for path in (folder / "figures.py", *(folder / "templates").glob("report.*")):
        named |= set(re.findall(r"var\(--([a-z0-9-]+)\)", path.read_text(encoding="utf-8")))
    assert named - set(palette.LIGHT) - {"font", "c", "on"} == set()


def test_the_charts_of_a_real_folder_are_the_same_made_twice(folder):
    """Figures depend on the tables alone."""
    tables = RunTables(folder)
    story = collect(tables)

    assert charts(story, tables).figures == charts(story, tables).figures


def test_a_run_that_can_be_checked_by_hand_has_a_report(tiny_run, tmp_path):
    """Three homes, eight hours, one line and no transformer: the page holds the bills of the tables."""
    shutil.copytree(tiny_run, tmp_path / "run")
    found = Page(tmp_path / "run")
    table = pd.read_parquet(tiny_run / "tables/bills.parquet")
    total = table[table.agent_id.isin(["anna", "ben", "cleo"])].amount_eur.sum()

    assert amount(found.tile("bills").removeprefix("Members' bills, together")) == pytest.approx(total, abs=0.005)
    assert found.data()["live"]["grid"]["bus"] == ["b0", "b1"]
    assert "8 of 8 AC checks passed" in found.text
