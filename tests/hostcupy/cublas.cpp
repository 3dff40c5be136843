// cuBLAS's matrix products, column by column as Fortran has them, with cuBLAS's checks; the rest refuses (__init__.py).
#include <cstdio>
#include <vector>
#include "cuda_fp16.h"

typedef long long Int;
extern "C" { long hostcupy_products; }

struct Shape { int ta, tb, m, n, k, lda, ldb, ldc; };
enum { OK = 0, INVALID = 7, UNSUPPORTED = 15, FLOAT = 0, DOUBLE = 1, HALF = 2 };

static bool fits(const Shape &s) {
    auto least = [](int n) { return n > 1 ? n : 1; };
    return s.m >= 0 && s.n >= 0 && s.k >= 0 && s.lda >= least(s.ta ? s.k : s.m) && s.ldb >= least(s.tb ? s.n : s.k) &&
           s.ldc >= least(s.m);
}

template <class T, class Sum> static int product(const Shape &s, Sum alpha, const T *a, const T *b, Sum beta, T *c) {
    __atomic_fetch_add(&hostcupy_products, 1, __ATOMIC_RELAXED);
    std::vector<Sum> column(s.m);
    for (int j = 0; j < s.n; j++) {
        for (Sum &v : column) v = 0;
        if (s.ta)
            for (int i = 0; i < s.m; i++)
                for (int p = 0; p < s.k; p++)
                    column[i] += Sum(a[p + (Int)i * s.lda]) * Sum(s.tb ? b[j + (Int)p * s.ldb] : b[p + (Int)j * s.ldb]);
        else
            for (int p = 0; p < s.k; p++) {
                Sum factor = s.tb ? b[j + (Int)p * s.ldb] : b[p + (Int)j * s.ldb];
                for (int i = 0; i < s.m; i++) column[i] += Sum(a[i + (Int)p * s.lda]) * factor;
            }
        T *out = c + (Int)j * s.ldc;
        for (int i = 0; i < s.m; i++) out[i] = T(alpha * column[i] + (beta != 0 ? beta * Sum(out[i]) : 0));
    }
    return OK;
}

template <class T, class Sum> static int batched(const Shape &s, const void *alpha, const void *a, Int sa, const void *b,
                                                 Int sb, const void *beta, void *c, Int sc, int count) {
    for (int i = 0; i < count; i++)
        product<T, Sum>(s, *(const Sum *)alpha, (const T *)a + i * sa, (const T *)b + i * sb, *(const Sum *)beta,
                        (T *)c + i * sc);
    return OK;
}

static int any_type(const Shape &s, const void *alpha, const void *a, int ta, Int sa, const void *b, int tb, Int sb,
                    const void *beta, void *c, int tc, Int sc, int count) {
    if (!fits(s) || count < 0) return INVALID;
    if (ta != tb || ta != tc) return UNSUPPORTED;
    auto f = tc == FLOAT ? batched<float, float> : tc == DOUBLE ? batched<double, double> : tc == HALF ? batched<half, float> : nullptr;
    return f ? f(s, alpha, a, sa, b, sb, beta, c, sc, count) : UNSUPPORTED;
}

extern "C" {
int cublasCreate_v2(void **handle) { *handle = (void *)1; return OK; }
int cublasDestroy_v2(void *) { return OK; }
int cublasGetVersion_v2(void *, int *version) { *version = 120900; return OK; }
int cublasSetStream_v2(void *, void *) { return OK; }
int cublasSetPointerMode_v2(void *, int) { return OK; }
int cublasGetPointerMode_v2(void *, int *mode) { *mode = 0; return OK; }
int cublasSetMathMode(void *, int) { return OK; }
int cublasGetMathMode(void *, int *mode) { *mode = 0; return OK; }

int cublasGemmEx(void *, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int type_a, int lda,
                 const void *b, int type_b, int ldb, const void *beta, void *c, int type_c, int ldc, int, int) {
    return any_type({ta, tb, m, n, k, lda, ldb, ldc}, alpha, a, type_a, 0, b, type_b, 0, beta, c, type_c, 0, 1);
}
int cublasGemmStridedBatchedEx(void *, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int type_a,
                               int lda, Int sa, const void *b, int type_b, int ldb, Int sb, const void *beta, void *c,
                               int type_c, int ldc, Int sc, int count, int, int) {
    return any_type({ta, tb, m, n, k, lda, ldb, ldc}, alpha, a, type_a, sa, b, type_b, sb, beta, c, type_c, sc, count);
}
#define OF_TYPE(T, GEMM, TYPE)                                                                                         \
    int cublas##GEMM##_v2(void *, int ta, int tb, int m, int n, int k, const T *alpha, const T *a, int lda, const T *b, \
                          int ldb, const T *beta, T *c, int ldc) {                                                      \
        return any_type({ta, tb, m, n, k, lda, ldb, ldc}, alpha, a, TYPE, 0, b, TYPE, 0, beta, c, TYPE, 0, 1);          \
    }                                                                                                                   \
    int cublas##GEMM##Batched(void *, int ta, int tb, int m, int n, int k, const T *alpha, const T *const *a, int lda,  \
                              const T *const *b, int ldb, const T *beta, T *const *c, int ldc, int count) {             \
        int error = fits({ta, tb, m, n, k, lda, ldb, ldc}) ? OK : INVALID;                                              \
        for (int i = 0; i < count && !error; i++)                                                                       \
            product<T, T>({ta, tb, m, n, k, lda, ldb, ldc}, *alpha, a[i], b[i], *beta, c[i]);                           \
        return error;                                                                                                   \
    }
OF_TYPE(float, Sgemm, FLOAT)
OF_TYPE(double, Dgemm, DOUBLE)
}
