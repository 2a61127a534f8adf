"""The tables of a run: every column with its type, unit, sign and meaning.

The one place where the columns of a run folder are declared.  :mod:`sim.results` writes nothing else, and
``docs/results.md`` is printed from here by :mod:`sim.schema_page`.
Columns may be added; they are never renamed or dropped, because people read these files without this code.

What holds everywhere: a power is the mean over its interval, ``time`` is the interval's start in UTC, ids are strings,
import is positive at a meter.  Amounts are in the currency of the run (the manifest names it): "eur" in a column's
name and unit stands for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["DAY_AHEAD_TIGHTER", "SECTIONS", "TABLES", "Column", "Table", "arrow_schema", "arrow_type", "tables_of"]

Kind = Literal["string", "time", "float64", "int64", "bool"]
Numbers = Literal["finite", "nan", "inf"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column: what it is called, what it may hold, what it means."""

    name: str
    kind: Kind
    unit: str
    description: str
    sign: str = ""
    """What a positive value means; empty where there is no direction."""

    numbers: Numbers = "finite"
    """``finite``: no NaN, no infinity; ``nan``: NaN (or null) means "does not exist"; ``inf``: infinity means "no limit"."""

    optional: bool = False
    """Filled with NaN, null or "" where the writer has nothing to say."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table: what a row is, what makes it unique, its columns."""

    name: str
    row: str
    key: tuple[str, ...]
    """The columns that tell rows apart; empty where rows may repeat."""

    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(column.name for column in self.columns)


IMPORT = "import +, export −"
SALE = "sale +, purchase −"
POSITIVE = "never negative"


def _id(name: str, description: str) -> Column:
    return Column(name, "string", "", description)


def _time(name: str, description: str, *, lost: bool = False) -> Column:
    return Column(name, "time", "UTC", description, numbers="nan" if lost else "finite")


def _number(
    name: str, unit: str, description: str, sign: str = "", numbers: Numbers = "finite", *, optional: bool = False
) -> Column:
    return Column(name, "float64", unit, description, sign, numbers, optional)


def _count(name: str, unit: str, description: str, sign: str = POSITIVE) -> Column:
    return Column(name, "int64", unit, description, sign)


def _flag(name: str, description: str) -> Column:
    return Column(name, "bool", "", description)


DAY_AHEAD_TIGHTER = 0.1
"""Tolerance of a day-ahead clearing, relative to the scenario's, which is that of the hourly ones."""

STAGES = "day_ahead (the gate), intraday (the last re-planning before delivery), settled (after delivery)"

