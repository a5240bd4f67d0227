"""The executor's arithmetic on corner values, against Python's exact numbers and NumPy.

What ptxas folds is held against ptxas (test_ptx_folding.py); this is for the rest, and for
every rule that the ISA states.
"""

from __future__ import annotations

import itertools
import math
import random
from fractions import Fraction

import numpy as np
import pytest

from lsd.lab.ptx.single import Item, executed, forms

NAN = 0x7FFFFFFF  # the one NaN that arithmetic makes
SOURCE = random.Random(7)
WORDS = [0, 1, 2, 31, 32, 33, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x12345678, 0xDEADBEEF]
SINGLES = [0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, math.inf, -math.inf, math.nan, 1e-45,
           -1e-45, 1.1754944e-38, 3.4028235e38, 0.1, 1 / 3, 16777217.0, 255.5, 65504.0]  # fmt: skip


def of(opcode: str, *operands: tuple[int, ...]) -> list[int]:
    """Run one instruction on each tuple of bits."""
    return all_of([(opcode, each) for each in operands])


def all_of(instructions: list[tuple[str, tuple[int, ...]]]) -> list[int]:
    """Run instructions, each on its bits."""
    known = forms()
    return executed([Item(opcode, known[opcode], operands) for opcode, operands in instructions])


def bits(value: float) -> int:
    with np.errstate(over="ignore"):
        return int(np.float32(value).view(np.uint32))


def half(value: float) -> int:
    with np.errstate(over="ignore"):
        return int(np.float16(value).view(np.uint16))


def number(word: int) -> float:
    return float(np.uint32(word).view(np.float32))


def signed(word: int, size: int = 32) -> int:
    return word - (1 << size) if word >> (size - 1) else word


def nearest(value: Fraction) -> int:
    """Round an exact number to f32, to nearest even, by search between neighbours."""
    low = np.float32(float(value))
    around = [np.nextafter(low, np.float32(-np.inf)), low, np.nextafter(low, np.float32(np.inf))]
    finite = [each for each in around if np.isfinite(each)]
    best = min(
        finite, key=lambda each: (abs(Fraction(float(each)) - value), int(each.view(np.uint32)) & 1)
    )
    return int(best.view(np.uint32))


# integers and bits


@pytest.mark.parametrize(
    ("opcode", "meaning"),
    [
        ("add.u32", lambda a, b: a + b),
        ("sub.s32", lambda a, b: a - b),
        ("mul.lo.s32", lambda a, b: a * b),
        ("mul.hi.u32", lambda a, b: a * b >> 32),
        ("mul.hi.s32", lambda a, b: signed(a) * signed(b) >> 32),
        ("min.s32", lambda a, b: min(a, b, key=signed)),
        ("max.u32", max),
        ("shl.b32", lambda a, b: a << b if b < 32 else 0),
        ("shr.u32", lambda a, b: a >> b),
        ("shr.s32", lambda a, b: signed(a) >> min(b, 31)),
        ("xor.b32", lambda a, b: a ^ b),
    ],
)
def test_integers_of_32_bits(opcode: str, meaning) -> None:
    pairs = list(itertools.product(WORDS, WORDS))
    assert of(opcode, *pairs) == [meaning(a, b) & 0xFFFFFFFF for a, b in pairs]


def test_wide_products_and_sums() -> None:
    triples = list(itertools.product(WORDS, WORDS, [0, 5, 2**64 - 1]))
    mask = 2**64 - 1
    assert of("mad.wide.u32", *triples) == [(a * b + c) & mask for a, b, c in triples]
    wanted = [(signed(a) * signed(b) + c) & mask for a, b, c in triples]
    assert of("mad.wide.s32", *triples) == wanted
    high = [(a, b, 9) for a, b in itertools.product(WORDS, WORDS)]
    wanted = [((signed(a) * signed(b) >> 32) + 9) & 0xFFFFFFFF for a, b, _ in high]
    assert of("mad.hi.s32", *high) == wanted


