// CUDA C++ twin of kernels/ptx/guard.ptx: same parameters, tile and arithmetic.
// It is compiled to count its instructions, and is never shipped as a binary.

namespace {

constexpr int kThreads = 256;

// T holds the bits of a value, whose meaning the copy does not need.
template <typename T>
__device__ __forceinline__ void guard(const T* __restrict__ x, const T* __restrict__ good,
                                      const float4* __restrict__ stats,
                                      const float* __restrict__ last,
                                      const float2* __restrict__ limits, T* __restrict__ out,
                                      uint4* __restrict__ verdict, int count, int whole) {
    constexpr int kValues = 16 / sizeof(T);
    const int at = (blockIdx.x * kThreads + threadIdx.x) * kValues;
    if (at >= count) return;
    const float4 found = __ldg(stats);  // mean, deviation, bits of how many are bad, energy
    const float2 limit = __ldg(limits);  // flat, jump
    const float last_mean = last ? __ldg(last) : __int_as_float(0x7fc00000);
    unsigned code = fabsf(found.x - last_mean) > limit.y ? 3u : 0u;
    if (found.y < limit.x) code = 2u;
    if (__float_as_uint(found.z) != 0u) code = 1u;
    if (at == 0) *verdict = make_uint4(code, 0u, 0u, 0u);
    const T* from = (code == 0u ? x : good) + at;
    out += at;
    if (at < whole) {
        *reinterpret_cast<uint4*>(out) = __ldg(reinterpret_cast<const uint4*>(from));
        return;
    }
    int left = min(count - at, kValues);
#pragma unroll 1
    do {
        *out++ = __ldg(from++);
    } while (--left > 0);
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads)
guard_f32(const unsigned* __restrict__ x, const unsigned* __restrict__ good,
          const float4* __restrict__ stats, const float* __restrict__ last,
          const float2* __restrict__ limits, unsigned* __restrict__ out,
          uint4* __restrict__ verdict, int count, int whole) {
    guard(x, good, stats, last, limits, out, verdict, count, whole);
}

extern "C" __global__ void __launch_bounds__(kThreads)
guard_f16(const unsigned short* __restrict__ x, const unsigned short* __restrict__ good,
          const float4* __restrict__ stats, const float* __restrict__ last,
          const float2* __restrict__ limits, unsigned short* __restrict__ out,
          uint4* __restrict__ verdict, int count, int whole) {
    guard(x, good, stats, last, limits, out, verdict, count, whole);
}
