// CUDA C++ twin of kernels/ptx/moment_match.ptx: same parameters, tile and arithmetic.
// It is compiled to count its instructions, and is never shipped as a binary.
#include <cuda_fp16.h>

namespace {

constexpr int kStatsThreads = 512;
constexpr int kStatsWarps = kStatsThreads / 32;
constexpr int kParts = 32;  // partial sums a channel
constexpr int kThreads = 128;
constexpr int kRows = kThreads / 32;  // a row of the picture a warp
constexpr unsigned kAll = 0xffffffffu;

__device__ __forceinline__ float4 load4(const float* at) { return *reinterpret_cast<const float4*>(at); }

__device__ __forceinline__ float4 load4(const __half* at) {
    const uint2 words = *reinterpret_cast<const uint2*>(at);
    const float2 low = __half22float2(*reinterpret_cast<const __half2*>(&words.x));
    const float2 high = __half22float2(*reinterpret_cast<const __half2*>(&words.y));
    return make_float4(low.x, low.y, high.x, high.y);
}

// The intrinsic, as nvcc takes a plain store of the second and third plane apart.
__device__ __forceinline__ void store4(float* at, float4 y) { __stwb(reinterpret_cast<float4*>(at), y); }

__device__ __forceinline__ void store4(__half* at, float4 y) {
    const __half2 low = __floats2half2_rn(y.x, y.y);
    const __half2 high = __floats2half2_rn(y.z, y.w);
    __stwb(reinterpret_cast<uint2*>(at), make_uint2(*reinterpret_cast<const unsigned*>(&low),
                                                    *reinterpret_cast<const unsigned*>(&high)));
}

__device__ __forceinline__ float load(const float* at) { return *at; }
__device__ __forceinline__ float load(const __half* at) { return __half2float(*at); }
__device__ __forceinline__ void store(float* at, float y) { *at = y; }
__device__ __forceinline__ void store(__half* at, float y) { *at = __float2half_rn(y); }

// CUDA C++ has no float min and max that keep a NaN.
__device__ __forceinline__ float clamp(float y, float low, float high) {
    asm("max.NaN.f32 %0, %0, %1;" : "+f"(y) : "f"(low));
    asm("min.NaN.f32 %0, %0, %1;" : "+f"(y) : "f"(high));
    return y;
}

template <typename T>
__device__ __forceinline__ void stats(const T* __restrict__ x, float* __restrict__ partials, int pixels) {
    __shared__ float warp_sum[kStatsWarps];
    const int thread = threadIdx.x, lane = threadIdx.x & 31u;
    const T* plane = x + blockIdx.y * pixels;
    const int first = blockIdx.x * kStatsThreads + thread;
    const bool ragged = pixels & 3;
    float sum = 0.0f;
#pragma unroll 1
    for (int quad = first; quad < (ragged ? 0 : pixels >> 2); quad += kParts * kStatsThreads) {
        const float4 v = load4(plane + 4 * quad);
        sum += (v.x + v.y) + (v.z + v.w);
    }
    if (ragged) {
#pragma unroll 1
        for (int pixel = first; pixel < pixels; pixel += kParts * kStatsThreads)
            sum += load(plane + pixel);
    }
#pragma unroll
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(kAll, sum, step);
    if (lane == 0) warp_sum[thread >> 5] = sum;
    __syncthreads();
    if (thread >= 32) return;
    sum = warp_sum[lane & (kStatsWarps - 1)];
#pragma unroll
    for (int step = kStatsWarps / 2; step > 0; step /= 2) sum += __shfl_xor_sync(kAll, sum, step);
    if (lane == 0) partials[blockIdx.y * kParts + blockIdx.x] = sum;
}

// What a cell of the row's table holds for a channel: at the cell's centre, and to the next.
struct Cell {
    float2 red, green, blue, unused;
};

// What is added to the three channels of a pixel.
__device__ __forceinline__ float3 shift(float at, const Cell* table) {
    at = fmaxf(at, 0.0f);
    const int cell = __float2int_rz(at);
    const float fraction = at - __int2float_rn(cell);
    const float4 red_green = *reinterpret_cast<const float4*>(&table[cell].red);
    const float2 blue = table[cell].blue;
    return make_float3(fmaf(fraction, red_green.y, red_green.x),
                       fmaf(fraction, red_green.w, red_green.z), fmaf(fraction, blue.y, blue.x));
}

// No __restrict__ on the pictures: `out` may be `x`.
template <typename T>
__device__ __forceinline__ void moment_match(const T* x, const float* __restrict__ partials,
                                             const float* __restrict__ grid,
                                             const float* __restrict__ control, T* out, int rows,
                                             int columns, int grid_rows, int grid_columns,
                                             float scale_y, float scale_x, float inverse_pixels) {
    extern __shared__ __align__(16) Cell tables[];
    const int lane = threadIdx.x & 31u, warp = threadIdx.x >> 5;
    const int row = blockIdx.x * kRows + warp;
    Cell* table = tables + warp * grid_columns;

    // the mean and the gain of a channel, by eight lanes each
    const int channel = min(lane >> 3, 2), eighth = threadIdx.x & 7u;
    const float4 part = __ldg(reinterpret_cast<const float4*>(partials + channel * kParts + 4 * eighth));
    float sum = (part.x + part.y) + (part.z + part.w);
#pragma unroll
    for (int step = 4; step > 0; step /= 2) sum += __shfl_xor_sync(kAll, sum, step);
    const float2 rate_limit = __ldg(reinterpret_cast<const float2*>(control));
    const float rate = rate_limit.x, limit = rate_limit.y;
    const float contrast = clamp(__ldg(control + 2 + channel), 1.0f - limit, 1.0f + limit);
    const float own_gain = rate * (contrast - 1.0f);
    const float offset = own_gain * (sum * inverse_pixels);
    const float own_scale = 1.0f + own_gain;
    const float3 gain = make_float3(__shfl_sync(kAll, own_scale, 0), __shfl_sync(kAll, own_scale, 8),
                                    __shfl_sync(kAll, own_scale, 16));

    // the grid between its two rows, as a table of this row's cells
    const float y = fmaxf(fmaf(__int2float_rn(min(row, rows - 1)) + 0.5f, scale_y, -0.5f), 0.0f);
    const int upper_row = __float2int_rz(y);
    const float fraction = y - __int2float_rn(upper_row);
    const int upper = (channel * grid_rows + upper_row) * grid_columns;
    const int lower = (channel * grid_rows + min(upper_row + 1, grid_rows - 1)) * grid_columns;
#pragma unroll 1
    for (int cell = lane < 24 ? eighth : grid_columns; cell < grid_columns; cell += 8) {
        const int next = min(cell + 1, grid_columns - 1);
        const float above = clamp(__ldg(grid + upper + cell), -limit, limit);
        const float below = clamp(__ldg(grid + lower + cell), -limit, limit);
        const float above_next = clamp(__ldg(grid + upper + next), -limit, limit);
        const float below_next = clamp(__ldg(grid + lower + next), -limit, limit);
        const float here = fmaf(fraction, below - above, above);
        const float there = fmaf(fraction, below_next - above_next, above_next);
        reinterpret_cast<float2*>(table + cell)[channel] =
            make_float2(fmaf(rate, here, -offset), rate * (there - here));
    }
    __syncthreads();
    if (row >= rows) return;

    const int first = row * columns, plane = rows * columns;
    if ((columns & 3) == 0) {
#pragma unroll 1
        for (int column = 4 * lane; column < columns; column += 128) {
            const T* at = x + first + column;
            const float4 r = load4(at), g = load4(at + plane), b = load4(at + 2 * plane);
            const float place = fmaf(__int2float_rn(column) + 0.5f, scale_x, -0.5f);
            const float3 s0 = shift(place, table), s1 = shift(place + scale_x, table),
                         s2 = shift(fmaf(2.0f, scale_x, place), table),
                         s3 = shift(fmaf(3.0f, scale_x, place), table);
            T* to = out + first + column;
            store4(to, make_float4(fmaf(r.x, gain.x, s0.x), fmaf(r.y, gain.x, s1.x),
                                   fmaf(r.z, gain.x, s2.x), fmaf(r.w, gain.x, s3.x)));
            store4(to + plane, make_float4(fmaf(g.x, gain.y, s0.y), fmaf(g.y, gain.y, s1.y),
                                           fmaf(g.z, gain.y, s2.y), fmaf(g.w, gain.y, s3.y)));
            store4(to + 2 * plane, make_float4(fmaf(b.x, gain.z, s0.z), fmaf(b.y, gain.z, s1.z),
                                               fmaf(b.z, gain.z, s2.z), fmaf(b.w, gain.z, s3.z)));
        }
        return;
    }
#pragma unroll 1
    for (int column = lane; column < columns; column += 32) {
        const T* at = x + first + column;
        const float r = load(at), g = load(at + plane), b = load(at + 2 * plane);
        const float3 s = shift(fmaf(__int2float_rn(column) + 0.5f, scale_x, -0.5f), table);
        T* to = out + first + column;
        store(to, fmaf(r, gain.x, s.x));
        store(to + plane, fmaf(g, gain.y, s.y));
        store(to + 2 * plane, fmaf(b, gain.z, s.z));
    }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kStatsThreads)
moment_match_stats_f32(const float* __restrict__ x, float* __restrict__ partials, int pixels) {
    stats(x, partials, pixels);
}

extern "C" __global__ void __launch_bounds__(kStatsThreads)
moment_match_stats_f16(const __half* __restrict__ x, float* __restrict__ partials, int pixels) {
    stats(x, partials, pixels);
}

extern "C" __global__ void __launch_bounds__(kThreads)
moment_match_f32(const float* x, const float* __restrict__ partials, const float* __restrict__ grid,
                 const float* __restrict__ control, float* out, int rows, int columns, int grid_rows,
                 int grid_columns, float scale_y, float scale_x, float inverse_pixels) {
    moment_match(x, partials, grid, control, out, rows, columns, grid_rows, grid_columns, scale_y,
                 scale_x, inverse_pixels);
}

extern "C" __global__ void __launch_bounds__(kThreads)
moment_match_f16(const __half* x, const float* __restrict__ partials, const float* __restrict__ grid,
                 const float* __restrict__ control, __half* out, int rows, int columns, int grid_rows,
                 int grid_columns, float scale_y, float scale_x, float inverse_pixels) {
    moment_match(x, partials, grid, control, out, rows, columns, grid_rows, grid_columns, scale_y,
                 scale_x, inverse_pixels);
}
