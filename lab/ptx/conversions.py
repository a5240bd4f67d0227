"""`cvt`: every spelling that the executor knows, as (result, source, C expression)."""

from __future__ import annotations

Conversion = tuple[str, str, str]

INTS = {"u8": "uint8_t", "s8": "int8_t", "u16": "uint16_t", "s16": "int16_t",
        "u32": "uint32_t", "s32": "int32_t", "u64": "uint64_t", "s64": "int64_t"}  # fmt: skip
# C function that rounds to an integral value, by PTX modifier
_TO_INTEGRAL = {"rni": "rintf", "rzi": "truncf", "rmi": "floorf", "rpi": "ceilf"}
_ROUNDINGS = ("rn", "rz", "rm", "rp")


def conversions() -> dict[str, Conversion]:
    """Return all conversions by their opcode."""
    found: dict[str, Conversion] = {}
    found.update(_between_integers())
    found.update(_between_floats())
    for kind in INTS:
        for rounding in _ROUNDINGS:
            found.update(_from_integer(kind, rounding))
        for modifier, function in _TO_INTEGRAL.items():
            found.update(_to_integer(kind, modifier, function))
    return found


def _between_integers() -> dict[str, Conversion]:
    found: dict[str, Conversion] = {}
    for to, c in INTS.items():
        for source in INTS:
            found[f"cvt.{to}.{source}"] = (to, source, f"({c}){{0}}")
            (low, high), (least, most) = _range(to), _range(source)
            if least < low or most > high:  # where all fits, PTX has no `.sat`
                clamped = f"({c})clamp_int({{0}}, {_wide(low)}, {_wide(high)})"
                found[f"cvt.sat.{to}.{source}"] = (to, source, clamped)
    return found


def _range(kind: str) -> tuple[int, int]:
    size = int(kind[1:])
    return (0, 2**size - 1) if kind[0] == "u" else (-(2 ** (size - 1)), 2 ** (size - 1) - 1)


def _wide(value: int) -> str:
    """Return a number of up to 65 bits as C, which has no literals of that size."""
    return f"({'-' * (value < 0)}(__int128){abs(value)}ull)"


def _from_integer(kind: str, rounding: str) -> dict[str, Conversion]:
    single = f"int_to_f32({{0}}, '{rounding[1]}')"
    half = f"int_to_f16({{0}}, '{rounding[1]}')"
    return {
        f"cvt.{rounding}.f32.{kind}": ("f32", kind, single),
        f"cvt.{rounding}.sat.f32.{kind}": ("f32", kind, f"saturate({single})"),
        f"cvt.{rounding}.f16.{kind}": ("f16", kind, half),
    }


def _to_integer(kind: str, modifier: str, function: str) -> dict[str, Conversion]:
    """Out of range is clamped always, with `.sat` or without."""
    found: dict[str, Conversion] = {}
    low, high = (_wide(bound) for bound in _range(kind))
    # what becomes of a NaN: 0, but for 64 bits the highest bit alone
    nan = "0x8000000000000000ull" if kind[1:] == "64" else "0"
    for source, value in (("f32", "{0}"), ("f16", "f16_to_f32({0})")):
        c = f"({INTS[kind]})f32_to_int({function}({value}), {low}, {high}, {nan})"
        for sat in ("", ".sat"):
            found[f"cvt.{modifier}{sat}.{kind}.{source}"] = (kind, source, c)
    return found


def _between_floats() -> dict[str, Conversion]:
    found: dict[str, Conversion] = {
        "cvt.f32.f16": ("f32", "f16", "f16_to_f32({0})"),
        "cvt.sat.f32.f16": ("f32", "f16", "saturate(f16_to_f32({0}))"),
        "cvt.sat.f32.f32": ("f32", "f32", "saturate({0})"),
    }
    for rounding in _ROUNDINGS:
        c = f"f32_to_f16_{rounding}({{0}})"
        found[f"cvt.{rounding}.f16.f32"] = ("f16", "f32", c)
        clamped = f"f32_to_f16_{rounding}(saturate({{0}}))"
        found[f"cvt.{rounding}.sat.f16.f32"] = ("f16", "f32", clamped)
    for modifier, function in _TO_INTEGRAL.items():
        c = f"one_nan({function}({{0}}))"
        found[f"cvt.{modifier}.f32.f32"] = ("f32", "f32", c)
        found[f"cvt.{modifier}.sat.f32.f32"] = ("f32", "f32", f"saturate({function}({{0}}))")
    return found
