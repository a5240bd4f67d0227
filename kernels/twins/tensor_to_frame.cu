// CUDA C++ twin of kernels/ptx/tensor_to_frame.ptx: same parameters, tile and arithmetic.
// It is compiled to count its instructions, and is never shipped as a binary.
#include <cuda_fp16.h>

namespace {

constexpr int kQuads = 32, kRows = 4;  // a block: 128 pixels of 4 rows

__device__ __forceinline__ unsigned byte_of(float x) {
    // the conversion clamps to a byte and takes NaN for 0; C++ has no such cast
    unsigned byte;
    asm("cvt.rni.u8.f32 %0, %1;" : "=r"(byte) : "f"(fmaf(x, 127.5f, 127.5f)));
    return byte;
}

__device__ __forceinline__ unsigned word_of(float a, float b, float c, float d) {
    const unsigned low = __byte_perm(byte_of(a), byte_of(b), 0x0040);
    const unsigned high = __byte_perm(byte_of(c), byte_of(d), 0x0040);
    return __byte_perm(low, high, 0x5410);
}

__device__ __forceinline__ float4 load4(const float* at) {
    return __ldg(reinterpret_cast<const float4*>(at));
}

__device__ __forceinline__ float4 load4(const __half* at) {
    const uint2 words = __ldg(reinterpret_cast<const uint2*>(at));
    const float2 low = __half22float2(*reinterpret_cast<const __half2*>(&words.x));
    const float2 high = __half22float2(*reinterpret_cast<const __half2*>(&words.y));
    return make_float4(low.x, low.y, high.x, high.y);
}

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(__half value) { return __half2float(value); }

template <typename T>
__device__ __forceinline__ void tensor_to_frame(const T* __restrict__ x,
                                                unsigned char* __restrict__ out, int width,
                                                int height, int pitch, int plane, int first,
                                                int last, unsigned vector) {
    const int column = (blockIdx.x * kQuads + threadIdx.x) * 4;
    const int y = blockIdx.y * kRows + threadIdx.y;
    if (column >= width || y >= height) return;
    const int batch = blockIdx.z;
    out += (batch * height + y) * pitch + 3 * column;
    const int at = 3 * batch * plane + y * width + column;
    const T* p0 = x + (at + first);
    const T* p1 = x + (at + plane);
    const T* p2 = x + (at + last);
    if (vector) {
        const float4 a = load4(p0), b = load4(p1), c = load4(p2);
        unsigned* words = reinterpret_cast<unsigned*>(out);
        words[0] = word_of(a.x, b.x, c.x, a.y);
        words[1] = word_of(b.y, c.y, a.z, b.z);
        words[2] = word_of(c.z, a.w, b.w, c.w);
        return;
    }
    const int left = min(width - column, 4);
#pragma unroll 1
    for (int i = 0; i < left; ++i) {
        out[3 * i] = byte_of(to_float(p0[i]));
        out[3 * i + 1] = byte_of(to_float(p1[i]));
        out[3 * i + 2] = byte_of(to_float(p2[i]));
    }
}

__device__ __forceinline__ float clamped(float y) { return fminf(fmaxf(y, -1.0f), 1.0f); }

__device__ __forceinline__ float4 clamped(float4 y) {
    return make_float4(clamped(y.x), clamped(y.y), clamped(y.z), clamped(y.w));
}

__device__ __forceinline__ float4 weighed(float4 a, float weight, float4 sum) {
    return make_float4(fmaf(a.x, weight, sum.x), fmaf(a.y, weight, sum.y),
                       fmaf(a.z, weight, sum.z), fmaf(a.w, weight, sum.w));
}

__device__ __forceinline__ unsigned rounded(float y) {
    unsigned byte;
    asm("cvt.rni.u8.f32 %0, %1;" : "=r"(byte) : "f"(y));
    return byte;
}

__device__ __forceinline__ unsigned packed(float4 y) {
    return __byte_perm(__byte_perm(rounded(y.x), rounded(y.y), 0x0040),
                       __byte_perm(rounded(y.z), rounded(y.w), 0x0040), 0x5410);
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kQuads* kRows)
tensor_to_frame_f32(const float* __restrict__ x, unsigned char* __restrict__ out, int width,
                    int height, int pitch, int plane, int first, int last, unsigned vector) {
    tensor_to_frame(x, out, width, height, pitch, plane, first, last, vector);
}

extern "C" __global__ void __launch_bounds__(kQuads* kRows)
tensor_to_frame_f16(const __half* __restrict__ x, unsigned char* __restrict__ out, int width,
                    int height, int pitch, int plane, int first, int last, unsigned vector) {
    tensor_to_frame(x, out, width, height, pitch, plane, first, last, vector);
}

// Four pixels of two rows a thread.
extern "C" __global__ void __launch_bounds__(kQuads* kRows)
tensor_to_frame_nv12_f32(const float* __restrict__ x, unsigned char* __restrict__ luma,
                         unsigned char* __restrict__ chroma, int width, int height, int pitch,
                         int plane) {
    constexpr float kLuma[3] = {32.7405f, 64.2765f, 12.483f};
    constexpr float kBlue[3] = {-18.8985f / 4, -37.1015f / 4, 56.0f / 4};
    constexpr float kRed[3] = {56.0f / 4, -46.893f / 4, -9.107f / 4};
    const int column = (blockIdx.x * kQuads + threadIdx.x) * 4;
    const int row = blockIdx.y * kRows + threadIdx.y;
    const int y = 2 * row;
    if (column >= width || y >= height) return;
    const float* upper = x + (y * width + column);
    const float* lower = upper + width;
    float4 top = make_float4(125.5f, 125.5f, 125.5f, 125.5f), low = top;
    float blue[2] = {128.0f, 128.0f}, red[2] = {128.0f, 128.0f};
#pragma unroll
    for (int c = 0; c < 3; ++c) {
        const float4 u = clamped(load4(upper + c * plane)), l = clamped(load4(lower + c * plane));
        top = weighed(u, kLuma[c], top);
        low = weighed(l, kLuma[c], low);
        const float sums[2] = {(u.x + u.y) + (l.x + l.y), (u.z + u.w) + (l.z + l.w)};
#pragma unroll
        for (int j = 0; j < 2; ++j) {
            blue[j] = fmaf(sums[j], kBlue[c], blue[j]);
            red[j] = fmaf(sums[j], kRed[c], red[j]);
        }
    }
    luma += y * pitch + column;
    *reinterpret_cast<unsigned*>(luma) = packed(top);
    *reinterpret_cast<unsigned*>(luma + pitch) = packed(low);
    *reinterpret_cast<unsigned*>(chroma + (row * pitch + column)) =
        packed(make_float4(blue[0], red[0], blue[1], red[1]));
}
