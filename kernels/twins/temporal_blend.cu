// CUDA C++ twin of kernels/ptx/temporal_blend.ptx: same parameters, tiles and arithmetic.
// It is compiled to count its instructions, and is never shipped as a binary.
#include <cuda_fp16.h>

namespace {

constexpr int kQuads = 32, kQuadRows = 4;  // a block of the plain entries: 128 pixels of 4 rows
constexpr int kColumns = 32, kRows = 8;    // a block of the warp entries: a pixel a thread

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(__half value) { return __half2float(value); }
__device__ __forceinline__ void store(float* at, float y) { *at = y; }
__device__ __forceinline__ void store(__half* at, float y) { *at = __float2half_rn(y); }

__device__ __forceinline__ float4 load4(const float* at) { return *reinterpret_cast<const float4*>(at); }

__device__ __forceinline__ float4 load4(const __half* at) {
    const uint2 words = *reinterpret_cast<const uint2*>(at);
    const float2 low = __half22float2(*reinterpret_cast<const __half2*>(&words.x));
    const float2 high = __half22float2(*reinterpret_cast<const __half2*>(&words.y));
    return make_float4(low.x, low.y, high.x, high.y);
}

__device__ __forceinline__ void store4(float* at, float4 y) { *reinterpret_cast<float4*>(at) = y; }

__device__ __forceinline__ void store4(__half* at, float4 y) {
    const __half2 low = __floats2half2_rn(y.x, y.y);
    const __half2 high = __floats2half2_rn(y.z, y.w);
    *reinterpret_cast<uint2*>(at) = make_uint2(*reinterpret_cast<const unsigned*>(&low),
                                               *reinterpret_cast<const unsigned*>(&high));
}

struct Pair {
    int low, high;
    float part;
};

// Between which two of `last` + 1 cells a place lies that is at most half a cell beyond the last.
__device__ __forceinline__ Pair pair_below(float where, int last) {
    const int low = __float2int_rd(where);
    return {low, min(low + 1, last), where - static_cast<float>(low)};
}

__device__ __forceinline__ Pair pair_at(float where, int last) {
    return pair_below(fminf(fmaxf(where, 0.0f), static_cast<float>(last)), last);
}

__device__ __forceinline__ Pair cells_at(int pixel, int last, float step) {
    return pair_below(fmaxf(fmaf(static_cast<float>(pixel) + 0.5f, step, -0.5f), 0.0f), last);
}

__device__ __forceinline__ float between(float a, float b, float c, float d, float x, float y) {
    const float upper = fmaf(b - a, x, a);
    const float lower = fmaf(d - c, x, c);
    return fmaf(lower - upper, y, upper);
}

// Two rows of weights, and how far below the first a row of pixels lies.
struct Weights {
    const float* upper;
    const float* lower;
    float part;
    int last;
    float step;

    __device__ __forceinline__ Weights(const float* weight, int y, int columns, int rows,
                                       float step_x, float step_y)
        : last(columns - 1), step(step_x) {
        const Pair pair = cells_at(y, rows - 1, step_y);
        upper = weight + pair.low * columns;
        lower = weight + pair.high * columns;
        part = pair.part;
    }