def test_high_products_of_64_bits() -> None:
    longs = [0, 1, 2**63, 2**64 - 1, 0x123456789ABCDEF, 2**32]
    pairs = list(itertools.product(longs, longs))
    assert of("mul.hi.u64", *pairs) == [a * b >> 64 for a, b in pairs]
    wanted = [signed(a, 64) * signed(b, 64) >> 64 & (2**64 - 1) for a, b in pairs]
    assert of("mul.hi.s64", *pairs) == wanted


def test_division_truncates_and_its_overflow_wraps() -> None:
    pairs = [(a, b) for a, b in itertools.product(WORDS, WORDS) if b]
    quotients = [int(Fraction(signed(a), signed(b))) for a, b in pairs]  # toward zero
    assert of("div.s32", *pairs) == [q & 0xFFFFFFFF for q in quotients]
    rests = [signed(a) - q * signed(b) for (a, b), q in zip(pairs, quotients, strict=True)]
    assert of("rem.s32", *pairs) == [r & 0xFFFFFFFF for r in rests]
    assert of("rem.u32", *pairs) == [a % b for a, b in pairs]


def test_shifts_of_16_bits_by_the_width_or_more() -> None:
    assert of("shl.b16", (0xFFFF, 15), (0xFFFF, 16), (0xFFFF, 99)) == [0x8000, 0, 0]
    assert of("shr.u16", (0x8001, 15), (0x8001, 16)) == [1, 0]
    assert of("shr.s16", (0x8001, 3), (0x8001, 16), (0x7FFF, 40)) == [0xF000, 0xFFFF, 0]


def test_funnel_shifts_wrap_their_count() -> None:
    triples = list(itertools.product([0x12345678, 0xFFFFFFFF], [0x9ABCDEF0, 0], [0, 1, 31, 32, 40]))
    both = [(b << 32 | a, c % 32) for a, b, c in triples]
    assert of("shf.l.wrap.b32", *triples) == [x << c >> 32 & 0xFFFFFFFF for x, c in both]
    assert of("shf.r.wrap.b32", *triples) == [x >> c & 0xFFFFFFFF for x, c in both]


def test_permutation_of_bytes_and_their_signs() -> None:
    a, b = 0x83828180, 0x07068584
    triples = [(a, b, SOURCE.getrandbits(32)) for _ in range(60)]

    def permuted(a: int, b: int, selector: int) -> int:
        pool = (b << 32 | a).to_bytes(8, "little")
        picked = [selector >> 4 * k & 15 for k in range(4)]
        return int.from_bytes(
            [(0xFF if pool[n & 7] > 127 else 0) if n & 8 else pool[n & 7] for n in picked], "little"
        )

    assert of("prmt.b32", *triples) == [permuted(*each) for each in triples]


def test_any_function_of_three_bits() -> None:
    a, b, c = 0xF0F0F0F0, 0xCCCCCCCC, 0xAAAAAAAA
    # those three words hold every combination of bits: the result repeats the table
    tables = list(range(256))
    assert of("lop3.b32", *((a, b, c, t) for t in tables)) == [t * 0x01010101 for t in tables]


def test_bit_fields() -> None:
    cases = list(
        itertools.product([0x87654321, 0x7FFFFFFF], [0, 4, 31, 32, 300], [0, 1, 8, 32, 255])
    )

    def field(a: int, position: int, length: int, is_signed: bool) -> int:
        position, length = position & 255, length & 255
        if not length:
            return 0
        sign = is_signed and a >> min(position + length - 1, 31) & 1
        wide = a | (((1 << 600) - 1) << 32 if sign else 0)
        low = wide >> position & ((1 << length) - 1)
        return (low | (((1 << 600) - 1) << length if sign else 0)) & 0xFFFFFFFF

    assert of("bfe.u32", *cases) == [field(*each, False) for each in cases]
    assert of("bfe.s32", *cases) == [field(*each, True) for each in cases]
    inserts = [(0xFFFFFFFF, 0, 8, 8), (0, 0xFFFFFFFF, 28, 8), (5, 7, 32, 4), (5, 7, 0, 0)]
    assert of("bfi.b32", *inserts) == [0xFF00, 0x0FFFFFFF, 7, 7]