_TABLES = (
    Table("agents", "an actor", ("agent_id",), (
        _id("agent_id", "the actor's name"),
        _id("role", "prosumer (a member of the community), storage, aggregator, retailer, dso, state (who gets levies and taxes)"),
        _id("bus_id", "where its meter stands; empty for an actor without a connection"),
        _id("phase", "a, b, c or abc"),
        _id("aggregator_id", "through whom it is invoiced; empty for nobody"),
        _id("tariff_id", "its retail tariff in the scenario"),
        _number("pv_kw_peak", "kW", "installed solar power", POSITIVE),
        _number("battery_kwh", "kWh", "usable capacity of its own battery", POSITIVE),
        _number("battery_charge_kw", "kW", "largest charging power", POSITIVE),
        _number("battery_discharge_kw", "kW", "largest discharging power", POSITIVE),
        _number("battery_efficiency_charge", "1", "share of the charged energy that is stored", POSITIVE, "nan"),
        _number("battery_efficiency_discharge", "1", "share of the stored energy that comes out", POSITIVE, "nan"),
        _number("battery_initial_kwh", "kWh", "energy in its battery when the run begins", POSITIVE),
        _number("battery_self_discharge_per_h", "1/h", "share of the battery's energy lost in an hour; NaN is none", POSITIVE, "nan", optional=True),
        _count("ev_count", "1", "electric cars"),
        _number("heat_pump_kw", "kW", "electric rating of its heat pump", POSITIVE),
        _id("load_profile", "the profile its household load is drawn from"),
    )),
    Table("ess", "a shared energy-storage system (ESS)", ("ess_id",), (
        _id("ess_id", "the ESS; also the agent_id of its row in agents, meters and positions"),
        _id("operator_id", "the actor that runs it, owns the rest of its energy and is paid for it"),
        _id("bus_id", "where its meter stands"),
        _id("phase", "a, b, c or abc"),
        _number("energy_kwh", "kWh", "usable capacity", POSITIVE),
        _number("charge_kw", "kW", "largest charging power at the meter", POSITIVE),
        _number("discharge_kw", "kW", "largest discharging power at the meter", POSITIVE),
        _number("efficiency_charge", "1", "η_c, share of the charged energy that is stored", POSITIVE),
        _number("efficiency_discharge", "1", "η_d, share of the stored energy that comes out", POSITIVE),
        _number("self_discharge_per_h", "1/h", "share of the energy lost in an hour", POSITIVE),
        _number("initial_kwh", "kWh", "energy in it when the run begins", POSITIVE),
    )),
    Table("buses", "a bus of the feeder", ("bus_id",), (
        _id("bus_id", "the bus"),
        _number("v_nominal_v", "V", "nominal line-to-line voltage", POSITIVE),
        _flag("is_source", "whether the grid above feeds in here (exactly one bus)"),
        _number("source_v_pu", "pu", "voltage held by the grid above, mean over the run; NaN at other buses", POSITIVE, "nan"),
        _number("source_short_circuit_va", "VA", "short-circuit power of the grid above (1e16 is ideal); NaN at other buses", POSITIVE, "nan"),
        _number("source_rx_ratio", "1", "resistance over reactance of the grid above; NaN at other buses", POSITIVE, "nan"),
        _number("x", "", "horizontal coordinate, metres or degrees; NaN where unknown", "", "nan"),
        _number("y", "", "vertical coordinate, metres or degrees; NaN where unknown", "", "nan"),
        _flag("is_monitored", "whether the voltage limits apply here (not to a medium-voltage bus above the transformer)"),
    )),
    Table("series", "an interval of a series", ("series_id", "time"), (
        _time("time", "start of the interval"),
        _id("series_id", "dynamic price, emission factor, source voltage, imbalance price, …"),
        _number("value", "see unit", "the value"),
        _id("unit", "the value's unit"),
    )),
    Table("branches", "a line or transformer", ("branch_id",), (
        _id("branch_id", "the branch"),
        _id("kind", "line or transformer"),
        _flag("in_service", "whether it conducts"),
        _id("from_bus", "the bus at the from-side (a transformer's high-voltage side)"),
        _id("to_bus", "the bus at the to-side"),
        _number("r1_ohm", "ohm", "series resistance, positive sequence; NaN for a transformer, as all figures of lines", POSITIVE, "nan"),
        _number("x1_ohm", "ohm", "series reactance, positive sequence", "inductive +", "nan"),
        _number("c1_nf", "nF", "shunt capacitance, positive sequence", POSITIVE, "nan"),
        _number("r0_ohm", "ohm", "series resistance, zero sequence; NaN where unknown", POSITIVE, "nan"),
        _number("x0_ohm", "ohm", "series reactance, zero sequence; NaN where unknown", "inductive +", "nan"),
        _number("c0_nf", "nF", "shunt capacitance, zero sequence; NaN where unknown", POSITIVE, "nan"),
        _number("rating_a", "A", "thermal rating of a line; NaN where none is known: its loading is 0", POSITIVE, "nan"),
        _number("sn_kva", "kVA", "rating of a transformer; NaN for a line, as all figures of transformers", POSITIVE, "nan"),
        _number("v_from_v", "V", "rated voltage at the from-side", POSITIVE, "nan"),
        _number("v_to_v", "V", "rated voltage at the to-side", POSITIVE, "nan"),
        _number("uk_percent", "%", "short-circuit voltage", POSITIVE, "nan"),
        _number("pk_kw", "kW", "copper loss at rated current", POSITIVE, "nan"),
        _number("i0_percent", "%", "no-load current", POSITIVE, "nan"),
        _number("p0_kw", "kW", "no-load loss", POSITIVE, "nan"),
        _number("clock", "1", "vector-group clock number, 0 to 11 (30 degrees each)", POSITIVE, "nan"),
        _id("tap_side", "from, to, or empty without a tap changer"),
        _number("tap_position", "1", "tap position, counted from the neutral one (0)", "raises the ratio of its side +", "nan"),
        _number("tap_step_percent", "%", "change of the tap side's rated voltage per position", "", "nan"),
        _number("length_m", "m", "length of a line, for drawing; NaN where unknown", POSITIVE, "nan", optional=True),
    )),
    Table("conductors", "a pair of conductors of a line that lacks one, or whose conductors differ; such a line is as told here, all others as branches says", ("branch_id", "phase", "other_phase"), (
        _id("branch_id", "the line"),
        _id("phase", "a, b or c"),
        _id("other_phase", "a, b or c, not after phase; the same: the conductor itself"),
        _number("r_ohm", "ohm", "series resistance between the two, that of the whole line"),
        _number("x_ohm", "ohm", "series reactance between the two", "inductive +"),
        _number("c_nf", "nF", "shunt capacitance, an entry of the nodal matrix: negative between two conductors", "own +, between two −"),
    )),
    Table("meters", "a connection and interval", ("time", "agent_id"), (
        _time("time", "start of the interval"),
        _id("agent_id", "the connection's actor; a shared ESS has its own row, with its physical flows"),
        _number("base_load_kw", "kW", "household load that nobody schedules", POSITIVE),
        _number("ev_kw", "kW", "electric cars", "charging +, feeding back −"),
        _number("heat_pump_kw", "kW", "heat pump", POSITIVE),
        _number("load_kw", "kW", "all consumption: base load + cars + heat pump", "consumption +"),
        _number("pv_available_kw", "kW", "what the sun would have given", POSITIVE),
        _number("pv_kw", "kW", "solar power delivered", POSITIVE),
        _number("battery_charge_kw", "kW", "charging of the battery behind this meter", POSITIVE),
        _number("battery_discharge_kw", "kW", "discharging of the battery behind this meter", POSITIVE),
        _number("battery_kwh", "kWh", "energy in that battery at the start of the interval", POSITIVE),
        _number("meter_kw", "kW", "active power at the meter", IMPORT),
        _number("meter_kvar", "kvar", "reactive power at the meter", "inductive +"),
        _number("curtailed_kw", "kW", "solar power given up: available − delivered", POSITIVE),
        _number("shifted_kw", "kW", "load moved here from other hours", "moved here +, moved away −"),
        _id("cause", "why the meter was held (envelope, market, …); empty where it was not"),
    )),
    Table("enforcement", "a home and interval in which its meter was held", ("time", "agent_id"), (
        _time("time", "start of the interval"),
        _id("agent_id", "the home"),
        _id("cause", "what held it: envelope_… (the issue in force), default_… (no message was in force), ramp_… (the limit on its way), with export or import"),
        _id("rule", "what gives way first: dso.enforcement of the scenario"),
        _number("limit_kw", "kW", "the limit that was kept, in the direction of the cause", POSITIVE),
        _number("clipped_kw", "kW", "solar power turned down", POSITIVE),
        _number("battery_kw", "kW", "what the battery took more, or gave less, than planned", "charging +"),
        _number("deferred_kw", "kW", "load of car and heat pump held back", POSITIVE),
        _number("beyond_kw", "kW", "import beyond the limit that nothing could prevent", POSITIVE),
    )),
    Table("forecasts", "a connection, interval and issue", ("stage", "time", "agent_id"), (
        _time("time", "start of the interval forecast"),
        _id("agent_id", "the connection's actor"),
        _time("issued_at", "when the forecast was made (simulated time)"),
        _id("stage", "day_ahead (at the gate) or last (before delivery)"),
        _number("load_kw", "kW", "forecast consumption", "consumption +"),
        _number("pv_kw", "kW", "forecast available solar power", POSITIVE),
    )),
    Table("envelopes", "a connection, interval and issue", ("issued_at", "time", "agent_id"), (
        _time("issued_at", "when the DSO announced it (simulated time); the latest issue before the interval is in force"),
        _time("time", "start of the interval it binds"),
        _id("agent_id", "the connection's actor"),
        _number("import_limit_kw", "kW", "the meter may import up to this", POSITIVE, "inf"),
        _number("export_limit_kw", "kW", "the meter may export up to this", POSITIVE, "inf"),
        _number("firm_charge_kw", "kW", "an ESS's obligation to charge at least this", POSITIVE),
        _id("mode", "deterministic or robust: what is assumed about the other direction"),
        _id("rule", "how the room was shared out: proportional, equal, …"),
        _id("binding_element", "the bus or branch that limits it; empty where nothing does"),
    )),
    Table("positions", "an agent, interval and stage", ("stage", "time", "agent_id"), (
        _id("stage", STAGES),
        _time("time", "start of the interval"),
        _id("agent_id", "the agent; the row of a shared ESS mirrors its tenants"),
        _number("exchange_kw", "kW", "net sale inside the community", SALE),
        _number("rented_charge_kw", "kW", "charging of its share of a shared ESS", POSITIVE),
        _number("rented_discharge_kw", "kW", "discharging of its share of a shared ESS", POSITIVE),
        _number("grid_buy_kw", "kW", "bought from the retailer", POSITIVE),
        _number("grid_sell_kw", "kW", "sold to the retailer", POSITIVE),
    )),
    Table("trades", "a bilateral trade", (), (
        _id("stage", STAGES),
        _time("time", "start of the interval"),
        _id("seller_id", "who sells"),
        _id("buyer_id", "who buys"),
        _number("energy_kwh", "kWh", "energy traded", POSITIVE),
        _number("price_eur_per_kwh", "eur/kWh", "what the seller gets", "buyer to seller +"),
        _number("network_charge_eur_per_kwh", "eur/kWh", "what the buyer pays for the wires on top", POSITIVE),
    )),
    Table("prices", "an interval, stage and tariff", ("stage", "time", "tariff_id"), (
        _id("stage", STAGES),
        _time("time", "start of the interval"),
        _id("tariff_id", "the retail tariff"),
        _number("energy_eur_per_kwh", "eur/kWh", "price inside the community; NaN where there was no market", "buyer to seller +", "nan"),
        _number("retail_buy_eur_per_kwh", "eur/kWh", "what a kWh from the retailer costs, everything included", "member to retailer +"),
        _number("retail_sell_eur_per_kwh", "eur/kWh", "what the retailer pays for a kWh fed in", "retailer to member +"),
    )),
    Table("locational_prices", "a connection, interval and stage (`dso.network: prices`)", ("stage", "time", "agent_id"), (
        _id("stage", STAGES),
        _time("time", "start of the interval"),
        _id("agent_id", "the connection's actor"),
        _number("energy_eur_per_kwh", "eur/kWh", "price inside the community, that of prices; NaN where there was no market", "buyer to seller +", "nan"),
        _number("losses_eur_per_kwh", "eur/kWh", "what a kWh drawn at this meter costs in losses", "to the DSO +"),
        _number("congestion_eur_per_kwh", "eur/kWh", "what it costs in room that others would need", "to the DSO +"),
        _id("binding_element", "the bus or branch that takes most of the congestion rent; empty where nothing is congested"),
    )),
    Table("rights", "a right to a share of an ESS", ("stage", "right_id"), (
        _id("stage", STAGES),
        _id("right_id", "the right"),
        _id("ess_id", "of which ESS"),
        _id("agent_id", "who holds it"),
        _time("start", "when it begins"),
        _time("end", "when it ends (the first moment after it)"),
        _number("energy_kwh", "kWh", "storage space", POSITIVE),
        _number("power_kw", "kW", "charging and discharging power", POSITIVE),
        _number("rent_energy_eur_per_kwh", "eur/kWh", "rent for the space, for the whole right", "tenant to operator +"),
        _number("rent_power_eur_per_kw", "eur/kW", "rent for the power, for the whole right", "tenant to operator +"),
        _flag("firm", "whether it can be relied on (true) or interrupted (false)"),
    )),
    Table("storage", "a shared ESS and interval", ("time", "ess_id"), (
        _time("time", "start of the interval"),
        _id("ess_id", "the ESS"),
        _number("charge_kw", "kW", "C, physical charging at the meter", POSITIVE),
        _number("discharge_kw", "kW", "R, physical discharging at the meter", POSITIVE),
        _number("energy_kwh", "kWh", "E, energy in it at the start of the interval", POSITIVE),
        _number("loss_kwh", "kWh", "lost in conversion and self-discharge in the interval", POSITIVE),
        _number("netting_gain_kwh", "kWh", "saved because opposite flows of holders cancel in the box", POSITIVE),
        _number("wear_eur", "eur", "cost of the wear in the interval (a cost, not a payment)", POSITIVE),
    )),
    Table("storage_ledger", "a holder of an ESS and interval", ("time", "ess_id", "agent_id"), (
        _time("time", "start of the interval"),
        _id("ess_id", "the ESS"),
        _id("agent_id", "the holder: a tenant or the operator"),
        _number("charge_kw", "kW", "c, the holder's charging", POSITIVE),
        _number("discharge_kw", "kW", "r, the holder's discharging", POSITIVE),
        _number("energy_kwh", "kWh", "e, the holder's energy at the start of the interval (the operator's account is the rest)", "the holder's +"),
    )),
    Table("bus_voltages", "a bus, phase and interval", ("time", "bus_id", "phase"), (
        _time("time", "start of the interval"),
        _id("bus_id", "the bus"),
        _id("phase", "a, b, c, or abc for a balanced network"),
        _number("v_pu", "pu", "voltage; NaN where the power flow did not converge", POSITIVE, "nan"),
    )),
    Table("branch_flows", "a branch, phase and interval", ("time", "branch_id", "phase"), (
        _time("time", "start of the interval"),
        _id("branch_id", "the branch"),
        _id("phase", "a, b, c, or abc for a balanced network"),
        _number("p_kw", "kW", "active power into the branch at its from-side; NaN where the power flow did not converge", "from → to +", "nan"),
        _number("q_kvar", "kvar", "reactive power into the branch at its from-side", "from → to +", "nan"),
        _number("current_a", "A", "current at the from-side", POSITIVE, "nan"),
        _number("loading_percent", "%", "use of the rating: larger end's current (line) or apparent power (transformer)", POSITIVE, "nan"),
        _number("loss_kw", "kW", "active loss in the branch", POSITIVE, "nan"),
    )),
    Table("violations", "a breach", (), (
        _time("time", "start of the interval"),
        _id("element", "the bus, branch or connection"),
        _id("kind", "over_voltage, under_voltage, overload, envelope, not_converged"),
        _number("value", "pu, % or kW", "what was; NaN where the power flow did not converge", "as the column it breaks", "nan"),
        _number("limit", "pu, % or kW", "what was allowed", "as the column it breaks", "nan"),
        _id("agent_id", "whose breach it was; empty where it was nobody's alone"),
    )),
    Table("clearings", "a clearing", ("clearing_id",), (
        _id("clearing_id", "the clearing"),
        _id("stage", STAGES),
        _time("opened_at", "when it was held (simulated time)"),
        _flag("converged", "whether its residuals reached market.tolerance of the scenario, a tenth of it day ahead, or its certificate is as good after thousands of iterations"),
        _count("iterations", "1", "iterations of the ADMM"),
        _number("primal_residual", "1", "relative primal residual at the end", POSITIVE, "nan"),
        _number("dual_residual", "1", "relative dual residual at the end", POSITIVE, "nan"),
        _number("cost_eur", "eur", "true cost of the plan", "cost +", "nan"),
        _number("bound_eur", "eur", "no plan costs less than this", "cost +", "nan"),
        _number("gap", "1", "(cost − bound) / max(1 eur, |cost|)", POSITIVE, "nan"),
        _number("max_agent_kkt", "eur", "no agent could save more than this by deviating alone at the prices", POSITIVE, "nan"),
        _number("end_missed_kwh", "kWh", "what the shared storage's operator will hold at the end of the delivery day beyond its wish, as far as limits and firm charges leave it no other plan; 0 where it ends as wished", "more than wished +", "nan", optional=True),
    )),
    Table("iterations", "a clearing and iteration checked", ("clearing_id", "iteration"), (
        _id("clearing_id", "the clearing"),
        _count("iteration", "1", "the iteration"),
        _number("primal_residual", "1", "relative primal residual", POSITIVE, "nan"),
        _number("dual_residual", "1", "relative dual residual", POSITIVE, "nan"),
        _number("penalty", "1", "penalty of the ADMM", POSITIVE, "nan"),
    )),
    Table("ledger", "a posting", ("posting_id",), (
        _id("posting_id", "the posting"),
        _id("transaction_id", "the transaction; its postings sum to zero in money and in energy"),
        _time("time", "start of the interval it belongs to"),
        _id("account", "the actor whose account it is: an agent_id of agents"),
        _id("kind", "what it is for"),
        _id("rule", "the tariff component or sharing rule behind it"),
        _count("energy_milliwatt_hour", "mWh", "energy, 1 kWh = 1e6 mWh", "to the account +"),
        _count("amount_micro_eur", "1e-6 eur", "money", "to the account +"),
        _id("previous_hash", "hash of the posting before; empty at the first"),
        _id("hash", "sha256 of previous_hash and the posting as JSON (sorted keys, no spaces, UTF-8)"),
    )),
    Table("bills", "a line of a bill", ("agent_id", "period", "line", "rule"), (
        _id("agent_id", "whose bill"),
        _id("period", "the settlement period"),
        _id("line", "what it is for"),
        _number("quantity", "see unit", "how much"),
        _id("unit", "the quantity's unit"),
        _number("price_eur", "eur per unit", "mean price; NaN where the quantity is zero, and where energy went both ways in the period", "", "nan"),
        _number("amount_eur", "eur", "the amount", "to pay +, credit −"),
        _id("rule", "the tariff component or sharing rule behind it"),
    )),
    Table("invoices", "an invoice of an aggregator", ("aggregator_id", "agent_id", "period"), (
        _id("aggregator_id", "who sends it"),
        _id("agent_id", "the member"),
        _id("period", "the settlement period"),
        _number("passed_through_eur", "eur", "the member's bill, handed on as it is", "to pay +, credit −"),
        _number("fee_eur", "eur", "what the aggregator keeps", POSITIVE),
        _number("total_eur", "eur", "the sum: the member's whole bill", "to pay +, credit −"),
    )),
    Table("kpis", "a figure", ("kpi", "scope", "entity", "period"), (
        _id("kpi", "the figure (docs/kpis.md defines each)"),
        _id("scope", "community (the twenty headline figures), member, party or day"),
        _id("entity", "whose: community, an agent_id, a party"),
        _id("period", "run, or a day"),
        _id("boundary", "where it is measured: member meter, community virtual, community physical, …"),
        _number("value", "see unit", "the figure; NaN where its denominator is zero", "", "nan"),
        _id("unit", "its unit"),
        _number("reference", "see unit", "the same figure in the reference run", "", "nan"),
        _number("difference", "see unit", "value − reference", "", "nan"),
        _number("percent", "%", "difference relative to the size of the reference; NaN where that is zero", "", "nan"),
    )),
    Table("messages", "a message (channel `simulated`)", (), (
        _time("sent_at", "when it was sent (simulated time)"),
        _time("delivered_at", "when it arrived; null if it was lost", lost=True),
        _id("sender", "who sent it"),
        _id("receiver", "for whom"),
        _id("kind", "what it says"),
        _count("bytes", "B", "its size"),
        _flag("lost", "whether it never arrived"),
    )),
)  # fmt: skip

