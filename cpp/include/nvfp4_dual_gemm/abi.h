// Constants and plain structs that C++ and Rust share: limits, enumerations, the table of kernels.
// Plain C, so that bindgen reads it; the C++ API is in dual_gemm.hpp.
#ifndef NVFP4_DUAL_GEMM_ABI_H
#define NVFP4_DUAL_GEMM_ABI_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Elements along K that share one scale factor (PTX ISA, tcgen05 block scaling, .block16).
#define NVFP4_SCALE_BLOCK 16
// The 128x4 scale factor atom: 128 rows by 4 blocks, 512 bytes (PTX ISA, tcgen05 scale factor layout).
#define NVFP4_SCALE_ATOM_ROWS 128
#define NVFP4_SCALE_ATOM_BLOCKS 4
#define NVFP4_SCALE_ATOM_BYTES 512
// TMA wants rows that begin at multiples of 16 bytes: 32 codes.
#define NVFP4_K_MULTIPLE 32
// TMA's rule for the address of every operand, in bytes.
#define NVFP4_POINTER_ALIGNMENT 16
// Of a workspace: whole cache lines.
#define NVFP4_WORKSPACE_ALIGNMENT 128
// K extent of a tile: one 128-byte swizzled row of codes.
#define NVFP4_TILE_K 256
// Columns of tensor memory of one SM.
#define NVFP4_TMEM_COLUMNS 512
// Shared memory that one CTA of an SM100 device may use, in bytes.
#define NVFP4_SM100_SMEM_BYTES 232448
// The same of an SM90 device.
#define NVFP4_SM90_SMEM_BYTES 232448
// Batches are a grid dimension.
#define NVFP4_MAX_BATCH 65535
// Columns of each matrix in one tile of interleaved weights: 96 gate rows, then 96 up rows.
#define NVFP4_INTERLEAVE 96
// Scale factor rows that one interleaved tile owns: 192, padded to whole atoms.
#define NVFP4_INTERLEAVED_SCALE_ROWS 256

typedef enum nvfp4_output {
  NVFP4_OUTPUT_F16 = 0,
  NVFP4_OUTPUT_BF16 = 1,
  NVFP4_OUTPUT_F32 = 2,
} nvfp4_output;

typedef enum nvfp4_gate_kind {
  NVFP4_GATE_SILU = 0,             // silu(x1) * x2
  NVFP4_GATE_CLAMPED_SWIGLU = 1,   // g = min(x1, limit), u = clamp(x2, -limit, limit): (u + beta) * g * sigmoid(alpha * g)
  NVFP4_GATE_GELU_TANH = 2,        // gelu_tanh(x1) * x2
} nvfp4_gate_kind;

typedef enum nvfp4_weight_format {
  NVFP4_WEIGHTS_SEPARATE = 0,      // B1 and B2 as they are, each with its own 128x4 scale factors
  NVFP4_WEIGHTS_INTERLEAVED = 1,   // repacked once by interleave_weights()
} nvfp4_weight_format;

typedef enum nvfp4_mainloop {
  NVFP4_MAINLOOP_STACKED = 0,          // B1 over B2 in one shared memory tile, one MMA of N = 2 * tile_n
  NVFP4_MAINLOOP_TWO_ACCUMULATORS = 1, // two MMAs that share A in the collector
  NVFP4_MAINLOOP_INTERLEAVED = 2,      // one MMA of N = 2 * tile_n over interleaved weights
  NVFP4_MAINLOOP_WIDENED = 3,          // wgmma in fp16: weights widened in registers, A ahead or in shared memory
} nvfp4_mainloop;

typedef enum nvfp4_scheduler {
  NVFP4_SCHEDULER_STATIC = 0,      // persistent, tiles strided over the grid
  NVFP4_SCHEDULER_CLC = 1,         // persistent, next tile by cluster launch control
  NVFP4_SCHEDULER_GRID = 2,        // one tile for each cluster of the grid
} nvfp4_scheduler;

// The kernels: X(symbol, mainloop, SMs per MMA, tile M, tile N, cluster M, cluster N, scheduler).
// Tile M is per MMA (256 for a pair of SMs); tile N counts columns of C, that is rows of each of B1 and B2.
// The symbol is <arch>_<mainloop>_<SMs>sm_<tile M>x<tile N>_c<cluster M>x<cluster N>_<scheduler>.
#define NVFP4_SM100_KERNELS(X)                                                     \
  X(sm100_stacked_2sm_256x128_c2x1_static, STACKED, 2, 256, 128, 2, 1, STATIC)     \
  X(sm100_stacked_2sm_256x128_c4x1_static, STACKED, 2, 256, 128, 4, 1, STATIC)     \
  X(sm100_stacked_2sm_256x128_c2x1_clc, STACKED, 2, 256, 128, 2, 1, CLC)           \
  X(sm100_stacked_1sm_128x128_c1x1_static, STACKED, 1, 128, 128, 1, 1, STATIC)     \
  X(sm100_twoacc_2sm_256x64_c2x2_static, TWO_ACCUMULATORS, 2, 256, 64, 2, 2, STATIC) \
  X(sm100_twoacc_2sm_256x64_c2x1_static, TWO_ACCUMULATORS, 2, 256, 64, 2, 1, STATIC) \
  X(sm100_twoacc_1sm_128x64_c1x1_static, TWO_ACCUMULATORS, 1, 128, 64, 1, 1, STATIC) \
  X(sm100_interleaved_2sm_256x96_c2x2_static, INTERLEAVED, 2, 256, 96, 2, 2, STATIC)

