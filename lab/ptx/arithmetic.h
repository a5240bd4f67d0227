// What PTX's arithmetic means, in C. No function touches memory or raises.
// Compiled with -ffp-contract=off -frounding-math: products and sums stay as they are written.
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static inline float as_f32(uint32_t bits) { float x; memcpy(&x, &bits, 4); return x; }
static inline uint32_t as_u32(float x) { uint32_t bits; memcpy(&bits, &x, 4); return bits; }

// integers

#define MUL_HI(kind, type, wide, size) \
    static inline type mul_hi_##kind(type a, type b) { return (type)(((wide)a * (wide)b) >> size); }
MUL_HI(u16, uint16_t, uint32_t, 16)
MUL_HI(s16, int16_t, int32_t, 16)
MUL_HI(u32, uint32_t, uint64_t, 32)
MUL_HI(s32, int32_t, int64_t, 32)
MUL_HI(u64, uint64_t, unsigned __int128, 64)
MUL_HI(s64, int64_t, __int128, 64)

static inline __int128 clamp_int(__int128 x, __int128 low, __int128 high)
{
    return x < low ? low : x > high ? high : x;
}

// bits

static inline uint64_t brev(uint64_t x)  // of 64 bits; a 32-bit result is the upper half
{
    x = (x >> 1 & 0x5555555555555555ull) | (x & 0x5555555555555555ull) << 1;
    x = (x >> 2 & 0x3333333333333333ull) | (x & 0x3333333333333333ull) << 2;
    x = (x >> 4 & 0x0f0f0f0f0f0f0f0full) | (x & 0x0f0f0f0f0f0f0f0full) << 4;
    return __builtin_bswap64(x);
}

static inline uint32_t prmt_byte(uint64_t bytes, uint32_t nibble)
{
    uint32_t byte = bytes >> 8 * (nibble & 7) & 255;
    return nibble & 8 ? (byte & 128 ? 255 : 0) : byte;  // with bit 3 the byte's sign is copied
}

static inline uint32_t prmt(uint32_t a, uint32_t b, uint32_t selector)
{
    uint64_t bytes = (uint64_t)b << 32 | a;
    return prmt_byte(bytes, selector & 15) | prmt_byte(bytes, selector >> 4 & 15) << 8 |
           prmt_byte(bytes, selector >> 8 & 15) << 16 | prmt_byte(bytes, selector >> 12 & 15) << 24;
}

// spelled out, so that the compiler drops the terms that a constant table lacks
static inline __attribute__((always_inline)) uint32_t
lop3(uint32_t a, uint32_t b, uint32_t c, uint32_t table)
{
    uint32_t result = 0;
    if (table & 1) result |= ~a & ~b & ~c;
    if (table & 2) result |= ~a & ~b & c;
    if (table & 4) result |= ~a & b & ~c;
    if (table & 8) result |= ~a & b & c;
    if (table & 16) result |= a & ~b & ~c;
    if (table & 32) result |= a & ~b & c;
    if (table & 64) result |= a & b & ~c;
    if (table & 128) result |= a & b & c;
    return result;
}

static inline uint32_t shf_l(uint32_t a, uint32_t b, uint32_t c)
{
    return (uint32_t)((((uint64_t)b << 32 | a) << (c & 31)) >> 32);
}

static inline uint32_t shf_r(uint32_t a, uint32_t b, uint32_t c)
{
    return (uint32_t)(((uint64_t)b << 32 | a) >> (c & 31));
}

static inline uint64_t low_ones(uint32_t count)
{
    return count < 64 ? ((uint64_t)1 << count) - 1 : ~(uint64_t)0;
}

// position and length are the low bytes; past the end there are zeros, or copies of the sign
static inline uint64_t bfe(uint64_t a, uint32_t position, uint32_t length, uint32_t size, int is_signed)
{
    uint32_t from = position & 255, count = length & 255;
    if (count == 0) return 0;
    uint32_t there = from < size ? size - from : 0;
    uint64_t field = low_ones(count < there ? count : there);
    uint32_t last = from + count - 1 < size - 1 ? from + count - 1 : size - 1;
    uint64_t fill = is_signed && (a >> last & 1) ? ~field : 0;
    return ((from < size ? a >> from : 0) & field) | fill;
}

