// A program of operations that run on the device and, compiled by a C++ compiler, on the host. Each operation takes
// three numbers and gives one. The file that includes this has defined
//   OPERATIONS(X): X(name, expression of a, b and c) for each of them.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

typedef int8_t s8;
typedef uint8_t u8;
typedef int16_t s16;
typedef uint16_t u16;
typedef int32_t s32;
typedef uint32_t u32;
typedef int64_t s64;
typedef uint64_t u64;

#ifdef __CUDACC__
#define BOTH __host__ __device__ inline
#define CALLED __host__ __device__ __noinline__
#else
#define BOTH inline
#define CALLED __attribute__((noinline))
#endif

// The device's own instruction there, and what it has to give elsewhere.
#ifdef __CUDA_ARCH__
#define CHOOSE(device, host) (device)
#else
#define CHOOSE(device, host) (host)
#endif