def test_counts_of_bits() -> None:
    assert of("popc.b32", (0,), (0xF0F0,)) == [0, 8]
    assert of("clz.b32", (0,), (1,), (0x80000000,)) == [32, 31, 0]
    assert of("clz.b64", (0,), (1,)) == [64, 63]
    assert of("brev.b32", (1,), (0x12345678,)) == [0x80000000, 0x1E6A2C48]


# f32


def test_sums_and_products_have_one_nan() -> None:
    inf, nan = bits(math.inf), 0x7FC01234
    assert of("add.f32", (inf, bits(-math.inf)), (nan, 0)) == [NAN, NAN]
    assert of("mul.f32", (inf, 0), (0x80000000, bits(1.0))) == [NAN, 0x80000000]
    assert of("sub.f32", (bits(1e-45), 0), (0, 0)) == [1, 0]  # denormals stay


def test_fma_rounds_once() -> None:
    triples = [tuple(bits(SOURCE.uniform(-4, 4)) for _ in range(3)) for _ in range(300)]
    close = bits(1.0 + 2.0**-12)
    triples.append((close, close, bits(-(1.0 + 2.0**-11))))  # only the last bit of the product
    exact = [Fraction(number(a)) * Fraction(number(b)) + Fraction(number(c)) for a, b, c in triples]
    assert of("fma.rn.f32", *triples) == [nearest(each) for each in exact]
    assert of("fma.rn.f32", triples[-1])[0] == bits(2.0**-24)
    assert of("fma.rn.f32", (bits(math.inf), 0, 0))[0] == NAN


def test_division_and_roots_are_rounded_to_nearest() -> None:
    pairs = [(bits(SOURCE.uniform(-9, 9)), bits(SOURCE.uniform(1e-3, 9))) for _ in range(200)]
    exact = [Fraction(number(a)) / Fraction(number(b)) for a, b in pairs]
    assert of("div.rn.f32", *pairs) == [nearest(each) for each in exact]
    assert of("div.rn.f32", (0, 0), (bits(1), 0x80000000)) == [NAN, bits(-math.inf)]
    assert of("rcp.rn.f32", *((b,) for _, b in pairs)) == [
        nearest(1 / Fraction(number(b))) for _, b in pairs
    ]
    roots = of("sqrt.rn.f32", *((b,) for _, b in pairs))
    assert roots == [bits(math.sqrt(number(b))) for _, b in pairs]
    assert of("sqrt.rn.f32", (0x80000000,), (bits(-1),)) == [0x80000000, NAN]


def test_minimum_and_maximum_of_nan_and_zero() -> None:
    nan, one, minus = 0x7FC00001, bits(1.0), 0x80000000
    pairs = ((nan, one), (one, nan), (nan, nan), (0, minus), (minus, 0))
    assert of("min.f32", *pairs) == [one, one, NAN, minus, minus]
    assert of("max.f32", *pairs) == [one, one, NAN, 0, 0]
    assert of("min.NaN.f32", *pairs) == [NAN, NAN, NAN, minus, minus]
    assert of("max.NaN.f32", *pairs) == [NAN, NAN, NAN, 0, 0]


def test_signs_and_classes() -> None:
    assert of("copysign.f32", (bits(-2.0), bits(3.0)), (0, bits(-3.0))) == [bits(-3.0), bits(3.0)]
    values = [(bits(each),) for each in (1.0, math.inf, math.nan, 1e-45, -math.inf)]
    assert of("testp.finite.f32", *values) == [1, 0, 0, 1, 0]
    assert of("testp.infinite.f32", *values) == [0, 1, 0, 0, 1]
    assert of("testp.number.f32", *values) == [1, 1, 0, 1, 1]
    assert of("testp.notanumber.f32", *values) == [0, 0, 1, 0, 0]


