"""Messages as CSIP-AUS: DERControl and DefaultDERControl of IEEE 2030.5, out and in.

A file holds, for every customer, three resources just as a utility server gives them: its ``DERProgram`` (the primacy), its
``DefaultDERControl`` and its ``DERControlList``; only the element around them is our own, because IEEE 2030.5 has a resource
for each customer and none for all::

    <EnvelopeMessages><EndDevice id="home 1"> <DERProgram/> <DefaultDERControl/> <DERControlList/> </EndDevice> …

Limits are ``csipaus:opModImpLimW`` and ``csipaus:opModExpLimW``, an ActivePower each: value · 10^multiplier W with a value of 16 bits.
A list alone, as a server answers, is read too; whose it is must then be said.  What arrives when is no part of a resource: what is
read counts as received when it was created.  The resources are written and read by envoy-schema [1]_ (extra ``doe``).

Limits: a control of a fixed start only (no randomisation); of its other modes (opModGenLimW, opModLoadLimW, opModConnect, …) none is
acted on, so a control with any of them is refused rather than half obeyed; a firm charge is not sent.

References
----------
.. [1] Battery Storage and Grid Integration Program, "envoy-schema", https://github.com/bsgip/envoy-schema (MIT).
.. [2] Common Smart Inverter Profile Australia, https://csipaus.org/ns/v1.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np

from network.messages import NEVER, PRIMACY, Controls, Defaults, MessageError

if TYPE_CHECKING:
    from envoy_schema.server.schema.sep2.der import DERControlBase, DERControlResponse

__all__ = ["read_xml", "write_xml"]

SEP2 = "urn:ieee:std:2030.5:ns"
CSIPAUS = "https://csipaus.org/ns/v1.3"
OWN = "urn:commonwatt:envelope-messages:1"
LIMITS = ("opModImpLimW", "opModExpLimW")
_INT16 = 32_767
SCHEDULED, CANCELLED, SUPERSEDED = 0, 2, 4


def _library() -> Any:
    """Return the module with the resources of the function set DER, or say what to install."""
    try:
        from envoy_schema.server.schema.sep2 import der
    except ModuleNotFoundError:
        raise MessageError(
            ["CSIP-AUS needs envoy-schema, which is not installed. Install it with: pip install 'commonwatt[doe]'."]
        ) from None
    return der


def write_xml(path: Path, controls: Controls, defaults: Defaults) -> None:
    """Write messages and defaults; :func:`read_xml` reads the same again, to the watt.

    Parameters
    ----------
    path
        The file.
    controls, defaults
        Of the same customers or fewer; who has no control gets its default alone.
    """
    der = _library()
    mistakes = [
        f"{name}: has controls and no default. Without one a lost message would mean no limit."
        for name in dict.fromkeys(controls.agent_id)
        if name not in defaults.agent_id
    ]
    mistakes += _unsendable(controls)
    if mistakes:
        raise MessageError(mistakes)
    for prefix, space in (("", SEP2), ("csipaus", CSIPAUS), ("own", OWN)):
        ET.register_namespace(prefix, space)
    rows: dict[str, list[int]] = {}
    for k, name in enumerate(controls.agent_id):
        rows.setdefault(name, []).append(k)
    root = ET.Element(f"{{{OWN}}}EnvelopeMessages")
    for number, name in enumerate(defaults.agent_id):
        device = ET.SubElement(root, f"{{{OWN}}}EndDevice", {"id": name})
        mine = rows.get(name, [])
        for primacy in sorted({int(controls.primacy[k]) for k in mine}) or [PRIMACY]:
            of_program = [k for k in mine if controls.primacy[k] == primacy]
            href = f"/edev/{number + 1}/derp/{primacy}"
            program = der.DERProgramResponse(mRID=f"{number + 1:016X}{primacy:016X}", primacy=primacy, href=href)
            listed = der.DERControlListResponse(
                all_=len(of_program),
                results=len(of_program),
                href=f"{href}/derc",
                DERControl=[_control(der, controls, k, f"{href}/derc/{controls.mrid[k]}") for k in of_program],
            )
            for resource in (program, listed):
                device.append(_element(resource))
        d = defaults.agent_id.index(name)
        default = der.DefaultDERControl(
            mRID=f"{number + 1:016X}{'F' * 16}",
            href=f"/edev/{number + 1}/dderc",
            DERControlBase_=_base(der, defaults.import_limit_w[d], defaults.export_limit_w[d]),
        )
        device.append(_element(default))
    ET.indent(root)
    ET.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _element(resource: Any) -> ET.Element:
    return ET.fromstring(resource.to_xml(skip_empty=True, exclude_none=True))  # noqa: S314  # just written


def _unsendable(controls: Controls) -> list[str]:
    mistakes = []
    for k in range(len(controls)):
        name = controls.mrid[k]
        if len(name) != 32 or any(digit not in "0123456789ABCDEFabcdef" for digit in name):
            mistakes.append(f"message {name!r}: an mRID has 32 hexadecimal digits.")
    return mistakes


def _base(der: Any, import_limit_w: float, export_limit_w: float) -> DERControlBase:
    told = {name: _power(float(w)) for name, w in zip(LIMITS, (import_limit_w, export_limit_w), strict=True) if not math.isnan(w)}  # fmt: skip
    base: DERControlBase = der.DERControlBase(**told)
    return base


def _power(limit_w: float) -> dict[str, int]:
    """Return watts as a value of 16 bits and a power of ten; they must have one."""
    value, multiplier = int(limit_w), 0
    while value > _INT16:
        if value % 10:
            raise MessageError([f"{limit_w:g} W do not fit into 16 bits and a power of ten. Round them down first."])
        value, multiplier = value // 10, multiplier + 1
    return {"multiplier": multiplier, "value": value}


def _control(der: Any, controls: Controls, k: int, href: str) -> DERControlResponse:
    cancelled = not np.isnat(controls.cancelled_at[k])
    since = controls.cancelled_at[k] if cancelled else controls.created_at[k]
    control: DERControlResponse = der.DERControlResponse(
        mRID=controls.mrid[k],
        href=href,
        creationTime=_seconds(controls.created_at[k]),
        EventStatus_={
            "currentStatus": CANCELLED if cancelled else SCHEDULED,
            "dateTime": _seconds(since),
            "potentiallySuperseded": False,
        },
        interval={"duration": int(controls.duration_s[k]), "start": _seconds(controls.start[k])},
        DERControlBase_=_base(der, controls.import_limit_w[k], controls.export_limit_w[k]),
    )
    return control


def _seconds(moment: np.datetime64) -> int:
    return int(np.asarray(moment, dtype="datetime64[s]").astype(np.int64))


@dataclass(slots=True)
class _Read:
    """What was read so far."""

    file: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    defaults: dict[str, tuple[float, float]] = field(default_factory=dict)
    mistakes: list[str] = field(default_factory=list)

    def wrong(self, owner: str, name: str, sentence: str) -> None:
        self.mistakes.append(f"{self.file}: {owner}: {name}: {sentence}")


def read_xml(path: Path, owner: str | None = None, fallback_kw: tuple[float, float] | None = None) -> tuple[Controls, Defaults]:  # fmt: skip
    """Read messages and defaults.

    Parameters
    ----------
    path
        A file of :func:`write_xml`, or a ``DERControlList`` or ``DefaultDERControl`` alone.
    owner
        Whose such a resource is.
    fallback_kw
        Import and export limit of a default that the file does not say, or says for one direction only; None: such a
        default is refused. [kW]
    """
    der = _library()
    read = _Read(path.name)
    try:
        text = path.read_bytes()
        if b"<!DOCTYPE" in text:
            raise MessageError([f"{path.name}: has a document type, which no message needs. Remove it."])
        root = ET.fromstring(text)  # noqa: S314  # without a document type there are no entities to expand
    except (OSError, ET.ParseError) as error:
        raise MessageError([f"{path.name}: cannot be read as XML: {error}."]) from error
    if root.tag == f"{{{OWN}}}EnvelopeMessages":
        devices = [(device.get("id", ""), list(device)) for device in root.findall(f"{{{OWN}}}EndDevice")]
    elif owner is None:
        raise MessageError([f"{path.name}: is a resource of one customer alone ({_plain(root.tag)}). Say whose it is."])
    else:
        devices = [(owner, [root])]
    for name, resources in devices:
        _device(der, read, name, resources)
        limits = read.defaults.get(name, (math.nan, math.nan))
        if any(math.isnan(limit) for limit in limits) and fallback_kw is not None:
            read.defaults[name] = tuple(  # type: ignore[assignment]  # two of them
                known if math.isnan(limit) else limit
                for limit, known in zip(limits, Defaults.same([name], *fallback_kw).limits(0), strict=True)
            )
        elif any(math.isnan(limit) for limit in limits):
            read.wrong(name, "DefaultDERControl", "a default for both directions is needed. Give one, or a fallback.")
    if read.mistakes:
        raise MessageError(read.mistakes)
    try:
        return _columns(read.rows), Defaults(
            tuple(read.defaults),
            np.array([limits[0] for limits in read.defaults.values()], dtype=np.float64),
            np.array([limits[1] for limits in read.defaults.values()], dtype=np.float64),
        )
    except MessageError as error:
        raise MessageError([f"{path.name}: {sentence}" for sentence in error.mistakes]) from error


def _device(der: Any, read: _Read, owner: str, resources: Sequence[ET.Element]) -> None:
    """Read the resources of one customer; a list of controls has the primacy of the program before it."""
    primacy = PRIMACY
    kinds = {
        "DERProgram": der.DERProgramResponse,
        "DefaultDERControl": der.DefaultDERControl,
        "DERControlList": der.DERControlListResponse,
    }
    for resource in resources:
        kind = _plain(resource.tag)
        if kind not in kinds:
            read.wrong(owner, kind, f"is no resource that is read; expected {', '.join(kinds)}.")
            continue
        try:
            parsed = kinds[kind].from_xml(ET.tostring(resource))
        except ValueError as error:  # of pydantic, too
            read.wrong(owner, kind, f"is not as IEEE 2030.5 says: {' '.join(str(error).split())}")
            continue
        if kind == "DERProgram":
            primacy = int(parsed.primacy)
        elif kind == "DefaultDERControl":
            read.defaults[owner] = _limits(read, owner, "DefaultDERControl", parsed.DERControlBase_)
        else:
            for control in parsed.DERControl or []:
                _read_control(read, owner, control, primacy)


def _plain(tag: str) -> str:
    return tag.rpartition("}")[2]


def _limits(read: _Read, owner: str, name: str, base: DERControlBase) -> tuple[float, float]:
    """Return the limits of both directions, NaN where one is not said; any other mode is refused."""
    other = sorted(mode for mode in base.model_fields_set if getattr(base, mode) is not None and mode not in LIMITS)
    if other:
        read.wrong(owner, name, f"asks for {', '.join(other)}, which nothing here acts on; {' and '.join(LIMITS)} are read.")  # fmt: skip
    found = []
    for mode in LIMITS:
        power = getattr(base, mode)
        limit = math.nan if power is None else float(power.value) * 10.0**power.multiplier
        if limit < 0:
            read.wrong(owner, name, f"{mode} is {limit:g} W; a limit is a magnitude, zero or more.")
        # a fraction of a watt: down, as everywhere
        found.append(limit if math.isnan(limit) else math.floor(limit))
    return found[0], found[1]


def _read_control(read: _Read, owner: str, control: DERControlResponse, primacy: int) -> None:
    name = f"DERControl {control.mRID}"
    limits = _limits(read, owner, name, control.DERControlBase_)
    if all(math.isnan(limit) for limit in limits):
        read.wrong(owner, name, f"says neither {LIMITS[0]} nor {LIMITS[1]}.")
    if control.randomizeStart or control.randomizeDuration:
        read.wrong(owner, name, "has a randomised start or duration; an envelope binds at a moment that is known.")
    if control.interval.duration <= 0:
        read.wrong(owner, name, f"lasts {control.interval.duration} s; expected more than 0.")
    status = control.EventStatus_.currentStatus
    if status not in {0, 1, CANCELLED, 3, SUPERSEDED}:
        read.wrong(owner, name, f"has the status {status}; IEEE 2030.5 knows 0 to 4.")
    gone = status in {CANCELLED, 3, SUPERSEDED}
    read.rows.append(
        {
            "mrid": control.mRID,
            "agent_id": owner,
            "start": control.interval.start,
            "duration_s": control.interval.duration,
            "created_at": control.creationTime,
            "cancelled_at": control.EventStatus_.dateTime if gone else None,
            "primacy": primacy,
            "import_limit_w": limits[0],
            "export_limit_w": limits[1],
        }
    )


def _columns(rows: list[dict[str, Any]]) -> Controls:
    def moments(name: str) -> np.ndarray[Any, Any]:
        return np.array([NEVER if row[name] is None else np.datetime64(row[name], "s") for row in rows], dtype="datetime64[s]")  # fmt: skip

    owners = tuple(row["agent_id"] for row in rows)
    return Controls(
        mrid=tuple(row["mrid"] for row in rows),
        agent_id=owners,
        receiver_id=owners,
        start=moments("start"),
        duration_s=np.array([row["duration_s"] for row in rows], dtype=np.int64),
        created_at=moments("created_at"),
        received_at=moments("created_at"),
        cancelled_at=moments("cancelled_at"),
        primacy=np.array([row["primacy"] for row in rows], dtype=np.int64),
        import_limit_w=np.array([row["import_limit_w"] for row in rows], dtype=np.float64),
        export_limit_w=np.array([row["export_limit_w"] for row in rows], dtype=np.float64),
    )