TABLES: Mapping[str, Table] = {table.name: table for table in _TABLES}
"""Every table by its name."""

SECTIONS: Mapping[str, str] = {
    "tables": "this run",
    "reference": "the same people, data and envelopes (without lifting), but no sharing, no shared ESS, retail tariff",
    "ex_post": "the same meters as this run, settled only by the plain sharing rule (no positions)",
    "unmanaged": "the reference people without envelopes: the picture before",
}
"""The folders of a run and what each holds."""

_PARTIAL = {
    "ex_post": ("ledger", "bills", "kpis"),
    "unmanaged": ("meters", "bus_voltages", "branch_flows", "violations"),
}


def tables_of(section: str) -> tuple[str, ...]:
    """Return the tables that a folder of a run always holds.

    Examples
    --------
    >>> tables_of("ex_post")
    ('ledger', 'bills', 'kpis')
    """
    if section not in SECTIONS:
        raise KeyError(f"'{section}' is no folder of a run; the folders are {', '.join(SECTIONS)}.")
    return _PARTIAL.get(section, tuple(TABLES))


def arrow_type(column: Column) -> pa.DataType:
    """Return the Arrow type of a column."""
    import pyarrow as pa

    types = {
        "string": pa.string(),
        "time": pa.timestamp("us", tz="UTC"),
        "float64": pa.float64(),
        "int64": pa.int64(),
        "bool": pa.bool_(),
    }
    return types[column.kind]


def arrow_schema(table: Table) -> pa.Schema:
    """Return the Arrow schema of a table; every field carries ``unit``, ``sign`` and ``description``."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field(
                column.name,
                arrow_type(column),
                nullable=column.numbers == "nan",
                metadata={"unit": column.unit, "sign": column.sign, "description": column.description},
            )
            for column in table.columns
        ],
        metadata={"table": table.name, "row": table.row},
    )