    __device__ __forceinline__ float at(int x) const {
        const Pair pair = cells_at(x, last, step);
        return between(__ldg(upper + pair.low), __ldg(upper + pair.high),
                       __ldg(lower + pair.low), __ldg(lower + pair.high), pair.part, part);
    }
};

__device__ __forceinline__ float settled(float weight, float2 settings) {
    return fminf(fmaxf(weight * settings.x, 0.0f), settings.y);
}

// CUDA C++ has no float min and max that keep a NaN.
__device__ __forceinline__ float clamped(float y) {
    asm("max.NaN.f32 %0, %0, 0fBF800000;" : "+f"(y));
    asm("min.NaN.f32 %0, %0, 0f3F800000;" : "+f"(y));
    return y;
}

__device__ __forceinline__ float mixed(float current, float previous, float weight) {
    const float apart = previous - current;
    const float sound = fabsf(apart) < __int_as_float(0x7f800000) ? apart : 0.0f;
    return clamped(fmaf(sound, weight, current));
}

// No __restrict__ on `current` and `out`: they may be one.
template <typename T>
__device__ __forceinline__ void temporal_blend(const T* __restrict__ previous, const T* current,
                                               const float* __restrict__ weight,
                                               const float2* __restrict__ settings, T* out,
                                               int width, int height, int plane, int columns,
                                               int rows, float step_x, float step_y,
                                               unsigned mode) {
    const int x = (blockIdx.x * kQuads + threadIdx.x) * 4;
    const int y = blockIdx.y * kQuadRows + threadIdx.y;
    if (x >= width || y >= height) return;
    const int at = y * width + x;
    previous += at;
    current += at;
    out += at;
    const float2 set = __ldg(settings);
    if (mode & 2u) {
        float4 w;
        if (!(mode & 1u)) {
            const Weights weights(weight, y, columns, rows, step_x, step_y);
            w = make_float4(weights.at(x), weights.at(x + 1), weights.at(x + 2), weights.at(x + 3));
        } else {
            w = __ldg(reinterpret_cast<const float4*>(weight + at));
        }
        w = make_float4(settled(w.x, set), settled(w.y, set), settled(w.z, set), settled(w.w, set));
#pragma unroll
        for (int c = 0; c < 3; ++c) {
            const float4 p = load4(previous + c * plane), n = load4(current + c * plane);
            store4(out + c * plane, make_float4(mixed(n.x, p.x, w.x), mixed(n.y, p.y, w.y),
                                                mixed(n.z, p.z, w.z), mixed(n.w, p.w, w.w)));
        }
        return;
    }
    const Weights weights(weight, y, columns, rows, step_x, step_y);
    const int left = min(width - x, 4);
#pragma unroll 1
    for (int i = 0; i < left; ++i) {
        const float w = settled(weights.at(x + i), set);
#pragma unroll
        for (int c = 0; c < 3; ++c) {
            store(out + c * plane + i, mixed(to_float(current[c * plane + i]),
                                             to_float(previous[c * plane + i]), w));
        }
    }
}

template <typename T>
__device__ __forceinline__ void temporal_blend_warp(
    const T* __restrict__ previous, const T* current, const float* __restrict__ weight,
    const float2* __restrict__ flow, const float2* __restrict__ backward,
    const float2* __restrict__ settings, T* out, int width, int height, int plane, int columns,
    int rows, float step_x, float step_y) {
    const int x = blockIdx.x * kColumns + threadIdx.x;
    const int y = blockIdx.y * kRows + threadIdx.y;
    if (x >= width || y >= height) return;
    const int at = y * width + x;
    const float2 f = __ldg(flow + at);
    const Pair across = pair_at(static_cast<float>(x) + f.x, width - 1);
    const Pair down = pair_at(static_cast<float>(y) + f.y, height - 1);
    const int corner[4] = {down.low * width + across.low, down.low * width + across.high,
                           down.high * width + across.low, down.high * width + across.high};
    float w = settled(Weights(weight, y, columns, rows, step_x, step_y).at(x), __ldg(settings));
    if (backward != nullptr) {
        const float2 a = __ldg(backward + corner[0]), b = __ldg(backward + corner[1]);
        const float2 c = __ldg(backward + corner[2]), d = __ldg(backward + corner[3]);
        const float back_x = between(a.x, b.x, c.x, d.x, across.part, down.part);
        const float back_y = between(a.y, b.y, c.y, d.y, across.part, down.part);
        const float apart = sqrtf((f.x + back_x) * (f.x + back_x) + (f.y + back_y) * (f.y + back_y));
        const float length = sqrtf(f.x * f.x + f.y * f.y) + sqrtf(back_x * back_x + back_y * back_y);
        w = apart <= fmaf(length, 0.01f, 0.5f) ? w : 0.0f;
    }
    current += at;
    out += at;
#pragma unroll
    for (int c = 0; c < 3; ++c) {
        const T* p = previous + c * plane;
        const float past = between(to_float(p[corner[0]]), to_float(p[corner[1]]),
                                   to_float(p[corner[2]]), to_float(p[corner[3]]), across.part,
                                   down.part);
        store(out + c * plane, mixed(to_float(current[c * plane]), past, w));
    }
}

}  // namespace

#define PLAIN(name, T)                                                                            \
    extern "C" __global__ void __launch_bounds__(kQuads* kQuadRows)                               \
    name(const T* __restrict__ previous, const T* current, const float* __restrict__ weight,      \
         const float2* __restrict__ settings, T* out, int width, int height, int plane,           \
         int columns, int rows, float step_x, float step_y, unsigned mode) {                      \
        temporal_blend(previous, current, weight, settings, out, width, height, plane, columns,   \
                       rows, step_x, step_y, mode);                                               \
    }

#define WARP(name, T)                                                                             \
    extern "C" __global__ void __launch_bounds__(kColumns* kRows)                                 \
    name(const T* __restrict__ previous, const T* current, const float* __restrict__ weight,      \
         const float2* __restrict__ flow, const float2* __restrict__ backward,                    \
         const float2* __restrict__ settings, T* out, int width, int height, int plane,           \
         int columns, int rows, float step_x, float step_y) {                                     \
        temporal_blend_warp(previous, current, weight, flow, backward, settings, out, width,      \
                            height, plane, columns, rows, step_x, step_y);                        \
    }

PLAIN(temporal_blend_f32, float)
PLAIN(temporal_blend_f16, __half)
WARP(temporal_blend_warp_f32, float)
WARP(temporal_blend_warp_f16, __half)
