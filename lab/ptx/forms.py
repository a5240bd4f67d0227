"""The regular instructions: every spelling that the executor knows, with its meaning in C.

A form is looked up by the whole opcode with its modifiers, so that a modifier which is not
spelled out here is refused. Operations on vectors, memory, warps and control flow, whose
operands are irregular, are in `irregular.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from lsd.lab.ptx.conversions import conversions


@dataclass(frozen=True, slots=True)
class Form:
    """An instruction `opcode d, a, b, ...` that computes d from the others.

    Attributes:
        result: type of d.
        sources: types of the operands after it.
        c: the value as a C expression of {0}, {1}, ...; functions are in arithmetic.h.
        is_loose: registers may be wider than their operand's type, as `cvt` allows.
        is_random: the expression is an approximation, whose error is drawn anew each time.
        undefined: a C condition on the sources under which PTX defines no result.
    """

    result: str
    sources: tuple[str, ...]
    c: str
    is_loose: bool = False
    is_random: bool = False
    undefined: str = ""


INTS = {"u16": "uint16_t", "s16": "int16_t", "u32": "uint32_t", "s32": "int32_t",
        "u64": "uint64_t", "s64": "int64_t"}  # fmt: skip
WIDER = {"u16": "u32", "s16": "s32", "u32": "u64", "s32": "s64"}
BITS = ("b16", "b32", "b64")


def _two(kind: str, c: str) -> Form:
    return Form(kind, (kind, kind), c)


def _integers() -> dict[str, Form]:
    """Integer arithmetic; sums and products wrap, which C leaves open for signed types."""
    forms: dict[str, Form] = {}
    for kind, c in INTS.items():
        wide = "uint64_t"  # unsigned, wide enough for the low bits of every sum and product
        forms[f"add.{kind}"] = _two(kind, f"({c})(({wide}){{0}} + ({wide}){{1}})")
        forms[f"sub.{kind}"] = _two(kind, f"({c})(({wide}){{0}} - ({wide}){{1}})")
        forms[f"mul.lo.{kind}"] = _two(kind, f"({c})(({wide}){{0}} * ({wide}){{1}})")
        forms[f"mad.lo.{kind}"] = Form(
            kind, (kind,) * 3, f"({c})(({wide}){{0}} * ({wide}){{1}} + ({wide}){{2}})"
        )
        forms[f"mul.hi.{kind}"] = _two(kind, f"({c})mul_hi_{kind}({{0}}, {{1}})")
        forms[f"mad.hi.{kind}"] = Form(
            kind, (kind,) * 3, f"({c})(({wide})mul_hi_{kind}({{0}}, {{1}}) + ({wide}){{2}})"
        )
        forms[f"min.{kind}"] = _two(kind, "({0} < {1} ? {0} : {1})")
        forms[f"max.{kind}"] = _two(kind, "({0} > {1} ? {0} : {1})")
        by_zero = "({1} == 0)"
        quotient, remainder = "{0} / {1}", "{0} % {1}"
        if kind[0] == "s":  # the smallest number by -1 traps in C; it wraps on a card
            quotient = f"({{1}} == -1 ? ({c})(0 - ({wide}){{0}}) : {{0}} / {{1}})"
            remainder = "({1} == -1 ? 0 : {0} % {1})"
            forms[f"neg.{kind}"] = Form(kind, (kind,), f"({c})(0 - ({wide}){{0}})")
            forms[f"abs.{kind}"] = Form(
                kind, (kind,), f"({c})({{0}} < 0 ? 0 - ({wide}){{0}} : {{0}})"
            )
        forms[f"div.{kind}"] = Form(kind, (kind, kind), f"({c})({quotient})", undefined=by_zero)
        forms[f"rem.{kind}"] = Form(kind, (kind, kind), f"({c})({remainder})", undefined=by_zero)
    for kind, wider in WIDER.items():
        product = f"(({INTS[wider]}){{0}} * ({INTS[wider]}){{1}})"
        forms[f"mul.wide.{kind}"] = Form(wider, (kind, kind), product)
        total = f"({INTS[wider]})((uint64_t){product} + (uint64_t){{2}})"
        forms[f"mad.wide.{kind}"] = Form(wider, (kind, kind, wider), total)
    return forms


def _bits() -> dict[str, Form]:
    """Bits: logic, shifts, fields, permutations."""
    forms: dict[str, Form] = {
        "and.pred": _two("pred", "({0} & {1})"),
        "or.pred": _two("pred", "({0} | {1})"),
        "xor.pred": _two("pred", "({0} ^ {1})"),
        "not.pred": Form("pred", ("pred",), "(!{0})"),
        "cvta.to.global.u64": Form("u64", ("u64",), "{0}"),
        "prmt.b32": Form("b32", ("b32",) * 3, "prmt({0}, {1}, {2})"),
        "lop3.b32": Form("b32", ("b32",) * 3 + ("lut",), "lop3({0}, {1}, {2}, {3})"),
        "shf.l.wrap.b32": Form("b32", ("b32", "b32", "u32"), "shf_l({0}, {1}, {2})"),
        "shf.r.wrap.b32": Form("b32", ("b32", "b32", "u32"), "shf_r({0}, {1}, {2})"),
        "brev.b32": Form("b32", ("b32",), "(uint32_t)(brev({0}) >> 32)"),
        "brev.b64": Form("b64", ("b64",), "brev({0})"),
        "popc.b32": Form("u32", ("b32",), "(uint32_t)__builtin_popcountll({0})"),
        "popc.b64": Form("u32", ("b64",), "(uint32_t)__builtin_popcountll({0})"),
        "clz.b32": Form("u32", ("b32",), "({0} ? (uint32_t)__builtin_clz({0}) : 32u)"),
        "clz.b64": Form("u32", ("b64",), "({0} ? (uint32_t)__builtin_clzll({0}) : 64u)"),
        "bfi.b32": Form(
            "b32", ("b32", "b32", "u32", "u32"), "(uint32_t)bfi({0}, {1}, {2}, {3}, 32)"
        ),
        "bfi.b64": Form(
            "b64",
            ("b64", "b64", "u32", "u32"),
            "bfi({0}, {1}, {2}, {3}, 64)",
            undefined="(({2} | {3}) > 255u)",
        ),
    }
    for kind, size in zip(BITS, (16, 32, 64), strict=True):
        c = f"uint{size}_t"
        for name, sign in (("and", "&"), ("or", "|"), ("xor", "^")):
            forms[f"{name}.{kind}"] = _two(kind, f"({c})({{0}} {sign} {{1}})")
        forms[f"not.{kind}"] = Form(kind, (kind,), f"({c})(~{{0}})")
        # a shift by the width or more is defined: nothing or the sign is left
        left = f"({c})({{1}} < {size}u ? {{0}} << {{1}} : 0)"
        forms[f"shl.{kind}"] = Form(kind, (kind, "u32"), left)
        right = f"({c})({{1}} < {size}u ? {{0}} >> {{1}} : 0)"
        forms[f"shr.{kind}"] = Form(kind, (kind, "u32"), right)
        forms[f"shr.u{size}"] = Form(f"u{size}", (f"u{size}", "u32"), right)
        arithmetic = f"(int{size}_t)({{0}} >> ({{1}} < {size}u ? {{1}} : {size - 1}u))"
        forms[f"shr.s{size}"] = Form(f"s{size}", (f"s{size}", "u32"), arithmetic)
    for size in (32, 64):
        for sign, c in (("u", f"uint{size}_t"), ("s", f"int{size}_t")):
            field = f"({c})bfe({{0}}, {{1}}, {{2}}, {size}, {int(sign == 's')})"
            kind = f"{sign}{size}"
            # the ISA takes the low bytes of position and length; ptxas folds 64 bits otherwise
            wide = "(({1} | {2}) > 255u)" if size == 64 else ""
            forms[f"bfe.{kind}"] = Form(kind, (kind, "u32", "u32"), field, undefined=wide)
    return forms


def _floats() -> dict[str, Form]:
    """Arithmetic on f32: rounded to nearest even, denormals kept, one NaN."""
    forms: dict[str, Form] = {
        "fma.rn.f32": Form("f32", ("f32",) * 3, "one_nan(fmaf({0}, {1}, {2}))"),
        "min.f32": _two("f32", "min_f32({0}, {1})"),
        "max.f32": _two("f32", "max_f32({0}, {1})"),
        "min.NaN.f32": _two("f32", "min_nan_f32({0}, {1})"),
        "max.NaN.f32": _two("f32", "max_nan_f32({0}, {1})"),
        "neg.f32": Form("f32", ("f32",), "neg_f32({0})"),
        "abs.f32": Form("f32", ("f32",), "abs_f32({0})"),
        "copysign.f32": _two("f32", "copysign_f32({0}, {1})"),
        "div.rn.f32": _two("f32", "one_nan({0} / {1})"),
        "rcp.rn.f32": Form("f32", ("f32",), "one_nan(1.0f / {0})"),
        "sqrt.rn.f32": Form("f32", ("f32",), "one_nan(sqrtf({0}))"),
        "testp.finite.f32": Form("pred", ("f32",), "(uint8_t)!!isfinite({0})"),
        "testp.infinite.f32": Form("pred", ("f32",), "(uint8_t)!!isinf({0})"),
        "testp.number.f32": Form("pred", ("f32",), "(uint8_t)!isnan({0})"),
        "testp.notanumber.f32": Form("pred", ("f32",), "(uint8_t)!!isnan({0})"),
    }
    # without `.rn` an assembler may contract a product and a sum to one fma
    for name, sign in (("add", "+"), ("sub", "-"), ("mul", "*")):
        for rounding in ("", ".rn"):
            forms[f"{name}{rounding}.f32"] = _two("f32", f"one_nan({{0}} {sign} {{1}})")
    for name in ("ex2", "lg2", "rcp", "rsqrt", "sqrt", "sin", "cos"):
        wild = "is_wild({0})" if name in ("sin", "cos") else ""
        for ftz in (0, 1):
            c = f"{name}_approx({{0}}, {ftz}, DRAW)"
            opcode = f"{name}.approx{'.ftz' * ftz}.f32"
            forms[opcode] = Form("f32", ("f32",), c, is_random=True, undefined=wild)
    for ftz in (0, 1):
        c = f"div_approx({{0}}, {{1}}, {ftz}, DRAW)"
        opcode = f"div.approx{'.ftz' * ftz}.f32"
        forms[opcode] = Form("f32", ("f32", "f32"), c, is_random=True)
    return forms


def _comparisons() -> dict[str, str]:
    """`setp` without its combination: comparison and type to a C condition."""
    tests: dict[str, str] = {}
    signs = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
    for kind in INTS:
        for name, sign in signs.items():
            tests[f"{name}.{kind}"] = f"({{0}} {sign} {{1}})"
    for kind in ("u16", "u32", "u64"):
        for name, like in (("lo", "<"), ("ls", "<="), ("hi", ">"), ("hs", ">=")):
            tests[f"{name}.{kind}"] = f"({{0}} {like} {{1}})"
    for kind in BITS:
        tests[f"eq.{kind}"], tests[f"ne.{kind}"] = "({0} == {1})", "({0} != {1})"
    for name, sign in signs.items():
        # C's != is true of a NaN, where PTX's plain form is false
        ordered = f"(!isunordered({{0}}, {{1}}) && {{0}} {sign} {{1}})"
        tests[f"{name}.f32"] = ordered
        tests[f"{name}u.f32"] = f"(isunordered({{0}}, {{1}}) || {{0}} {sign} {{1}})"
    tests["num.f32"] = "(!isunordered({0}, {1}))"
    tests["nan.f32"] = "(!!isunordered({0}, {1}))"
    return tests


def _choices() -> dict[str, Form]:
    kinds = (*BITS, *INTS, "f32")
    return {f"selp.{kind}": Form(kind, (kind, kind, "pred"), "({2} ? {0} : {1})") for kind in kinds}


COMPARISONS = _comparisons()
FORMS: dict[str, Form] = {
    **_integers(),
    **_bits(),
    **_floats(),
    **_choices(),
    **{
        name: Form(result, (source,), c, is_loose=True)
        for name, (result, source, c) in conversions().items()
    },
    # its second operand becomes the high half
    "cvt.rn.f16x2.f32": Form(
        "f16x2",
        ("f32", "f32"),
        "((uint32_t)f32_to_f16_rn({0}) << 16 | f32_to_f16_rn({1}))",
    ),
}
