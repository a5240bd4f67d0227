// CUDA C++ twin of kernels/ptx/frame_to_tensor.ptx: same parameters, tile and arithmetic.
// It is compiled to count its instructions, and is never shipped as a binary.
#include <cuda_fp16.h>

namespace {

constexpr int kQuads = 32, kRows = 4;  // a block: 128 pixels of 4 rows

__device__ __forceinline__ float value_of(unsigned byte) {
    return fmaf(static_cast<float>(byte), 1.0f / 127.5f, -1.0f);
}

template <int n>
__device__ __forceinline__ float value_at(unsigned word) {
    return value_of(n == 3 ? word >> 24 : (word >> (8 * n)) & 0xffu);
}

__device__ __forceinline__ void store(float* at, float y) { *at = y; }
__device__ __forceinline__ void store(__half* at, float y) { *at = __float2half_rn(y); }

__device__ __forceinline__ void store4(float* at, float4 y) { *reinterpret_cast<float4*>(at) = y; }

__device__ __forceinline__ void store4(__half* at, float4 y) {
    const __half2 low = __floats2half2_rn(y.x, y.y);
    const __half2 high = __floats2half2_rn(y.z, y.w);
    *reinterpret_cast<uint2*>(at) = make_uint2(*reinterpret_cast<const unsigned*>(&low),
                                               *reinterpret_cast<const unsigned*>(&high));
}

template <typename T>
__device__ __forceinline__ void frame_to_tensor(const unsigned char* __restrict__ pixels,
                                                T* __restrict__ out, int width, int height,
                                                int pitch, int plane, int first, int last,
                                                unsigned vector) {
    const int column = (blockIdx.x * kQuads + threadIdx.x) * 4;
    const int y = blockIdx.y * kRows + threadIdx.y;
    if (column >= width || y >= height) return;
    const int batch = blockIdx.z;
    pixels += (batch * height + y) * pitch + 3 * column;
    const int at = 3 * batch * plane + y * width + column;
    T* p0 = out + (at + first);
    T* p1 = out + (at + plane);
    T* p2 = out + (at + last);
    if (vector) {
        const unsigned* words = reinterpret_cast<const unsigned*>(pixels);
        const unsigned a = __ldg(words), b = __ldg(words + 1), c = __ldg(words + 2);
        store4(p0, make_float4(value_at<0>(a), value_at<3>(a), value_at<2>(b), value_at<1>(c)));
        store4(p1, make_float4(value_at<1>(a), value_at<0>(b), value_at<3>(b), value_at<2>(c)));
        store4(p2, make_float4(value_at<2>(a), value_at<1>(b), value_at<0>(c), value_at<3>(c)));
        return;
    }
    const int left = min(width - column, 4);
#pragma unroll 1
    for (int i = 0; i < left; ++i) {
        store(p0 + i, value_of(__ldg(pixels + 3 * i)));
        store(p1 + i, value_of(__ldg(pixels + 3 * i + 1)));
        store(p2 + i, value_of(__ldg(pixels + 3 * i + 2)));
    }
}

constexpr int kColumns = 32, kPixelRows = 8;  // a block of the scaling entries: a pixel a thread

struct Pair {
    int low, high;
    float part;
};

// Between which two of `last` + 1 pixels the centre of a pixel of the result lies.
__device__ __forceinline__ Pair pair_at(int pixel, int last, float step) {
    const float where = fmaf(static_cast<float>(pixel) + 0.5f, step, -0.5f);
    const float inside = fminf(fmaxf(where, 0.0f), static_cast<float>(last));
    const int low = __float2int_rd(inside);
    return {low, min(low + 1, last), inside - static_cast<float>(low)};
}

__device__ __forceinline__ float between(float a, float b, float c, float d, float x, float y) {
    const float upper = fmaf(b - a, x, a);
    const float lower = fmaf(d - c, x, c);
    return fmaf(lower - upper, y, upper);
}

template <typename T>
__device__ __forceinline__ void resize(const unsigned char* __restrict__ pixels,
                                       T* __restrict__ out, int width, int height, int pitch,
                                       int plane, int first, int last, int columns, int rows,
                                       float step_x, float step_y) {
    const int x = blockIdx.x * kColumns + threadIdx.x;
    const int y = blockIdx.y * kPixelRows + threadIdx.y;
    if (x >= width || y >= height) return;
    const int batch = blockIdx.z;
    const Pair across = pair_at(x, columns - 1, step_x);
    const Pair down = pair_at(y, rows - 1, step_y);
    const int upper = (batch * rows + down.low) * pitch, lower = (batch * rows + down.high) * pitch;
    const unsigned char* a = pixels + (upper + 3 * across.low);
    const unsigned char* b = pixels + (upper + 3 * across.high);
    const unsigned char* c = pixels + (lower + 3 * across.low);
    const unsigned char* d = pixels + (lower + 3 * across.high);
    const int at = 3 * batch * plane + y * width + x;
    T* const to[3] = {out + (at + first), out + (at + plane), out + (at + last)};
#pragma unroll
    for (int i = 0; i < 3; ++i) {
        const float mean = between(__ldg(a + i), __ldg(b + i), __ldg(c + i), __ldg(d + i),
                                   across.part, down.part);
        store(to[i], fmaf(mean, 1.0f / 127.5f, -1.0f));
    }
}

template <typename T>
__device__ __forceinline__ void area(const unsigned char* __restrict__ pixels,
                                     T* __restrict__ out, int width, int height, int pitch,
                                     int plane, int first, int last, int columns, int rows,
                                     float step_x, float step_y, float scale) {
    const int x = blockIdx.x * kColumns + threadIdx.x;
    const int y = blockIdx.y * kPixelRows + threadIdx.y;
    if (x >= width || y >= height) return;
    const int batch = blockIdx.z;
    const float begin_x = static_cast<float>(x) * step_x, begin_y = static_cast<float>(y) * step_y;
    const float end_x = fminf(fmaf(static_cast<float>(x), step_x, step_x), static_cast<float>(columns));
    const float end_y = fminf(fmaf(static_cast<float>(y), step_y, step_y), static_cast<float>(rows));
    const int x0 = __float2int_rd(begin_x), y0 = __float2int_rd(begin_y);
    pixels += (batch * rows + y0) * pitch + 3 * x0;
    float red = 0.0f, green = 0.0f, blue = 0.0f;
    float from_y = static_cast<float>(y0);
#pragma unroll 1
    do {
        const float next_y = from_y + 1.0f;
        const float weight_y = fminf(next_y, end_y) - fmaxf(from_y, begin_y);
        const unsigned char* at = pixels;
        float from_x = static_cast<float>(x0);
#pragma unroll 1
        do {
            const float next_x = from_x + 1.0f;
            const float weight = (fminf(next_x, end_x) - fmaxf(from_x, begin_x)) * weight_y;
            red = fmaf(__ldg(at), weight, red);
            green = fmaf(__ldg(at + 1), weight, green);
            blue = fmaf(__ldg(at + 2), weight, blue);
            at += 3;
            from_x = next_x;
        } while (from_x < end_x);
        pixels += pitch;
        from_y = next_y;
    } while (from_y < end_y);
    const int to = 3 * batch * plane + y * width + x;
    store(out + (to + first), fmaf(red, scale, -1.0f));
    store(out + (to + plane), fmaf(green, scale, -1.0f));
    store(out + (to + last), fmaf(blue, scale, -1.0f));
}

__device__ __forceinline__ float clamped(float y) { return fminf(fmaxf(y, -1.0f), 1.0f); }

constexpr float kUnit = 1.0f / 127.5f;

}  // namespace

