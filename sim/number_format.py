"""Numbers as a reader sees them: digits, signs, spaces, units.

One rule a quantity, so that the same figure reads the same in a headline, a tile and a table: money has two digits
(none from 1000 on), power and energy none from 10 on, a percentage one digit below 10, a price in the hundredth part
of the currency one.  Minus is U+2212, thousands are parted by U+202F, a unit follows a no-break space, NaN is an en
dash, and nothing is ever ``-0.00``.
"""

from __future__ import annotations

import math

__all__ = [
    "DASH",
    "currency_sign",
    "energy",
    "minor_unit",
    "money",
    "number",
    "percent",
    "points",
    "power",
    "price",
    "share",
    "voltage",
]

DASH = "–"
"""What stands where there is no number."""

_MINUS, _THIN, _HARD = "−", "\u202f", "\u00a0"
_SIGNS = {"eur": "€", "usd": "$", "gbp": "£", "jpy": "¥", "inr": "₹"}
_MINOR = {"eur": "ct", "usd": "ct", "aud": "ct", "cad": "ct", "nzd": "ct", "gbp": "p", "chf": "Rp."}


def currency_sign(currency: str) -> str:
    """Return the sign of a currency, or its code in capitals.

    >>> currency_sign("eur"), currency_sign("sek")
    ('€', 'SEK')
    """
    return _SIGNS.get(currency.lower(), currency.upper())


def minor_unit(currency: str) -> tuple[str, float]:
    """Return the name of the currency's hundredth part and 100, or the currency itself and 1.

    >>> minor_unit("eur"), minor_unit("sek")
    (('ct', 100.0), ('SEK', 1.0))
    """
    if currency.lower() in _MINOR:
        return _MINOR[currency.lower()], 100.0
    return currency_sign(currency), 1.0


def number(value: float, digits: int = 0, *, signed: bool = False) -> str:
    """Return a number with a fixed count of digits.

    >>> number(-1234.5, 1), number(-0.001, 2), number(3, signed=True), number(float("nan"))
    ('−1\u202f234.5', '0.00', '+3', '–')
    """
    if not math.isfinite(value):
        return DASH
    body = f"{abs(value):,.{digits}f}"
    is_zero = not any(c in "123456789" for c in body)
    sign = "" if is_zero else _MINUS if value < 0 else "+" if signed else ""
    return sign + body.replace(",", _THIN)


def _with_unit(text: str, unit: str) -> str:
    return text if text == DASH else f"{text}{_HARD}{unit}"


def money(value: float, currency: str, *, signed: bool = False, unit: bool = True) -> str:
    r"""Return an amount: two digits, none from 1000 on.

    >>> money(-12.345, "eur"), money(4321.9, "eur", signed=True)
    ('−12.35\xa0€', '+4\u202f322\xa0€')
    """
    # round() of a binary 12.345 may fall either way; half a millionth decides it the way people expect
    nudged = value + math.copysign(5e-7, value) if math.isfinite(value) else value
    text = number(nudged, 0 if abs(nudged) >= 999.995 else 2, signed=signed)
    return _with_unit(text, currency_sign(currency)) if unit else text


def percent(value: float, *, signed: bool = False, unit: bool = True) -> str:
    r"""Return a percentage: no digit, one below 10.

    >>> percent(48.7), percent(-5.54, signed=True), percent(0.0)
    ('49\xa0%', '−5.5\xa0%', '0\xa0%')
    """
    text = number(value, 1 if 0.05 <= abs(value) < 9.95 else 0, signed=signed)
    return _with_unit(text, "%") if unit else text


def share(part: float, whole: float) -> float:
    """Return 100 · part / whole, NaN where there is no whole. [%]"""
    return 100.0 * part / whole if whole else math.nan


def points(value: float) -> str:
    """Return the difference of two percentages in words.

    >>> points(31.6), points(-2.04), points(0.0)
    ('32 points more', '2.0 points less', 'no change')
    """
    if not math.isfinite(value):
        return DASH
    size = percent(abs(value), unit=False)
    if size == "0":
        return "no change"
    return f"{size} point{'' if size == '1.0' else 's'} {'more' if value > 0 else 'less'}"


def power(value_kw: float, *, unit: bool = True) -> str:
    r"""Return a power: no digit, one below 10. [kW]

    >>> power(231.4), power(4.26)
    ('231\xa0kW', '4.3\xa0kW')
    """
    text = number(value_kw, 1 if 0.05 <= abs(value_kw) < 9.95 else 0)
    return _with_unit(text, "kW") if unit else text


def energy(value_kwh: float) -> str:
    r"""Return an energy: kWh without digits (one below 10), MWh with one from 10 000 kWh on.

    >>> energy(10843.0), energy(588.2), energy(0.42)
    ('10.8\xa0MWh', '588\xa0kWh', '0.4\xa0kWh')
    """
    if abs(value_kwh) >= 9999.5:
        return _with_unit(number(value_kwh / 1000.0, 1), "MWh")
    return _with_unit(number(value_kwh, 1 if 0.05 <= abs(value_kwh) < 9.95 else 0), "kWh")


def price(value_per_kwh: float, currency: str, *, per: str = "kWh") -> str:
    r"""Return a price in the hundredth part of the currency, one digit.

    >>> price(0.1253, "eur"), price(0.1253, "sek")
    ('12.5\xa0ct/kWh', '0.13\xa0SEK/kWh')
    """
    name, factor = minor_unit(currency)
    return _with_unit(number(value_per_kwh * factor, 1 if factor > 1 else 2), f"{name}/{per}")


def voltage(value_pu: float) -> str:
    r"""Return a voltage as its distance from nominal, signed, one digit.

    >>> voltage(1.0253), voltage(0.961)
    ('+2.5\xa0%', '−3.9\xa0%')
    """
    return _with_unit(number((value_pu - 1.0) * 100.0, 1, signed=True), "%")