// Those of Hopper: X(symbol, tile M, tile N, tile K, slices). Slices: warpgroups that share the K of the same columns.
// The symbol is sm90_<mainloop>_<tile M>x<tile N>_k<tile K>_s<slices>. The cluster is chosen for each plan.
#define NVFP4_SM90_KERNELS(X)                        \
  X(sm90_widened_256x64_k64_s1, 256, 64, 64, 1)      \
  X(sm90_widened_128x96_k64_s1, 128, 96, 64, 1)      \
  X(sm90_widened_128x64_k64_s1, 128, 64, 64, 1)      \
  X(sm90_widened_64x64_k128_s2, 64, 64, 128, 2)      \
  X(sm90_widened_32x64_k128_s2, 32, 64, 128, 2)      \
  X(sm90_widened_16x64_k128_s2, 16, 64, 128, 2)      \
  X(sm90_widened_8x64_k128_s2, 8, 64, 128, 2)

// Index of a kernel in both tables; bindgen turns it into Rust constants.
typedef enum nvfp4_kernel {
  NVFP4_KERNEL_AUTO = -1,
#define NVFP4_KERNEL_ENUMERATOR(symbol, ...) NVFP4_KERNEL_##symbol,
  NVFP4_SM100_KERNELS(NVFP4_KERNEL_ENUMERATOR)
  NVFP4_SM90_KERNELS(NVFP4_KERNEL_ENUMERATOR)
#undef NVFP4_KERNEL_ENUMERATOR
  NVFP4_KERNEL_COUNT,
} nvfp4_kernel;

// What went wrong, coarsely; the words are in the exception's message.
typedef enum nvfp4_status {
  NVFP4_STATUS_INVALID_ARGUMENT = 1, // the problem or a pointer breaks a rule of the kernel
  NVFP4_STATUS_ARCHITECTURE = 2,     // the device is not one that the kernel is built for
  NVFP4_STATUS_NO_DEVICE = 3,        // no driver, or no device
  NVFP4_STATUS_CUDA = 4,             // a CUDA call failed
  NVFP4_STATUS_CUTLASS = 5,          // CUTLASS refused the arguments
} nvfp4_status;

// C is batch x m x n, A batch x m x k, B1 and B2 batch x n x k; all row-major and contiguous. m may be 0: no rows.
typedef struct nvfp4_problem {
  int32_t m, n, k, batch;
} nvfp4_problem;

typedef struct nvfp4_gate {
  nvfp4_gate_kind kind;
  float limit, alpha, beta;          // of the clamped SwiGLU: limit > 0, and all at most 1e18 large
} nvfp4_gate;

// Device addresses, of an empty A and C anything. Codes hold two e2m1 a byte, low nibble first; scales are UE4M3, bit 7
// being 0, in the 128x4 layout, each batch padded to ceil(rows / 128) x ceil(k / 64) atoms. What pads K in them is
// multiplied by 0: it must not be NaN (0x7f, 0xff) for kernels of compute capability 10.0, which read it as it is.
// Interleaved weights: b1_* hold both matrices, b2_* are null.
typedef struct nvfp4_operands {
  void const *a_codes, *a_scales;
  void const *b1_codes, *b1_scales;
  void const *b2_codes, *b2_scales;
  void *c;
  float alpha1, alpha2;
  float const *alpha1_ptr, *alpha2_ptr; // device scalars that multiply alpha1 and alpha2; may be null
  void *workspace;                   // of the kernel, workspace_size() bytes; null where that is 0
} nvfp4_operands;

typedef struct nvfp4_config {
  nvfp4_problem problem;
  nvfp4_gate gate;
  nvfp4_output output;
  nvfp4_weight_format weights;
  int32_t kernel;                    // nvfp4_kernel, or NVFP4_KERNEL_AUTO
  int32_t programmatic_launch;       // 1: begin under the tail of the kernel before it (griddepcontrol)
  int32_t sm_count;                  // SMs that the launch may occupy; 0: all. Less than the device has only with a
                                     // kernel of the static scheduler: others run wherever there is room
} nvfp4_config;

// One row of the table of kernels, as compiled.
typedef struct nvfp4_kernel_info {
  char const *name;
  nvfp4_mainloop mainloop;
  nvfp4_scheduler scheduler;
  nvfp4_weight_format weights;
  int32_t compute_capability;        // 90 or 100
  int32_t sms;                       // SMs per MMA
  int32_t tile_m, tile_n, tile_k;
  int32_t cluster_m, cluster_n;      // 0: chosen for each plan
  int32_t threads;
  int32_t stages;                    // of the operand pipeline
  int32_t accumulator_stages;
  int32_t smem_bytes;                // dynamic shared memory of a CTA
  int32_t tmem_columns;              // used, of NVFP4_TMEM_COLUMNS
  int32_t params_bytes;              // of the kernel's parameter
} nvfp4_kernel_info;

typedef struct nvfp4_launch_shape {
  uint32_t grid[3], block[3], cluster[3];
  uint32_t smem_bytes;
} nvfp4_launch_shape;

#ifdef __cplusplus
}
#endif

#endif