def test_comparisons_with_nan() -> None:
    pair = (0x7FC00000, bits(1.0))
    ordered = ("eq", "ne", "lt", "le", "gt", "ge", "num")
    unordered = ("equ", "neu", "ltu", "leu", "gtu", "geu", "nan")
    assert all_of([(f"setp.{name}.f32", pair) for name in ordered]) == [0] * 7
    assert all_of([(f"setp.{name}.f32", pair) for name in unordered]) == [1] * 7


@pytest.mark.parametrize("name", ["ex2", "lg2", "rcp", "rsqrt", "sqrt", "sin", "cos"])
def test_approximations_are_the_rounded_exact_value(name: str) -> None:
    exact = {
        "ex2": lambda x: 2.0**x,
        "lg2": math.log2,
        "rcp": lambda x: 1.0 / x,
        "rsqrt": lambda x: 1.0 / math.sqrt(x),
        "sqrt": math.sqrt,
        "sin": math.sin,
        "cos": math.cos,
    }[name]
    values = [np.float32(SOURCE.uniform(0.01, 20)) for _ in range(100)]
    got = of(f"{name}.approx.ftz.f32", *((bits(each),) for each in values))
    assert got == [bits(exact(float(each))) for each in values]


def test_approximations_at_the_edges() -> None:
    tiny, inf, minus_inf = bits(1e-40), bits(math.inf), bits(-math.inf)
    assert of("rcp.approx.ftz.f32", (tiny,), (0x80000000,), (inf,)) == [inf, minus_inf, 0]
    # 2^-130 is flushed only with .ftz
    assert of("ex2.approx.ftz.f32", (bits(-130.0),), (minus_inf,)) == [0, 0]
    assert of("ex2.approx.f32", (bits(-130.0),)) == [bits(2.0**-130)]
    assert of("lg2.approx.ftz.f32", (0,), (bits(-1.0),), (tiny,)) == [minus_inf, NAN, minus_inf]
    assert of("rsqrt.approx.ftz.f32", (0x80000000,), (bits(-1.0),)) == [minus_inf, NAN]
    assert of("sin.approx.ftz.f32", (inf,), (0x80000000,)) == [NAN, 0x80000000]
    # beyond 2^126 the reciprocal is flushed
    assert of("div.approx.ftz.f32", (bits(1.0), bits(2e38)), (inf, bits(2e38))) == [0, NAN]


# conversions


@pytest.mark.parametrize(
    ("modifier", "rounded"),
    [("rni", round), ("rzi", math.trunc), ("rmi", math.floor), ("rpi", math.ceil)],
)
@pytest.mark.parametrize(("kind", "low", "high"), [
    ("u8", 0, 255), ("s16", -(2**15), 2**15 - 1), ("u32", 0, 2**32 - 1)
])  # fmt: skip
def test_floats_to_integers_round_and_saturate(kind, low, high, modifier, rounded) -> None:
    singles = [float(np.float32(each)) for each in SINGLES]
    clamped = [min(max(each, low), high) for each in singles]
    wanted = [0 if math.isnan(each) else rounded(each) for each in clamped]
    size = 16 if kind == "s16" else 32
    got = of(f"cvt.{modifier}.{kind}.f32", *((bits(each),) for each in singles))
    assert got == [each % 2**size for each in wanted]


def test_nan_becomes_the_highest_bit_of_64() -> None:
    assert of("cvt.rni.s64.f32", (0x7FC00000,)) == [1 << 63]
    assert of("cvt.rni.s32.f32", (0x7FC00000,)) == [0]


