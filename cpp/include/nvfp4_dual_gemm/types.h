// Constants and plain structs that C++ and Rust share: limits, enumerations, what a plan is made of.
// Plain C, so that bindgen reads it; the C++ API is in dual_gemm.hpp.
//
// Structs that the library reads begin with `size`, sizeof as the caller was compiled: one of another size is refused,
// so that a caller of another version is not misread. A value that an enumeration does not have is refused by name.
#ifndef NVFP4_DUAL_GEMM_TYPES_H
#define NVFP4_DUAL_GEMM_TYPES_H

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

typedef enum nvfp4_data_type {
  NVFP4_DATA_TYPE_F16 = 0,
  NVFP4_DATA_TYPE_BF16 = 1,
  NVFP4_DATA_TYPE_F32 = 2,
  NVFP4_DATA_TYPE_NVFP4 = 3,       // codes, with scale factors in the 128x4 layout
} nvfp4_data_type;

// What a plan computes of the products x1 = alpha1 * A * B1^T + bias1 and x2 = alpha2 * A * B2^T + bias2.
typedef enum nvfp4_operation {
  NVFP4_OPERATION_DUAL_GEMM = 0,   // C = glu(x1, x2)
  NVFP4_OPERATION_GEMM = 1,        // C = [x1, x2] + R: the columns of x1, then those of x2. B1 has the first rows of one
                                   // weight, B2 the others
} nvfp4_operation;

// What values of C are rounded to before they are quantized to NVFP4.
typedef enum nvfp4_round_first {
  NVFP4_ROUND_FIRST_NONE = 0,
  NVFP4_ROUND_FIRST_F16 = 1,
  NVFP4_ROUND_FIRST_BF16 = 2,
} nvfp4_round_first;

// The gated linear unit, which joins x1 and x2.
typedef enum nvfp4_glu_kind {
  NVFP4_GLU_SWIGLU = 0,          // silu(x1) * x2
  NVFP4_GLU_CLAMPED_SWIGLU = 1,  // g = min(x1, limit), u = clamp(x2, -limit, limit):
                                 // (u + offset) * g * sigmoid(slope * g)
  NVFP4_GLU_GEGLU_TANH = 2,      // gelu_tanh(x1) * x2
} nvfp4_glu_kind;

typedef enum nvfp4_weight_format {
  NVFP4_WEIGHTS_SEPARATE = 0,      // B1 and B2 as they are, each with its own 128x4 scale factors
  NVFP4_WEIGHTS_INTERLEAVED = 1,   // repacked once by interleave_weights()
} nvfp4_weight_format;

typedef enum nvfp4_mainloop {
  NVFP4_MAINLOOP_STACKED = 0,          // B1 over B2 in one shared memory tile, one MMA of N = 2 * tile_n
  NVFP4_MAINLOOP_TWO_ACCUMULATORS = 1, // two MMAs that share A in the collector
  NVFP4_MAINLOOP_INTERLEAVED = 2,      // one MMA of N = 2 * tile_n over interleaved weights
  NVFP4_MAINLOOP_WIDENED = 3,          // wgmma in fp16 or bf16: weights widened in registers, A as it is or widened
} nvfp4_mainloop;

typedef enum nvfp4_scheduler {
  NVFP4_SCHEDULER_STATIC = 0,      // persistent, tiles strided over the grid
  NVFP4_SCHEDULER_CLC = 1,         // persistent, next tile by cluster launch control
  NVFP4_SCHEDULER_GRID = 2,        // one tile for each cluster of the grid
} nvfp4_scheduler;

// What went wrong, coarsely; the words are in the exception's message.
typedef enum nvfp4_status {
  NVFP4_STATUS_INVALID_ARGUMENT = 1, // a size, an option or an address breaks a rule of the kernel
  NVFP4_STATUS_ARCHITECTURE = 2,     // the device is not one that the kernel is built for
  NVFP4_STATUS_NO_DEVICE = 3,        // no driver, or no device
  NVFP4_STATUS_CUDA = 4,             // a CUDA call failed
  NVFP4_STATUS_CUTLASS = 5,          // CUTLASS refused the arguments
} nvfp4_status;

// Sizes. C is batch x m x n, A batch x m x k; of a dual GEMM B1 and B2 are batch x n x k, of a GEMM batch x ceil(n / 2)
// x k, where the last row of B2 is padding if n is odd: it is read, and its products are not stored. All are row-major.
// m may be 0: no rows.
typedef struct nvfp4_shape {
  int32_t m, n, k, batch;
} nvfp4_shape;

