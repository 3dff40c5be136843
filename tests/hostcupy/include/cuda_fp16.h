// float16 for g++: a half is stored in 16 bits and computed with as a float. CuPy's own float16.cuh is built on this.
#pragma once
#include <cstdint>
#include <cstring>

struct __half_raw { unsigned short x; };

inline float half_to_float(unsigned short h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31, digits = h & 1023;
    uint32_t bits = sign | (exponent + 112) << 23 | digits << 13;
    if (exponent == 31) bits = sign | 0x7f800000 | digits << 13;  // infinity, NaN
    float f;
    if (exponent == 0) {  // 0, or below 2^-14: digits 2^-24
        f = digits * 5.9604644775390625e-8f;
        return sign ? -f : f;
    }
    memcpy(&f, &bits, 4);
    return f;
}

inline unsigned short float_to_half(float f) {  // rounded to the nearest, halfway to even
    uint32_t bits;
    memcpy(&bits, &f, 4);
    uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return sign | 0x7e00;                 // NaN
    if (magnitude >= 0x477ff000) return sign | 0x7c00;                // 65520 and more
    if (magnitude < 0x38800000) {                                     // below 2^-14
        float scaled;
        memcpy(&scaled, &magnitude, 4);
        scaled += 0.5f;  // a float of 0.5 to 1 has digits of 2^-24: the addition rounds
        memcpy(&magnitude, &scaled, 4);
        return sign | (magnitude - 0x3f000000);
    }
    return sign | (magnitude + 0xfff + (magnitude >> 13 & 1) - 0x38000000) >> 13;
}

struct half {
    unsigned short bits;
    half() {}
    half(float f) : bits(float_to_half(f)) {}
    half(__half_raw raw) : bits(raw.x) {}
    explicit half(double f) : half((float)f) {}
    explicit half(bool f) : half((float)f) {}
    explicit half(int f) : half((float)f) {}
    explicit half(unsigned f) : half((float)f) {}
    explicit half(long long f) : half((float)f) {}
    explicit half(unsigned long long f) : half((float)f) {}
    operator float() const { return half_to_float(bits); }
    operator __half_raw() const { return {bits}; }
};
typedef half __half;

inline bool __hisnan(half h) { return (h.bits & 0x7fff) > 0x7c00; }
inline int __hisinf(half h) { return (h.bits & 0x7fff) == 0x7c00; }
inline unsigned short __half_as_ushort(half h) { return h.bits; }
inline half __ushort_as_half(unsigned short bits) { return half(__half_raw{bits}); }
inline half __float2half_rn(float f) { return half(f); }
inline float __half2float(half h) { return h; }
