// CUDA C++ twin of kernels/ptx/memory_attention.ptx: same parameters, tile and arithmetic.
// It is compiled to count its instructions, and is never shipped as a binary.
#include <cuda_fp16.h>

namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kRows = 4;               // keys that a warp scores at once
constexpr int kGroups = 4;             // groups of threads that share the rows of the values
constexpr int kQuads = kThreads / kGroups;
constexpr unsigned kAll = 0xffffffffu;
constexpr float kLeastNorm2 = 1e-24f;  // the square of F.normalize's epsilon

__device__ __forceinline__ float4 load4(const float* at) {
    return __ldg(reinterpret_cast<const float4*>(at));
}

__device__ __forceinline__ float4 load4(const __half* at) {
    const uint2 words = __ldg(reinterpret_cast<const uint2*>(at));
    const float2 low = __half22float2(*reinterpret_cast<const __half2*>(&words.x));
    const float2 high = __half22float2(*reinterpret_cast<const __half2*>(&words.y));
    return make_float4(low.x, low.y, high.x, high.y);
}

__device__ __forceinline__ float load(const float* at) { return __ldg(at); }
__device__ __forceinline__ float load(const __half* at) { return __half2float(__ldg(at)); }

__device__ __forceinline__ float dot4(float4 a, float4 b, float sum) {
    return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sum))));
}

// CUDA C++ has no float max that keeps a NaN.
__device__ __forceinline__ float max_nan(float a, float b) {
    asm("max.NaN.f32 %0, %0, %1;" : "+f"(a) : "f"(b));
    return a;
}

__device__ __forceinline__ float sum_of_lanes(float x) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(kAll, x, step);
    return x;
}

// Sum four values over the warp at once: lane l gets the sum of value l / 8. Half of what
// a lane holds goes to the lane that will keep it: 6 shuffles instead of 20.
__device__ __forceinline__ float sum_of_lanes(const float (&x)[kRows], int lane) {
    const bool upper = lane & 16, odd = lane & 8;
    float even_row = (upper ? x[2] : x[0]) + __shfl_xor_sync(kAll, upper ? x[0] : x[2], 16);
    float odd_row = (upper ? x[3] : x[1]) + __shfl_xor_sync(kAll, upper ? x[1] : x[3], 16);
    float sum = (odd ? odd_row : even_row) + __shfl_xor_sync(kAll, odd ? even_row : odd_row, 8);
    sum += __shfl_xor_sync(kAll, sum, 4);
    sum += __shfl_xor_sync(kAll, sum, 2);
    return sum + __shfl_xor_sync(kAll, sum, 1);
}

