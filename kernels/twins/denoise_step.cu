// CUDA C++ twin of kernels/ptx/denoise_step.ptx: same parameters, tile and arithmetic.
// It is compiled to count its instructions, and is never shipped as a binary.
#include <cuda_fp16.h>

namespace {

constexpr int kThreads = 128;

// One record serves a launch; the layout of kernels/plans/denoise_step.py.
struct alignas(16) Coefficients {
    float a, b, low, high;
    unsigned seed_low, seed_high, frame, step;
    float c;
};

__device__ __forceinline__ uint4 philox4x32_10(uint4 counter, uint2 key) {
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const unsigned long long product0 = 0xD2511F53ull * counter.x;
        const unsigned long long product1 = 0xCD9E8D57ull * counter.z;
        counter = make_uint4(static_cast<unsigned>(product1 >> 32) ^ counter.y ^ key.x,
                             static_cast<unsigned>(product1),
                             static_cast<unsigned>(product0 >> 32) ^ counter.w ^ key.y,
                             static_cast<unsigned>(product0));
        key.x += 0x9E3779B9u;
        key.y += 0xBB67AE85u;
    }
    return counter;
}

// Add `gain` times two normals made of two words.
__device__ __forceinline__ void add_normals(unsigned u, unsigned v, float gain, float& y0, float& y1) {
    const float uniform = fmaf(__uint2float_rn(u), 0x1p-32f, 0x1p-33f);
    const float radius = gain * sqrtf(fabsf(__log2f(uniform) * -1.3862944f));
    const float angle = __int2float_rn(static_cast<int>(v)) * 1.4629181e-9f;
    y0 = fmaf(radius, __cosf(angle), y0);
    y1 = fmaf(radius, __sinf(angle), y1);
}

// CUDA C++ has no float min and max that keep a NaN.
__device__ __forceinline__ float clamp(float y, float low, float high) {
    asm("max.NaN.f32 %0, %0, %1;" : "+f"(y) : "f"(low));
    asm("min.NaN.f32 %0, %0, %1;" : "+f"(y) : "f"(high));
    return y;
}

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

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(__half value) { return __half2float(value); }
__device__ __forceinline__ void store(float* at, float y) { *at = y; }
__device__ __forceinline__ void store(__half* at, float y) { *at = __float2half_rn(y); }

template <typename T>
__device__ __forceinline__ float4 load_tail(const T* at, int left) {
    return make_float4(to_float(at[0]), left > 1 ? to_float(at[1]) : 0.0f,
                       left > 2 ? to_float(at[2]) : 0.0f, 0.0f);
}

// No __restrict__ on the pictures: `out` may be `x` or `denoised`.
template <typename T>
__device__ __forceinline__ void denoise_step(const T* x, const T* denoised,
                                             const Coefficients* __restrict__ record, T* out,
                                             int count) {
    const int quad = blockIdx.x * kThreads + threadIdx.x;
    const int first = quad * 4;
    const int left = count - first;
    if (left <= 0) return;
    const bool whole = left >= 4;
    const float4 mix = __ldg(reinterpret_cast<const float4*>(record));
    const float noise_gain = __ldg(&record->c);

    float4 a, y;
    if (whole) {
        a = load4(x + first);
        y = load4(denoised + first);
    } else {
        a = load_tail(x + first, left);
        y = load_tail(denoised + first, left);
    }
    y.x = fmaf(a.x, mix.x, y.x * mix.y);
    y.y = fmaf(a.y, mix.x, y.y * mix.y);
    y.z = fmaf(a.z, mix.x, y.z * mix.y);
    y.w = fmaf(a.w, mix.x, y.w * mix.y);

    if (noise_gain != 0.0f) {
        const uint4 stream = __ldg(reinterpret_cast<const uint4*>(record) + 1);
        const uint4 words = philox4x32_10(make_uint4(quad, stream.z, stream.w, 0u),
                                          make_uint2(stream.x, stream.y));
        add_normals(words.x, words.y, noise_gain, y.x, y.y);
        add_normals(words.z, words.w, noise_gain, y.z, y.w);
    }
    y = make_float4(clamp(y.x, mix.z, mix.w), clamp(y.y, mix.z, mix.w),
                    clamp(y.z, mix.z, mix.w), clamp(y.w, mix.z, mix.w));

    if (whole) {
        store4(out + first, y);
    } else {
        store(out + first, y.x);
        if (left > 1) store(out + first + 1, y.y);
        if (left > 2) store(out + first + 2, y.z);
    }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads)
denoise_step_f32(const float* x, const float* denoised,
                 const Coefficients* __restrict__ coefficients, float* out, int count) {
    denoise_step(x, denoised, coefficients, out, count);
}

extern "C" __global__ void __launch_bounds__(kThreads)
denoise_step_f16(const __half* x, const __half* denoised,
                 const Coefficients* __restrict__ coefficients, __half* out, int count) {
    denoise_step(x, denoised, coefficients, out, count);
}
