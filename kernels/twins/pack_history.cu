// CUDA C++ twin of kernels/ptx/pack_history.ptx: same parameters, tile and arithmetic.
// It is compiled to count its instructions, and is never shipped as a binary.
#include <cuda_fp16.h>

namespace {

constexpr int kThreads = 128;  // a block: 512 pixels

__device__ __forceinline__ unsigned byte_of(float x) {
    // the conversion clamps to a byte and takes NaN for 0; C++ has no such cast
    unsigned byte;
    asm("cvt.rni.u8.f32 %0, %1;" : "=r"(byte) : "f"(fmaf(x, 127.5f, 127.5f)));
    return byte;
}

// The luma is the third byte.
__device__ __forceinline__ unsigned sum_of(unsigned red, unsigned green, unsigned blue) {
    return red * 19596u + green * 38470u + blue * 7470u + 32768u;
}

__device__ __forceinline__ unsigned pixel_of(float red, float green, float blue, unsigned sum) {
    const unsigned low = __byte_perm(byte_of(red), byte_of(green), 0x0040);
    return __byte_perm(low, __byte_perm(byte_of(blue), sum, 0x0060), 0x5410);
}

template <int n>
__device__ __forceinline__ unsigned byte_at(unsigned word) {
    return __byte_perm(word, 0u, 0x4440 | n);  // one instruction, where shift and mask are two
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
__device__ __forceinline__ void pack_history(const T* __restrict__ x,
                                             const unsigned char* __restrict__ source,
                                             unsigned* __restrict__ out, int plane,
                                             unsigned vector) {
    const int at = (blockIdx.x * kThreads + threadIdx.x) * 4;
    if (at >= plane) return;
    source += 3 * at;
    out += at;
    const T* red = x + at;
    const T* green = red + plane;
    const T* blue = green + plane;
    if (vector) {
        const float4 r = load4(red), g = load4(green), b = load4(blue);
        const unsigned* words = reinterpret_cast<const unsigned*>(source);
        const unsigned u = __ldg(words), v = __ldg(words + 1), w = __ldg(words + 2);
        *reinterpret_cast<uint4*>(out) = make_uint4(
            pixel_of(r.x, g.x, b.x, sum_of(byte_at<0>(u), byte_at<1>(u), byte_at<2>(u))),
            pixel_of(r.y, g.y, b.y, sum_of(byte_at<3>(u), byte_at<0>(v), byte_at<1>(v))),
            pixel_of(r.z, g.z, b.z, sum_of(byte_at<2>(v), byte_at<3>(v), byte_at<0>(w))),
            pixel_of(r.w, g.w, b.w, sum_of(byte_at<1>(w), byte_at<2>(w), byte_at<3>(w))));
        return;
    }
    int left = min(plane - at, 4);
#pragma unroll 1
    do {
        const unsigned sum = sum_of(__ldg(source), __ldg(source + 1), __ldg(source + 2));
        *out++ = pixel_of(to_float(__ldg(red++)), to_float(__ldg(green++)),
                          to_float(__ldg(blue++)), sum);
        source += 3;
    } while (--left > 0);
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads)
pack_history_f32(const float* __restrict__ x, const unsigned char* __restrict__ source,
                 unsigned* __restrict__ out, int plane, unsigned vector) {
    pack_history(x, source, out, plane, vector);
}

extern "C" __global__ void __launch_bounds__(kThreads)
pack_history_f16(const __half* __restrict__ x, const unsigned char* __restrict__ source,
                 unsigned* __restrict__ out, int plane, unsigned vector) {
    pack_history(x, source, out, plane, vector);
}
