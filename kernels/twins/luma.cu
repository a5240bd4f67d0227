// CUDA C++ twin of kernels/ptx/luma.ptx: same parameters, tile and arithmetic.
// It is compiled to count its instructions, and is never shipped as a binary.

namespace {

constexpr int kQuads = 32, kRows = 4;  // a block: 128 pixels of 4 rows

// The luma is the third byte.
__device__ __forceinline__ unsigned sum_of(unsigned red, unsigned green, unsigned blue) {
    return red * 19596u + green * 38470u + blue * 7470u + 32768u;
}

template <int n>
__device__ __forceinline__ unsigned byte_at(unsigned word) {
    return n == 3 ? word >> 24 : (word >> (8 * n)) & 0xffu;
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kQuads* kRows)
luma_u8(const unsigned char* __restrict__ pixels, unsigned char* __restrict__ out, int width,
        int height, int pitch, unsigned vector) {
    const int column = (blockIdx.x * kQuads + threadIdx.x) * 4;
    const int y = blockIdx.y * kRows + threadIdx.y;
    if (column >= width || y >= height) return;
    const int row = blockIdx.z * height + y;
    pixels += row * pitch + 3 * column;
    out += row * width + column;
    if (vector) {
        const unsigned* words = reinterpret_cast<const unsigned*>(pixels);
        const unsigned a = __ldg(words), b = __ldg(words + 1), c = __ldg(words + 2);
        const unsigned low = __byte_perm(sum_of(byte_at<0>(a), byte_at<1>(a), byte_at<2>(a)),
                                         sum_of(byte_at<3>(a), byte_at<0>(b), byte_at<1>(b)),
                                         0x0062);
        const unsigned high = __byte_perm(sum_of(byte_at<2>(b), byte_at<3>(b), byte_at<0>(c)),
                                          sum_of(byte_at<1>(c), byte_at<2>(c), byte_at<3>(c)),
                                          0x0062);
        *reinterpret_cast<unsigned*>(out) = __byte_perm(low, high, 0x5410);
        return;
    }
    const int left = min(width - column, 4);
#pragma unroll 1
    for (int i = 0; i < left; ++i) {
        out[i] = sum_of(__ldg(pixels + 3 * i), __ldg(pixels + 3 * i + 1),
                        __ldg(pixels + 3 * i + 2)) >> 16;
    }
}