static inline uint64_t bfi(uint64_t a, uint64_t b, uint32_t position, uint32_t length, uint32_t size)
{
    uint32_t from = position & 255, count = length & 255;
    if (from >= size) return b;
    uint64_t field = low_ones(count < size - from ? count : size - from) << from;
    return (b & ~field) | (a << from & field);
}

// f32

static inline float one_nan(float x) { return x == x ? x : as_f32(0x7fffffff); }
// PTX leaves a NaN's bits open here; ptxas keeps them and sets the quiet bit
static inline float quiet(float x) { return x == x ? x : as_f32(as_u32(x) | 0x00400000u); }
static inline float neg_f32(float a) { return quiet(as_f32(as_u32(a) ^ 0x80000000u)); }
static inline float abs_f32(float a) { return quiet(as_f32(as_u32(a) & 0x7fffffffu)); }

static inline float copysign_f32(float a, float b)  // the sign is a's
{
    return as_f32((as_u32(a) & 0x80000000u) | (as_u32(b) & 0x7fffffffu));
}

static inline float min_f32(float a, float b)  // -0 < +0; a NaN loses to a number
{
    if (isnan(a)) return one_nan(b);
    if (isnan(b)) return a;
    if (a == b) return as_u32(a) >> 31 ? a : b;
    return a < b ? a : b;
}

static inline float max_f32(float a, float b)
{
    if (isnan(a)) return one_nan(b);
    if (isnan(b)) return a;
    if (a == b) return as_u32(a) >> 31 ? b : a;
    return a > b ? a : b;
}

static inline float min_nan_f32(float a, float b)
{
    return isunordered(a, b) ? as_f32(0x7fffffff) : min_f32(a, b);
}

static inline float max_nan_f32(float a, float b)
{
    return isunordered(a, b) ? as_f32(0x7fffffff) : max_f32(a, b);
}

static inline float saturate(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }

// conversions

// F16C by gcc's own names: <immintrin.h> would take two thirds of a kernel's compile time
typedef short Halves __attribute__((vector_size(16)));
typedef float Singles __attribute__((vector_size(16)));

static inline float f16_to_f32(uint16_t half)
{
    Singles single = __builtin_ia32_vcvtph2ps((Halves){(short)half});
    return one_nan(single[0]);
}

#define TO_F16(name, mode) \
    static inline uint16_t f32_to_f16_##name(float x) \
    { \
        Halves half = __builtin_ia32_vcvtps2ph((Singles){x}, mode); \
        return x == x ? (uint16_t)half[0] : 0x7fff; \
    }
TO_F16(rn, 0)
TO_F16(rm, 1)
TO_F16(rp, 2)
TO_F16(rz, 3)

// 'n' nearest even, 'z' toward zero, 'm' down, 'p' up
static inline float int_to_f32(__int128 x, char rounding)
{
    float nearest = (float)x;
    __int128 back = (__int128)nearest;
    if (rounding == 'z') rounding = x < 0 ? 'p' : 'm';
    if (rounding == 'm' && back > x) return nextafterf(nearest, -INFINITY);
    if (rounding == 'p' && back < x) return nextafterf(nearest, INFINITY);
    return nearest;
}

// To one f32 that rounds to f16 as the integer does: below 2^24 it is the integer itself;
// above it every f16 overflows, and rounding toward zero keeps it above.
static inline uint16_t int_to_f16(__int128 x, char rounding)
{
    float single = int_to_f32(x, 'z');
    if (rounding == 'z') return f32_to_f16_rz(single);
    if (rounding == 'm') return f32_to_f16_rm(single);
    if (rounding == 'p') return f32_to_f16_rp(single);
    return f32_to_f16_rn(single);
}

