// CUDA C++ twin of kernels/ptx/group_norm_silu.ptx: same parameters, tiles and arithmetic.
// It is compiled to count its instructions, and is never shipped as a binary.
#include <cuda_fp16.h>

namespace {

constexpr int kStatsThreads = 256;
constexpr int kThreads = 128;
constexpr unsigned kAllLanes = 0xFFFFFFFFu;

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

__device__ __forceinline__ float load(const float* at) { return *at; }
__device__ __forceinline__ float load(const __half* at) { return __half2float(*at); }
__device__ __forceinline__ void store(float* at, float y) { *at = y; }
__device__ __forceinline__ void store(__half* at, float y) { *at = __float2half_rn(y); }

__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
    for (int step = 16; step > 0; step >>= 1) value += __shfl_xor_sync(kAllLanes, value, step);
    return value;
}

__device__ __forceinline__ float sum8(const float* values) {
    const float4 a = load4(values);
    const float4 b = load4(values + 4);
    return ((a.x + a.y) + (a.z + a.w)) + ((b.x + b.y) + (b.z + b.w));
}

struct Moments {
    float sum = 0.0f;
    float squares = 0.0f;

    __device__ __forceinline__ void add(float4 v, float pivot) {
        v.x -= pivot;
        v.y -= pivot;
        v.z -= pivot;
        v.w -= pivot;
        squares = fmaf(v.x, v.x, squares);
        squares = fmaf(v.y, v.y, squares);
        squares = fmaf(v.z, v.z, squares);
        squares = fmaf(v.w, v.w, squares);
        sum += (v.x + v.y) + (v.z + v.w);
    }
};

template <typename T>
__device__ __forceinline__ void stats(const T* __restrict__ x, float4* __restrict__ partials,
                                      int length, int slice_quads) {
    __shared__ __align__(16) float sums[8];
    __shared__ __align__(16) float spreads[8];
    const int thread = threadIdx.x;
    const int slice = blockIdx.x;
    const int row = blockIdx.y;
    const int origin_at = row * length;
    const int head = min(-origin_at & 3, length);
    const int quads = (length - head) >> 2;
    const int edges = length - 4 * quads;
    const int start = slice * slice_quads;
    const int stop = min(start + slice_quads, quads);
    int left = stop - start - thread;

    const T* from = x + (origin_at + head + 4 * (start + thread));
    const float origin = load(x + origin_at);
    const float pivot = left > 0 ? load(from) : origin;

    Moments moments;
    int count = ((left + 255) >> 8) << 2;
    int slice_count = (stop - start) << 2;
    if (slice == 0) {
        slice_count += edges;
        if (thread < edges) {
            ++count;
            const int index = origin_at + thread + (thread >= head ? 4 * quads : 0);
            moments.sum = load(x + index) - pivot;
            moments.squares = moments.sum * moments.sum;
        }
    }
#pragma unroll 1
    for (; left > kStatsThreads; left -= 2 * kStatsThreads, from += 8 * kStatsThreads) {
        const float4 a = load4(from);
        const float4 b = load4(from + 4 * kStatsThreads);
        moments.add(a, pivot);
        moments.add(b, pivot);
    }
    if (left > 0) moments.add(load4(from), pivot);

    const float number = static_cast<float>(count);
    const float mean = moments.sum * __fdividef(1.0f, fmaxf(number, 1.0f));
    float spread = fmaf(-mean, moments.sum, moments.squares);
    float offset = (pivot - origin) + mean;

    const int warp = thread >> 5;
    const bool is_lane0 = (thread & 31) == 0;
    const float warp_total = warp_sum(number * offset);
    if (is_lane0) sums[warp] = warp_total;
    __syncthreads();
    const float whole = static_cast<float>(slice_count);
    const float slice_mean = sum8(sums) * __fdividef(1.0f, whole);

    offset -= slice_mean;
    spread = warp_sum(fmaf(number * offset, offset, spread));
    if (is_lane0) spreads[warp] = spread;
    __syncthreads();
    if (thread != 0) return;
    spread = sum8(spreads);
    const float whole_mean = origin + slice_mean;
    const float low_mean = (origin - whole_mean) + slice_mean;
    partials[row * static_cast<int>(gridDim.x) + slice] =
        make_float4(whole, whole_mean, spread, low_mean);
}