extern "C" __global__ void __launch_bounds__(kQuads* kRows)
frame_to_tensor_f32(const unsigned char* __restrict__ pixels, float* __restrict__ out, int width,
                    int height, int pitch, int plane, int first, int last, unsigned vector) {
    frame_to_tensor(pixels, out, width, height, pitch, plane, first, last, vector);
}

extern "C" __global__ void __launch_bounds__(kQuads* kRows)
frame_to_tensor_f16(const unsigned char* __restrict__ pixels, __half* __restrict__ out, int width,
                    int height, int pitch, int plane, int first, int last, unsigned vector) {
    frame_to_tensor(pixels, out, width, height, pitch, plane, first, last, vector);
}

#define SCALING(name, T, form)                                                                    \
    extern "C" __global__ void __launch_bounds__(kColumns* kPixelRows)                            \
    name(const unsigned char* __restrict__ pixels, T* __restrict__ out, int width, int height,    \
         int pitch, int plane, int first, int last, int columns, int rows, float step_x,          \
         float step_y) {                                                                          \
        form(pixels, out, width, height, pitch, plane, first, last, columns, rows, step_x,        \
             step_y);                                                                             \
    }

#define AREA(name, T)                                                                             \
    extern "C" __global__ void __launch_bounds__(kColumns* kPixelRows)                            \
    name(const unsigned char* __restrict__ pixels, T* __restrict__ out, int width, int height,    \
         int pitch, int plane, int first, int last, int columns, int rows, float step_x,          \
         float step_y, float scale) {                                                             \
        area(pixels, out, width, height, pitch, plane, first, last, columns, rows, step_x,        \
             step_y, scale);                                                                      \
    }

