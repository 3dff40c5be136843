// The words of CUDA C++ that CuPy's kernels use, for g++; and how a kernel runs here: its threads one after another.
#pragma once
#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <tuple>
#include <type_traits>
#include <utility>

#define __device__
#define __host__
#define __global__
#define __constant__ static
#define __forceinline__ inline
#define __noinline__
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static  // a block's threads run before those of the next, so one copy is enough
#define __CUDACC_VER_MAJOR__ 12
#define __CUDA_ARCH__ 900
#define CUDART_VERSION 12090

struct dim3 { unsigned x, y, z; };
static dim3 threadIdx, blockIdx, blockDim, gridDim;
static const int warpSize = 32;

// A kernel that synchronizes runs each thread of a block on a stack of its own (driver.c); others in a plain loop.
extern "C" {
void hostcupy_run_block(int threads, void (*thread)(int number, void *parameters), void *parameters);
enum { BLOCK = 1, WARP = 2 };
void hostcupy_wait_for(int whom);  // comes back when all threads of the block, or of the warp, have been here
extern char hostcupy_shared_memory[];
}
inline void wait_for(int whom) {
    dim3 own = threadIdx;
    hostcupy_wait_for(whom);
    threadIdx = own;
}
inline void __syncthreads() { wait_for(BLOCK); }
inline void __syncwarp(unsigned = ~0u) { wait_for(WARP); }
inline void __threadfence() {}
template <class T> T of_thread(T value, int own, int other) {  // the value of another thread of the warp
    static T values[1024];
    values[own] = value;
    wait_for(WARP);
    value = values[other];
    wait_for(WARP);
    return value;
}
inline int thread_number() { return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z); }
template <class T> T __shfl_xor_sync(unsigned, T value, int lanes, int = 32) {
    return of_thread(value, thread_number(), thread_number() ^ lanes);
}
template <class T> T __shfl_up_sync(unsigned, T value, int lanes, int = 32) {
    int own = thread_number();
    return of_thread(value, own, own % 32 < lanes ? own : own - lanes);
}

namespace hostcupy {
template <auto kernel> struct Call;
template <class... A, void (*kernel)(A...)> struct Call<kernel> {
    template <size_t... i> static void with(void **parameters, std::index_sequence<i...>) {
        kernel(*reinterpret_cast<std::remove_reference_t<A> *>(parameters[i])...);
    }
    static void run(void **parameters) { with(parameters, std::index_sequence_for<A...>{}); }
};

inline void set_thread(int i) {
    threadIdx = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
}

template <auto kernel> void launch(void **parameters, const dim3 &grid, const dim3 &block, bool synchronizes) {
    gridDim = grid, blockDim = block;
    int threads = block.x * block.y * block.z;
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                blockIdx = {x, y, z};
                if (synchronizes)
                    hostcupy_run_block(threads, [](int i, void *p) { set_thread(i), Call<kernel>::run((void **)p); },
                                       parameters);
                else
                    for (int i = 0; i < threads; i++) set_thread(i), Call<kernel>::run(parameters);
            }
}
}  // namespace hostcupy

// Atomic operations: only one thread runs at a time, so they are plain ones.
template <class T> using same = std::common_type_t<T>;  // so that the second argument takes the first one's type
template <class T> T atomicAdd(T *a, same<T> v) { T old = *a; *a = old + v; return old; }
template <class T> T atomicSub(T *a, same<T> v) { T old = *a; *a = old - v; return old; }
template <class T> T atomicExch(T *a, same<T> v) { T old = *a; *a = v; return old; }
template <class T> T atomicMax(T *a, same<T> v) { T old = *a; if (old < v) *a = v; return old; }
template <class T> T atomicMin(T *a, same<T> v) { T old = *a; if (v < old) *a = v; return old; }
template <class T> T atomicAnd(T *a, same<T> v) { T old = *a; *a = old & v; return old; }
template <class T> T atomicOr(T *a, same<T> v) { T old = *a; *a = old | v; return old; }
template <class T> T atomicXor(T *a, same<T> v) { T old = *a; *a = old ^ v; return old; }
template <class T> T atomicCAS(T *a, same<T> expected, same<T> v) { T old = *a; if (old == expected) *a = v; return old; }

template <class To, class From> To same_bits(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}
inline unsigned __float_as_uint(float f) { return same_bits<unsigned>(f); }
inline int __float_as_int(float f) { return same_bits<int>(f); }
inline float __int_as_float(int i) { return same_bits<float>(i); }
inline float __uint_as_float(unsigned i) { return same_bits<float>(i); }
inline long long __double_as_longlong(double f) { return same_bits<long long>(f); }
inline double __longlong_as_double(long long i) { return same_bits<double>(i); }

template <class T> T __ldg(const T *p) { return *p; }
inline int __popc(unsigned i) { return __builtin_popcount(i); }
inline int __popcll(unsigned long long i) { return __builtin_popcountll(i); }
inline int __clz(int i) { return i ? __builtin_clz(i) : 32; }
inline int __ffs(int i) { return __builtin_ffs(i); }
inline double rsqrt(double x) { return 1 / std::sqrt(x); }
inline float rsqrtf(float x) { return 1 / std::sqrt(x); }

using std::abs;
using std::isfinite;
using std::isinf;
using std::isnan;
using std::signbit;
template <class A, class B> using numbers = std::enable_if_t<std::is_arithmetic_v<A> && std::is_arithmetic_v<B>>;
template <class A, class B, class = numbers<A, B>> auto max(A a, B b) {
    using C = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point_v<C>) return (C)std::fmax((C)a, (C)b);
    else return (C)a < (C)b ? (C)b : (C)a;
}
template <class A, class B, class = numbers<A, B>> auto min(A a, B b) {
    using C = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point_v<C>) return (C)std::fmin((C)a, (C)b);
    else return (C)b < (C)a ? (C)b : (C)a;
}