typedef struct nvfp4_glu {
  nvfp4_glu_kind kind;
  float limit, slope, offset;        // of the clamped SwiGLU: limit > 0, and all at most 1e18 large
} nvfp4_glu;

// Where C goes. In NVFP4 n is a multiple of 32, rows of codes are n / 2 bytes, and a block of 16 columns becomes
// scale = ue4m3(amax / 6 / global_scale) and codes e2m1(c / (scale * global_scale)), each operation rounded as in IEEE
// 754, those of the GLU too. What pads the scale factors to whole atoms is 0; what is NaN or infinite saturates.
typedef struct nvfp4_destination {
  uint32_t size;                     // sizeof(nvfp4_destination)
  nvfp4_data_type type;
  void *data;
  void *scales;                      // of NVFP4: the scale factors; else null
  float global_scale;                // of NVFP4: a normal number > 0; else 0
  nvfp4_round_first round_first;     // of NVFP4; else NVFP4_ROUND_FIRST_NONE
  int64_t row_stride;                // elements from row to row, at least n; 0: n. Of NVFP4 0
} nvfp4_destination;

// What a plan is for. The number of rows is that of each launch.
typedef struct nvfp4_spec {
  uint32_t size;                     // sizeof(nvfp4_spec)
  nvfp4_operation operation;
  nvfp4_data_type activations;       // of A: NVFP4, F16 or BF16
  int32_t n, k, batch;
  nvfp4_glu glu;                     // of a dual GEMM; of a GEMM it is not looked at
  nvfp4_weight_format weights;
  char const *kernel;                // its name; null: chosen for the rows of each launch
  int32_t programmatic_launch;       // 1: begin under the tail of the kernel before it (griddepcontrol)
  int32_t constant_weights;          // 1: no kernel of the stream writes the weights while the plan lives, so that
                                     // they may be read before the kernel ahead has ended. 0 is always right
  int32_t sm_count;                  // SMs that a launch may occupy; 0: all. Less than the device has only with a
                                     // kernel of the static scheduler: others run wherever there is room
} nvfp4_spec;

// Device addresses. Codes hold two e2m1 a byte, low nibble first; scales are UE4M3, bit 7 being 0, in the 128x4 layout,
// each batch padded to ceil(rows / 128) x ceil(k / 64) atoms. What pads K in them is multiplied by 0: it must not be NaN
// (0x7f, 0xff) for kernels of compute capability 10.x, which read it as it is. Interleaved weights: b1_* hold both
// matrices, b2_* are null.
typedef struct nvfp4_weights {
  uint32_t size;                     // sizeof(nvfp4_weights)
  void const *b1_codes, *b1_scales;
  void const *b2_codes, *b2_scales;
  float const *bias1, *bias2;        // batch x n of a dual GEMM; of a GEMM batch x ceil(n / 2) and batch x floor(n / 2).
                                     // Both or none are null
} nvfp4_weights;

// What one launch reads and writes: device addresses, of an empty A and C anything. A in NVFP4 is as the weights are; in
// F16 or BF16 `a_codes` are its values, and `a_scales` is null.
typedef struct nvfp4_io {
  uint32_t size;                     // sizeof(nvfp4_io)
  int32_t rows;                      // M; 0: nothing is launched
  void const *a_codes, *a_scales;
  int64_t a_row_stride;              // of values: elements from row to row, a multiple of 8 and at least k; 0: k
  nvfp4_destination c;
  void const *residual;              // R, of a GEMM that does not write NVFP4: of the type of C; or null. It may be C
  int64_t residual_row_stride;       // elements from row to row, at least n; 0: n
  float alpha1, alpha2;              // products of the global scales of A and B1, and of A and B2
  float const *factor1, *factor2;    // device scalars that multiply alpha1 and alpha2; may be null
  void *workspace;                   // null where none is needed
  size_t workspace_bytes;            // what is there: at least those that the plan asks for
} nvfp4_io;

// A kernel as compiled. Its name is its identity.
typedef struct nvfp4_kernel_info {
  char const *name;
  nvfp4_mainloop mainloop;
  nvfp4_scheduler scheduler;
  nvfp4_weight_format weights;
  nvfp4_data_type activations;
  int32_t compute_capability;        // 90 for 9.0, 100 for 10.0
  int32_t family;                    // 1: runs on later minor versions of the same major one as well (code for sm_100f);
                                     // 0: on no other (code for sm_90a, sm_100a)
  int32_t sms;                       // SMs per MMA
  int32_t tile_m, tile_n, tile_k;
  int32_t cluster_m, cluster_n;      // 0: chosen for each launch
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