static inline __int128 f32_to_int(float integral, __int128 low, __int128 high, uint64_t nan)
{
    if (integral != integral) return nan;
    if (integral >= 0x1p64f) return high;
    if (integral < -0x1p63f) return low;
    return clamp_int((__int128)integral, low, high);
}

// approximations: exact, then off by what the PTX ISA documents, times `draw` in [-1, 1]

static inline float flush(float x, int ftz)
{
    return ftz && fabsf(x) < 0x1p-126f ? copysignf(0.0f, x) : x;
}

// the distance between the f32 numbers around x
static inline double ulp(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, 8);
    int64_t exponent = (int64_t)(bits >> 52 & 2047) - 1023;
    bits = (uint64_t)((exponent < -126 ? -126 : exponent) - 23 + 1023) << 52;
    memcpy(&x, &bits, 8);
    return x;
}

static inline float off_by(double exact, double error, int ftz)
{
    if (error == 0 || !isfinite(exact) || exact == 0) return one_nan(flush((float)exact, ftz));
    float shown = (float)(exact + error);
    if (fabs(shown - exact) > fabs(error)) {  // rounding has gone beyond what is documented
        shown = nextafterf(shown, error > 0 ? -INFINITY : INFINITY);
        if (fabs(shown - exact) > fabs(error)) shown = (float)exact;
    }
    return one_nan(flush(shown, ftz));
}

static inline float rcp_approx(float a, int ftz, double draw)
{
    double exact = 1.0 / flush(a, ftz);
    return off_by(exact, ulp(exact) * draw, ftz);
}

static inline float sqrt_approx(float a, int ftz, double draw)
{
    double exact = sqrt(flush(a, ftz));
    return off_by(exact, exact * 0x1p-23 * draw, ftz);
}

static inline float rsqrt_approx(float a, int ftz, double draw)
{
    double exact = 1.0 / sqrt(flush(a, ftz));
    return off_by(exact, exact * 0x1.125fcp-23 * draw, ftz);  // 2^-22.9
}

static inline float ex2_approx(float a, int ftz, double draw)
{
    double exact = exp2(flush(a, ftz));
    if (draw == 0 && a < -126.0f && !ftz) {  // as ptxas folds it: the root, squared
        float root = (float)exp2(0.5 * a);
        return root * root;
    }
    exact = (float)exact;  // the error is counted from the rounded result
    return off_by(exact, 2 * ulp(exact) * draw, ftz);
}

static inline float lg2_approx(float a, int ftz, double draw)
{
    float x = flush(a, ftz);
    double exact = x < 0 ? NAN : log2(x);
    double scale = x > 0.5f && x < 2.0f ? 1.0 : fabs(exact);
    return off_by(exact, scale * 0x1p-22 * draw, ftz);
}

// beyond 100 pi no error is documented
static inline int is_wild(float a) { return isfinite(a) && fabsf(a) > 0x1.3a28c4p8f; }

static inline double circle_error(float a)
{
    return fabsf(a) <= 0x1.921fb6p2f ? 0x1.6a09e6p-21 : 0x1.3b2c48p-15;  // 2^-20.5, 2^-14.7
}

// these flush denormals with .ftz or without: ptxas folds them so
static inline float sin_approx(float a, int ftz, double draw)
{
    float x = flush(a, 1);
    return off_by(sin(x), circle_error(x) * draw, ftz);
}

static inline float cos_approx(float a, int ftz, double draw)
{
    float x = flush(a, 1);
    return off_by(cos(x), circle_error(x) * draw, ftz);
}

static inline float div_approx(float a, float b, int ftz, double draw)
{
    float x = flush(a, ftz), y = flush(b, ftz);
    if (fabsf(y) > 0x1p126f && isfinite(y)) return one_nan(x * copysignf(0.0f, y));
    float reciprocal = (float)(1.0 / y);
    // unperturbed it is the product with the reciprocal, as ptxas folds it
    if (draw == 0 && isfinite(reciprocal)) return one_nan(flush(x * reciprocal, ftz));
    double exact = (double)x / y;
    return off_by(exact, 2 * ulp(exact) * draw, ftz);
}
