// minicv has no complex numbers: only the name, which CuPy's other headers mention.
#pragma once
#include <complex>
template <class T> using complex = std::complex<T>;
#include <cupy/bfloat16.cuh>
#include <cupy/carray.cuh>
#include <cupy/float16.cuh>