template <typename T>
__device__ __forceinline__ void memory_attention(const float* __restrict__ query,
                                                 const T* __restrict__ keys,
                                                 const T* __restrict__ values,
                                                 float* __restrict__ out, int entries,
                                                 int key_size, int value_size, float sharpness) {
    extern __shared__ __align__(16) float weights[];
    __shared__ __align__(16) float warp_best[kWarps];
    __shared__ __align__(16) float warp_sum[kWarps];
    __shared__ __align__(16) float partial[kGroups][kThreads];
    const int thread = threadIdx.x, lane = threadIdx.x & 31u, warp = threadIdx.x >> 5;

    // cosines: a warp takes four keys at a time; past the last key it takes that again, so
    // that all warps go round alike
    const int key_quads = key_size % 4 == 0 ? key_size >> 2 : 0;
    float best = __int_as_float(0xff800000);
#pragma unroll 1
    for (int base = 0; base < entries; base += kWarps * kRows) {
        const int first = base + warp * kRows;
        const T* key[kRows];
        float dot[kRows] = {}, norm2[kRows] = {}, query_norm2 = 0.0f;
#pragma unroll
        for (int i = 0; i < kRows; ++i)
            key[i] = keys + min(first + i, entries - 1) * key_size;
#pragma unroll 1
        for (int quad = lane; quad < key_quads; quad += 32) {
            const float4 q = load4(query + 4 * quad);
            float4 k[kRows];
#pragma unroll
            for (int i = 0; i < kRows; ++i) k[i] = load4(key[i] + 4 * quad);
            query_norm2 = dot4(q, q, query_norm2);
#pragma unroll
            for (int i = 0; i < kRows; ++i) {
                dot[i] = dot4(k[i], q, dot[i]);
                norm2[i] = dot4(k[i], k[i], norm2[i]);
            }
        }
        if (key_quads == 0) {
#pragma unroll 1
            for (int d = lane; d < key_size; d += 32) {
                const float q = load(query + d);
                query_norm2 = fmaf(q, q, query_norm2);
#pragma unroll
                for (int i = 0; i < kRows; ++i) {
                    const float k = load(key[i] + d);
                    dot[i] = fmaf(k, q, dot[i]);
                    norm2[i] = fmaf(k, k, norm2[i]);
                }
            }
        }
        const float scale = rsqrtf(fmaxf(sum_of_lanes(query_norm2), kLeastNorm2));
        const float cosine = sum_of_lanes(dot, lane) * scale *
                             rsqrtf(fmaxf(sum_of_lanes(norm2, lane), kLeastNorm2));
        const int row = first + (lane >> 3);
        if ((lane & 7) == 0 && row < entries) weights[row] = cosine;
        best = max_nan(best, cosine);
    }
    best = max_nan(best, __shfl_xor_sync(kAll, best, 16));
    best = max_nan(best, __shfl_xor_sync(kAll, best, 8));
    if (lane == 0) warp_best[warp] = best;
    __syncthreads();

    // softmax
    const float4 bests0 = *reinterpret_cast<const float4*>(&warp_best[0]);
    const float4 bests1 = *reinterpret_cast<const float4*>(&warp_best[4]);
    best = max_nan(max_nan(max_nan(bests0.x, bests0.y), max_nan(bests0.z, bests0.w)),
                   max_nan(max_nan(bests1.x, bests1.y), max_nan(bests1.z, bests1.w)));
    const float offset = -best * sharpness;
    float sum = 0.0f;
#pragma unroll 1
    for (int row = thread; row < entries; row += kThreads) {
        const float weight = exp2f(fmaf(weights[row], sharpness, offset));
        weights[row] = weight;
        sum += weight;
    }
    sum = sum_of_lanes(sum);
    if (lane == 0) warp_sum[warp] = sum;
    __syncthreads();

    // values: four columns a thread, and every fourth group of four rows
    const int value_quads = value_size % 4 == 0 ? value_size >> 2 : 0;
    const int group = thread >> 6, quad = blockIdx.x * kQuads + (thread & 63);
    if (quad < value_quads) {
        float4 total = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        const int whole = entries & ~3;
        const T* at = values + 4 * group * value_size + 4 * quad;
#pragma unroll 1
        for (int row = 4 * group; row < whole; row += 4 * kGroups) {
            const float4 weight = *reinterpret_cast<const float4*>(&weights[row]);
            const float4 v0 = load4(at);
            const float4 v1 = load4(at + value_size);
            const float4 v2 = load4(at + 2 * value_size);
            const float4 v3 = load4(at + 3 * value_size);
            total.x = dot4(make_float4(v0.x, v1.x, v2.x, v3.x), weight, total.x);
            total.y = dot4(make_float4(v0.y, v1.y, v2.y, v3.y), weight, total.y);
            total.z = dot4(make_float4(v0.z, v1.z, v2.z, v3.z), weight, total.z);
            total.w = dot4(make_float4(v0.w, v1.w, v2.w, v3.w), weight, total.w);
            at += 4 * kGroups * value_size;
        }
        const int row = whole + group;
        if (row < entries) {
            const float weight = weights[row];
            const float4 v = load4(values + row * value_size + 4 * quad);
            total.x = fmaf(v.x, weight, total.x);
            total.y = fmaf(v.y, weight, total.y);
            total.z = fmaf(v.z, weight, total.z);
            total.w = fmaf(v.w, weight, total.w);
        }
        *reinterpret_cast<float4*>(&partial[group][4 * ((thread & 63))]) = total;
    }
    __syncthreads();

    // store: a column a thread
    const float4 sums0 = *reinterpret_cast<const float4*>(&warp_sum[0]);
    const float4 sums1 = *reinterpret_cast<const float4*>(&warp_sum[4]);
    sum = ((sums0.x + sums0.y) + (sums0.z + sums0.w)) + ((sums1.x + sums1.y) + (sums1.z + sums1.w));
    if (blockIdx.x == 0 && thread == 0) out[value_size] = best;
    const int column = blockIdx.x * kThreads + thread;
    if (column >= value_size) return;
    float total;
    if (value_quads != 0) {
        total = (partial[0][thread] + partial[1][thread]) + (partial[2][thread] + partial[3][thread]);
    } else {
        total = 0.0f;
        const T* at = values + column;
#pragma unroll 1
        for (int row = 0; row < entries; ++row) {
            total = fmaf(load(at), weights[row], total);
            at += value_size;
        }
    }
    out[column] = __fdividef(total, sum);
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads)
memory_attention_f32(const float* __restrict__ query, const float* __restrict__ keys,
                     const float* __restrict__ values, float* __restrict__ out, int entries,
                     int key_size, int value_size, float sharpness) {
    memory_attention(query, keys, values, out, entries, key_size, value_size, sharpness);
}

extern "C" __global__ void __launch_bounds__(kThreads)
memory_attention_f16(const float* __restrict__ query, const __half* __restrict__ keys,
                     const __half* __restrict__ values, float* __restrict__ out, int entries,
                     int key_size, int value_size, float sharpness) {
    memory_attention(query, keys, values, out, entries, key_size, value_size, sharpness);
}