SCALING(frame_to_tensor_resize_f32, float, resize)
SCALING(frame_to_tensor_resize_f16, __half, resize)
AREA(frame_to_tensor_area_f32, float)
AREA(frame_to_tensor_area_f16, __half)

extern "C" __global__ void __launch_bounds__(kQuads* kRows)
frame_to_tensor_nv12_f32(const unsigned char* __restrict__ luma,
                         const unsigned char* __restrict__ chroma, float* __restrict__ out,
                         int width, int height, int pitch, int plane) {
    const int x = (blockIdx.x * kQuads + threadIdx.x) * 4;
    const int y = blockIdx.y * kRows + threadIdx.y;
    if (x >= width || y >= height) return;
    const unsigned lumas = __ldg(reinterpret_cast<const unsigned*>(luma + (y * pitch + x)));
    const unsigned chromas =
        __ldg(reinterpret_cast<const unsigned*>(chroma + ((y >> 1) * pitch + x)));
    const float u[2] = {static_cast<float>(chromas & 0xffu),
                        static_cast<float>((chromas >> 16) & 0xffu)};
    const float v[2] = {static_cast<float>((chromas >> 8) & 0xffu),
                        static_cast<float>(chromas >> 24)};
    float add[3][2];
#pragma unroll
    for (int j = 0; j < 2; ++j) {
        add[0][j] = fmaf(v[j], 1.596027f * kUnit, -128.0f * 1.596027f * kUnit);
        add[1][j] = fmaf(u[j], -0.391762f * kUnit,
                         fmaf(v[j], -0.812968f * kUnit, 128.0f * 1.20473f * kUnit));
        add[2][j] = fmaf(u[j], 2.017232f * kUnit, -128.0f * 2.017232f * kUnit);
    }
    constexpr float gain = 1.164383f * kUnit, bias = -16.0f * gain - 1.0f;
    const float4 grey = make_float4(fmaf(static_cast<float>(lumas & 0xffu), gain, bias),
                                    fmaf(static_cast<float>((lumas >> 8) & 0xffu), gain, bias),
                                    fmaf(static_cast<float>((lumas >> 16) & 0xffu), gain, bias),
                                    fmaf(static_cast<float>(lumas >> 24), gain, bias));
    out += y * width + x;
#pragma unroll
    for (int c = 0; c < 3; ++c) {
        store4(out, make_float4(clamped(grey.x + add[c][0]), clamped(grey.y + add[c][0]),
                                clamped(grey.z + add[c][1]), clamped(grey.w + add[c][1])));
        out += plane;
    }
}