__device__ __forceinline__ float modulated_silu(float x, float centre, float gain, float bias) {
    const float y = fmaf(x - centre, gain, bias);
    return y * __fdividef(1.0f, 1.0f + exp2f(y * -1.4426950f));
}

// No __restrict__ on x and out: they may be the same.
template <typename T>
__device__ __forceinline__ void normalise(const T* x, const float4* __restrict__ partials,
                                          const float* __restrict__ scale,
                                          const float* __restrict__ shift, T* out, int plane,
                                          unsigned groups, unsigned group_magic, int slices,
                                          int film_stride, int tile_quads, float inverse_length,
                                          float eps) {
    const int thread = threadIdx.x;
    const int tile = blockIdx.x;
    const int channel = blockIdx.y;
    const int batch = blockIdx.z;
    const int group = __umulhi(channel + 1, group_magic);
    const int row = batch * groups + group;
    const int lane = thread & 31;

    float4 partial = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (lane < slices) partial = __ldg(partials + row * slices + lane);
    const int film = batch * film_stride + channel;
    const float film_scale = __ldg(scale + film);
    const float film_shift = __ldg(shift + film);

    const float centre = __shfl_sync(kAllLanes, partial.y, 0);
    float offset = (partial.y - centre) + partial.w;
    const float rest = warp_sum(partial.x * offset) * inverse_length;
    offset -= rest;
    const float spread = warp_sum(fmaf(partial.x * offset, offset, partial.z));
    const float deviation = rsqrtf(fmaf(spread, inverse_length, eps));
    const float gain = fmaf(deviation, film_scale, deviation);
    const float bias = fmaf(-rest, gain, film_shift);

    const int origin_at = (batch * static_cast<int>(gridDim.y) + channel) * plane;
    const int head = min(-origin_at & 3, plane);
    const int quads = (plane - head) >> 2;
    const int last = min(tile * tile_quads + tile_quads, quads);
    const int body = origin_at + head;
#pragma unroll 1
    for (int quad = tile * tile_quads + thread; quad < last; quad += kThreads) {
        float4 v = load4(x + body + 4 * quad);
        v.x = modulated_silu(v.x, centre, gain, bias);
        v.y = modulated_silu(v.y, centre, gain, bias);
        v.z = modulated_silu(v.z, centre, gain, bias);
        v.w = modulated_silu(v.w, centre, gain, bias);
        store4(out + body + 4 * quad, v);
    }
    const int edges = plane - 4 * quads;
    if (tile != 0 || thread >= edges) return;
    const int index = origin_at + thread + (thread >= head ? 4 * quads : 0);
    store(out + index, modulated_silu(load(x + index), centre, gain, bias));
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kStatsThreads)
group_norm_silu_stats_f32(const float* __restrict__ x, float4* __restrict__ partials, int length,
                          int slice_quads) {
    stats(x, partials, length, slice_quads);
}

extern "C" __global__ void __launch_bounds__(kStatsThreads)
group_norm_silu_stats_f16(const __half* __restrict__ x, float4* __restrict__ partials, int length,
                          int slice_quads) {
    stats(x, partials, length, slice_quads);
}

extern "C" __global__ void __launch_bounds__(kThreads)
group_norm_silu_f32(const float* x, const float4* __restrict__ partials,
                    const float* __restrict__ scale, const float* __restrict__ shift, float* out,
                    int plane, unsigned groups, unsigned group_magic, int slices, int film_stride,
                    int tile_quads, float inverse_length, float eps) {
    normalise(x, partials, scale, shift, out, plane, groups, group_magic, slices, film_stride,
              tile_quads, inverse_length, eps);
}

extern "C" __global__ void __launch_bounds__(kThreads)
group_norm_silu_f16(const __half* x, const float4* __restrict__ partials,
                    const float* __restrict__ scale, const float* __restrict__ shift, __half* out,
                    int plane, unsigned groups, unsigned group_magic, int slices, int film_stride,
                    int tile_quads, float inverse_length, float eps) {
    normalise(x, partials, scale, shift, out, plane, groups, group_magic, slices, film_stride,
              tile_quads, inverse_length, eps);
}
