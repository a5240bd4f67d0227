// CUDA C++ twin of kernels/ptx/warp.ptx: same parameters, tile and arithmetic.
// It is compiled to count its instructions, and is never shipped as a binary.

namespace {

constexpr int kColumns = 32, kRows = 8;  // a block; a pixel a thread

struct Pair {
    int low, high;
    float part;
};

// Between which two of `last` + 1 pixels a place lies.
__device__ __forceinline__ Pair pair_at(float where, int last) {
    where = fminf(fmaxf(where, 0.0f), static_cast<float>(last));
    const int low = __float2int_rd(where);
    return {low, min(low + 1, last), where - static_cast<float>(low)};
}

struct Place {
    int at;
    int corner[4];
    float across, down;
};

__device__ __forceinline__ Place place_of(const float2* flow, int x, int y, int width, int height) {
    const int at = y * width + x;
    const float2 f = __ldg(flow + at);
    const Pair across = pair_at(static_cast<float>(x) + f.x, width - 1);
    const Pair down = pair_at(static_cast<float>(y) + f.y, height - 1);
    const int upper = down.low * width, lower = down.high * width;
    return {at,
            {upper + across.low, upper + across.high, lower + across.low, lower + across.high},
            across.part,
            down.part};
}

__device__ __forceinline__ float between(float a, float b, float c, float d, float x, float y) {
    const float upper = fmaf(b - a, x, a);
    const float lower = fmaf(d - c, x, c);
    return fmaf(lower - upper, y, upper);
}

template <int n>
__device__ __forceinline__ float byte_at(unsigned word) {
    return static_cast<float>(n == 3 ? word >> 24 : (word >> (8 * n)) & 0xffu);
}

template <int n>
__device__ __forceinline__ unsigned mixed(const unsigned (&word)[4], const Place& place) {
    const float value = between(byte_at<n>(word[0]), byte_at<n>(word[1]), byte_at<n>(word[2]),
                                byte_at<n>(word[3]), place.across, place.down);
    unsigned byte;  // C++ has no cast that rounds
    asm("cvt.rni.u8.f32 %0, %1;" : "=r"(byte) : "f"(value));
    return byte;
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kColumns* kRows)
warp_f32(const float* __restrict__ picture, const float2* __restrict__ flow,
         float* __restrict__ out, int width, int height, int channels) {
    const int x = blockIdx.x * kColumns + threadIdx.x;
    const int y = blockIdx.y * kRows + threadIdx.y;
    if (x >= width || y >= height) return;
    const Place place = place_of(flow, x, y, width, height);
    const float* p0 = picture + place.corner[0];
    const float* p1 = picture + place.corner[1];
    const float* p2 = picture + place.corner[2];
    const float* p3 = picture + place.corner[3];
    out += place.at;
    const int plane = width * height;
    if (channels == 4) {
        float corner[4][4];
#pragma unroll
        for (int c = 0; c < 4; ++c) {
            corner[c][0] = __ldg(p0 + c * plane);
            corner[c][1] = __ldg(p1 + c * plane);
            corner[c][2] = __ldg(p2 + c * plane);
            corner[c][3] = __ldg(p3 + c * plane);
        }
#pragma unroll
        for (int c = 0; c < 4; ++c) {
            out[c * plane] = between(corner[c][0], corner[c][1], corner[c][2], corner[c][3],
                                     place.across, place.down);
        }
        return;
    }
#pragma unroll 1
    do {
        *out = between(__ldg(p0), __ldg(p1), __ldg(p2), __ldg(p3), place.across, place.down);
        p0 += plane;
        p1 += plane;
        p2 += plane;
        p3 += plane;
        out += plane;
    } while (--channels > 0);
}

extern "C" __global__ void __launch_bounds__(kColumns* kRows)
warp_u8(const unsigned* __restrict__ picture, const float2* __restrict__ flow,
        unsigned* __restrict__ out, int width, int height) {
    const int x = blockIdx.x * kColumns + threadIdx.x;
    const int y = blockIdx.y * kRows + threadIdx.y;
    if (x >= width || y >= height) return;
    const Place place = place_of(flow, x, y, width, height);
    unsigned word[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) word[i] = __ldg(picture + place.corner[i]);
    const unsigned low = __byte_perm(mixed<0>(word, place), mixed<1>(word, place), 0x0040);
    const unsigned high = __byte_perm(mixed<2>(word, place), mixed<3>(word, place), 0x0040);
    out[place.at] = __byte_perm(low, high, 0x5410);
}
