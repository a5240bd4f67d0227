// CUDA C++ twin of kernels/ptx/frame_stats.ptx: same parameters, tile and arithmetic.
// It is compiled to count its instructions, and is never shipped as a binary.
#include <cuda_fp16.h>

namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kBins = 512;   // 8 x 8 x 8; the word after them counts what is bad
constexpr int kRecord = 8;   // floats a warp's partial takes
constexpr unsigned kAll = 0xffffffffu;
constexpr float kHuge = 1e15f;    // bad from here
constexpr float kTame2 = 1e20f;   // sums of squares below this hold no bad value

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

// CUDA C++ has no float max that keeps a NaN.
__device__ __forceinline__ float max_nan(float a, float b) {
    asm("max.NaN.f32 %0, %0, %1;" : "+f"(a) : "f"(b));
    return a;
}

// Sum four values over the warp at once: lane l gets the sum of value l / 8. Half of what
// a lane holds goes to the lane that will keep it: 6 shuffles instead of 20.
__device__ __forceinline__ float sum_of_lanes(float4 x, int lane) {
    const bool upper = lane & 16, odd = lane & 8;
    float even = (upper ? x.z : x.x) + __shfl_xor_sync(kAll, upper ? x.x : x.z, 16);
    float next = (upper ? x.w : x.y) + __shfl_xor_sync(kAll, upper ? x.y : x.w, 16);
    float sum = (odd ? next : even) + __shfl_xor_sync(kAll, odd ? even : next, 8);
    sum += __shfl_xor_sync(kAll, sum, 4);
    sum += __shfl_xor_sync(kAll, sum, 2);
    return sum + __shfl_xor_sync(kAll, sum, 1);
}

// The bin along one colour: 8 of them from -1 to 1, what lies outside in the first and the last.
__device__ __forceinline__ unsigned bin(float v) { return min(__float2uint_rz(fmaf(v, 4.0f, 4.0f)), 7u); }

__device__ __forceinline__ unsigned bin(float red, float green, float blue) {
    return (bin(red) * 8 + bin(green)) * 8 + bin(blue);
}

struct Sums {
    float first, second, laplacian;

    __device__ __forceinline__ void add(float d) {
        first += d;
        second = fmaf(d, d, second);
    }

    __device__ __forceinline__ void add(float4 v, float shift) {
        add(v.x - shift);
        add(v.y - shift);
        add(v.z - shift);
        add(v.w - shift);
    }
};

__device__ __forceinline__ float laplace(float left, float right, float above, float below, float v) {
    return fmaf(v, -4.0f, (left + right) + (above + below));
}

// Add the Laplacian's energy of four pixels of a channel, of a row with a row above and below.
template <typename T>
__device__ __forceinline__ float laplace4(float4 v, const T* at, int columns, bool has_left,
                                          bool has_right, float energy) {
    const float4 above = load4(at - columns), below = load4(at + columns);
    const float left = has_left ? load(at - 1) : 0.0f, right = has_right ? load(at + 4) : 0.0f;
    const float l0 = laplace(left, v.y, above.x, below.x, v.x);
    const float l1 = laplace(v.x, v.z, above.y, below.y, v.y);
    const float l2 = laplace(v.y, v.w, above.z, below.z, v.z);
    const float l3 = laplace(v.z, right, above.w, below.w, v.w);
    if (has_left) energy = fmaf(l0, l0, energy);
    if (has_right) energy = fmaf(l3, l3, energy);
    return fmaf(l2, l2, fmaf(l1, l1, energy));
}