def test_saturation_of_integers() -> None:
    words = [(each % 2**32,) for each in (-1, 0, 255, 256, -129, 2**31 - 1)]
    assert of("cvt.sat.u8.s32", *words) == [0, 0, 255, 255, 0, 255]
    saturated = [-1, 0, 127, 127, -128, 127]
    assert of("cvt.sat.s8.s32", *words) == [each % 2**32 for each in saturated]
    assert of("cvt.u8.s32", *words) == [each[0] % 256 for each in words]
    assert of("cvt.s8.s32", (0x80,), (0x17F,)) == [0xFFFFFF80, 0x7F]


def test_floats_saturate_to_one() -> None:
    values = [(bits(each),) for each in (-1.0, -0.0, 0.25, 1.0, 7.0, math.nan, math.inf)]
    wanted = [bits(each) for each in (0.0, 0.0, 0.25, 1.0, 1.0, 0.0, 1.0)]
    assert of("cvt.sat.f32.f32", *values) == wanted


def test_halves_round_to_nearest_even_with_denormals_and_overflow() -> None:
    values = [1.0, 65504.0, 65519.9, 65520.0, -65520.0, 2.0**-24, 2.0**-25, 2.0**-25 * 1.001,
              6.1e-5, 1 + 2.0**-11, 1 + 3 * 2.0**-11, -0.0, math.inf, 0.1]  # fmt: skip
    values += [SOURCE.uniform(-2, 2) * 10.0 ** SOURCE.randint(-9, 4) for _ in range(300)]
    singles = [float(np.float32(each)) for each in values]
    assert of("cvt.rn.f16.f32", *((bits(each),) for each in singles)) == [
        half(each) for each in singles
    ]
    assert of("cvt.rn.f16.f32", (0xFFC00001,)) == [0x7FFF]


def test_halves_round_in_the_other_directions() -> None:
    between = (bits(1 + 2.0**-12),), (bits(-1 - 2.0**-12),), (bits(1e-9),), (bits(70000.0),)
    assert of("cvt.rz.f16.f32", *between) == [0x3C00, 0xBC00, 0, 0x7BFF]
    assert of("cvt.rm.f16.f32", *between) == [0x3C00, 0xBC01, 0, 0x7BFF]
    assert of("cvt.rp.f16.f32", *between) == [0x3C01, 0xBC00, 1, 0x7C00]


def test_every_half_becomes_its_single() -> None:
    halves = np.arange(0, 2**16, 37, dtype=np.uint16)
    wanted = [NAN if math.isnan(value) else bits(float(value)) for value in halves.view(np.float16)]
    assert of("cvt.f32.f16", *((int(each),) for each in halves)) == wanted


def test_two_singles_to_two_halves_put_the_first_on_top() -> None:
    assert of("cvt.rn.f16x2.f32", (bits(1.0), bits(-2.0))) == [0x3C00C000]


@pytest.mark.parametrize("modifier", ["rn", "rz", "rm", "rp"])
def test_integers_to_floats_round_as_they_say(modifier: str) -> None:
    values = [0, 1, 2**24 + 1, 2**24 + 3, 2**31 - 1, -(2**24) - 1, -(2**31)]
    for value, got in zip(
        values, of(f"cvt.{modifier}.f32.s32", *((v % 2**32,) for v in values)), strict=True
    ):
        around = np.float32(value)
        down = around if int(around) <= value else np.nextafter(around, np.float32(-np.inf))
        up = around if int(around) >= value else np.nextafter(around, np.float32(np.inf))
        toward_zero = down if value >= 0 else up
        wanted = {"rn": around, "rm": down, "rp": up, "rz": toward_zero}[modifier]
        assert got == int(np.float32(wanted).view(np.uint32)), value


def test_integers_become_halves_by_one_rounding() -> None:
    values = [0, 1, 2049, 2051, 65504, 65519, 65520, 2**31 - 1]
    assert of("cvt.rn.f16.u32", *((each,) for each in values)) == [half(each) for each in values]
    assert of("cvt.rz.f16.u32", (2**32 - 1,), (65535,)) == [0x7BFF, 0x7BFF]
    assert of("cvt.rn.f16.s32", ((-2049) % 2**32,)) == [half(-2049)]