template <typename T>
__device__ __forceinline__ void frame_stats(const T* __restrict__ x, float* __restrict__ partials,
                                            unsigned* __restrict__ counts, int rows, int columns,
                                            int row_steps) {
    __shared__ __align__(8) unsigned bins[kBins + 2];
    const int thread = threadIdx.x, lane = threadIdx.x & 31u, warp = threadIdx.x >> 5;
    *reinterpret_cast<uint2*>(&bins[2 * thread]) = make_uint2(0u, 0u);
    if (thread == 0) bins[kBins] = 0u;
    __syncthreads();

    const int tile_column = blockIdx.x * 128, column = tile_column + 4 * lane;
    const int first_row = blockIdx.y * row_steps * kWarps + warp;
    const bool inside = column < columns;
    const int steps = min((rows - first_row + kWarps - 1) >> 3, row_steps);
    const int width = max(min(4, columns - column), 0);
    const float values = static_cast<float>(3 * width * steps);
    const int plane = rows * columns;
    const float shift = load(x + (min(first_row, rows - 1) * columns + tile_column));
    Sums sums = {0.0f, 0.0f, 0.0f};

    // a bit for each of the lane's rows that must be looked at slowly
    unsigned pending = (1u << steps) - 1u;
    if ((columns & 3) == 0) {
        pending = 0u;
        const bool has_left = column > 0, has_right = column + 4 < columns;
        const int seen_column = min(column, columns - 4);
        int row = first_row;
        // one number of rounds for the whole block: the compiler then knows that warps stay together
#pragma unroll 1
        for (int step = 0; step < row_steps; ++step, row += kWarps) {
            if (row >= rows) continue;
            const T* first = x + (row * columns + seen_column);
            const float4 r = load4(first), g = load4(first + plane), b = load4(first + 2 * plane);
            Sums next = sums;
            next.add(r, shift);
            next.add(g, shift);
            next.add(b, shift);
            if (row > 0 && row < rows - 1) {
                float energy = laplace4(r, first, columns, has_left, has_right, sums.laplacian);
                energy = laplace4(g, first + plane, columns, has_left, has_right, energy);
                next.laplacian = laplace4(b, first + 2 * plane, columns, has_left, has_right, energy);
            }
            if (inside && next.second < kTame2 && next.laplacian < kTame2) {
                sums = next;
                atomicAdd(&bins[bin(r.x, g.x, b.x)], 1u);
                atomicAdd(&bins[bin(r.y, g.y, b.y)], 1u);
                atomicAdd(&bins[bin(r.z, g.z, b.z)], 1u);
                atomicAdd(&bins[bin(r.w, g.w, b.w)], 1u);
            } else {
                pending |= 1u << step;
            }
        }
    }
    if (!inside) pending = 0u;

    // rows that are not aligned, and whatever may hold a bad value: one value at a time
    int place = column, channel = 0;
    unsigned colour = 0, bad = 0;
#pragma unroll 1
    for (bool more = __any_sync(kAll, pending != 0u); more; more = __any_sync(kAll, pending != 0u)) {
        if (pending == 0u) continue;
        const int row = first_row + (__ffs(pending) - 1) * kWarps;
        const T* at = x + (channel * plane + row * columns + place);
        const float v = load(at);
        sums.add(v - shift);
        colour = colour * 8 + bin(v);
        if (!(fabsf(v) < kHuge)) ++bad;
        if (row > 0 && row < rows - 1 && place > 0 && place < columns - 1) {
            const float left = load(at - 1), right = load(at + 1);
            const float above = load(at - columns), below = load(at + columns);
            const float largest = max_nan(max_nan(max_nan(fabsf(left), fabsf(right)),
                                                  max_nan(fabsf(above), fabsf(below))), fabsf(v));
            const float l = laplace(left, right, above, below, v);
            if (largest < kHuge) sums.laplacian = fmaf(l, l, sums.laplacian);
        }
        if (++channel < 3) continue;
        atomicAdd(&bins[bad == 0 ? colour : kBins], bad == 0 ? 1u : bad);
        channel = 0;
        colour = bad = 0u;
        if (++place == column + width) {
            place = column;
            pending &= pending - 1u;
        }
    }
    __syncthreads();
    const float sum = sum_of_lanes(make_float4(sums.first, sums.second, sums.laplacian, values), lane);
    const int slot = (blockIdx.y * gridDim.x + blockIdx.x) * kWarps + warp;
    float* record = partials + slot * kRecord;
    if ((lane & 7) == 0) record[lane >> 3] = sum;
    if (lane == 0) record[4] = shift;
    const uint2 two = *reinterpret_cast<const uint2*>(&bins[2 * thread]);
    if (two.x != 0) atomicAdd(&counts[2 * thread], two.x);
    if (two.y != 0) atomicAdd(&counts[2 * thread + 1], two.y);
    // (so addressed that the compiler doesn't gather a warp's worth of one thread's addition)
    if (thread == 0 && bins[kBins + 2 * thread] != 0)
        atomicAdd(&counts[kBins + 2 * thread], bins[kBins + 2 * thread]);
}

// What the guards read.
struct alignas(16) Stats {
    float mean, std;
    unsigned bad;
    float laplacian;
    unsigned histogram[kBins];
};

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads)
frame_stats_f32(const float* __restrict__ x, float* __restrict__ partials,
                unsigned* __restrict__ counts, int rows, int columns, int row_steps) {
    frame_stats(x, partials, counts, rows, columns, row_steps);
}

extern "C" __global__ void __launch_bounds__(kThreads)
frame_stats_f16(const __half* __restrict__ x, float* __restrict__ partials,
                unsigned* __restrict__ counts, int rows, int columns, int row_steps) {
    frame_stats(x, partials, counts, rows, columns, row_steps);
}

extern "C" __global__ void __launch_bounds__(kThreads)
frame_stats_finish_f32(const float* __restrict__ partials, unsigned* __restrict__ counts,
                       Stats* __restrict__ stats, int records, float inverse_values,
                       float inverse_inner) {
    __shared__ __align__(16) float warp_sum[2][kWarps];
    __shared__ __align__(16) float warp_second[kWarps];
    const int thread = threadIdx.x, lane = threadIdx.x & 31u, warp = threadIdx.x >> 5;
    // everything is measured from the first record's shift: no large numbers cancel
    const float origin = __ldg(partials + 4);
    float sum = 0.0f, laplacian = 0.0f;
#pragma unroll 1
    for (int i = thread; i < records; i += kThreads) {
        const float4 record = __ldg(reinterpret_cast<const float4*>(partials + i * kRecord));
        const float shift = __ldg(partials + i * kRecord + 4);
        sum += fmaf(record.w, shift - origin, record.x);
        laplacian += record.z;
    }
#pragma unroll
    for (int step = 16; step > 0; step /= 2) {
        sum += __shfl_xor_sync(kAll, sum, step);
        laplacian += __shfl_xor_sync(kAll, laplacian, step);
    }
    if (lane == 0) {
        warp_sum[0][warp] = sum;
        warp_sum[1][warp] = laplacian;
    }
    __syncthreads();
    const float4 a = *reinterpret_cast<const float4*>(&warp_sum[0][0]);
    const float4 b = *reinterpret_cast<const float4*>(&warp_sum[0][4]);
    const float total = ((a.x + a.y) + (a.z + a.w)) + ((b.x + b.y) + (b.z + b.w));
    const float mean = fmaf(total, inverse_values, origin);
    float second = 0.0f;
#pragma unroll 1
    for (int i = thread; i < records; i += kThreads) {
        const float4 record = __ldg(reinterpret_cast<const float4*>(partials + i * kRecord));
        const float off = __ldg(partials + i * kRecord + 4) - mean;
        second += fmaf(off, fmaf(record.w, off, record.x + record.x), record.y);
    }
#pragma unroll
    for (int step = 16; step > 0; step /= 2) second += __shfl_xor_sync(kAll, second, step);
    if (lane == 0) warp_second[warp] = second;

    // the counts go out, and are zero for the next picture
    uint2* two = reinterpret_cast<uint2*>(counts) + thread;
    *(reinterpret_cast<uint2*>(stats->histogram) + thread) = *two;
    *two = make_uint2(0u, 0u);
    __syncthreads();
    if (thread != 0) return;
    const unsigned bad = counts[kBins];
    counts[kBins] = 0u;
    const float4 c = *reinterpret_cast<const float4*>(&warp_second[0]);
    const float4 d = *reinterpret_cast<const float4*>(&warp_second[4]);
    const float4 e = *reinterpret_cast<const float4*>(&warp_sum[1][0]);
    const float4 f = *reinterpret_cast<const float4*>(&warp_sum[1][4]);
    const float squares = ((c.x + c.y) + (c.z + c.w)) + ((d.x + d.y) + (d.z + d.w));
    const float energy = ((e.x + e.y) + (e.z + e.w)) + ((f.x + f.y) + (f.z + f.w));
    const float none = __int_as_float(0x7fc00000);
    const float std = sqrtf(squares * inverse_values);
    __stwb(reinterpret_cast<float4*>(stats),
           make_float4(bad == 0 ? mean : none, bad == 0 ? std : none, __uint_as_float(bad),
                       energy * inverse_inner));
}
