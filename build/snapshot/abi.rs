pub const NVFP4_SCALE_BLOCK: u32 = 16;
pub const NVFP4_SCALE_ATOM_ROWS: u32 = 128;
pub const NVFP4_SCALE_ATOM_BLOCKS: u32 = 4;
pub const NVFP4_SCALE_ATOM_BYTES: u32 = 512;
pub const NVFP4_K_MULTIPLE: u32 = 32;
pub const NVFP4_POINTER_ALIGNMENT: u32 = 16;
pub const NVFP4_WORKSPACE_ALIGNMENT: u32 = 128;
pub const NVFP4_TILE_K: u32 = 256;
pub const NVFP4_TMEM_COLUMNS: u32 = 512;
pub const NVFP4_SM100_SMEM_BYTES: u32 = 232448;
pub const NVFP4_SM90_SMEM_BYTES: u32 = 232448;
pub const NVFP4_MAX_BATCH: u32 = 65535;
pub const NVFP4_INTERLEAVE: u32 = 96;
pub const NVFP4_INTERLEAVED_SCALE_ROWS: u32 = 256;
pub const NVFP4_OUTPUT_F16: nvfp4_output = 0;
pub const NVFP4_OUTPUT_BF16: nvfp4_output = 1;
pub const NVFP4_OUTPUT_F32: nvfp4_output = 2;
pub type nvfp4_output = ::std::os::raw::c_uint;
pub const NVFP4_GATE_SILU: nvfp4_gate_kind = 0;
pub const NVFP4_GATE_CLAMPED_SWIGLU: nvfp4_gate_kind = 1;
pub const NVFP4_GATE_GELU_TANH: nvfp4_gate_kind = 2;
pub type nvfp4_gate_kind = ::std::os::raw::c_uint;
pub const NVFP4_WEIGHTS_SEPARATE: nvfp4_weight_format = 0;
pub const NVFP4_WEIGHTS_INTERLEAVED: nvfp4_weight_format = 1;
pub type nvfp4_weight_format = ::std::os::raw::c_uint;
pub const NVFP4_MAINLOOP_STACKED: nvfp4_mainloop = 0;
pub const NVFP4_MAINLOOP_TWO_ACCUMULATORS: nvfp4_mainloop = 1;
pub const NVFP4_MAINLOOP_INTERLEAVED: nvfp4_mainloop = 2;
pub const NVFP4_MAINLOOP_WIDENED: nvfp4_mainloop = 3;
pub type nvfp4_mainloop = ::std::os::raw::c_uint;
pub const NVFP4_SCHEDULER_STATIC: nvfp4_scheduler = 0;
pub const NVFP4_SCHEDULER_CLC: nvfp4_scheduler = 1;
pub const NVFP4_SCHEDULER_GRID: nvfp4_scheduler = 2;
pub type nvfp4_scheduler = ::std::os::raw::c_uint;
pub const NVFP4_KERNEL_AUTO: nvfp4_kernel = -1;
pub const NVFP4_KERNEL_sm100_stacked_2sm_256x128_c2x1_static: nvfp4_kernel = 0;
pub const NVFP4_KERNEL_sm100_stacked_2sm_256x128_c4x1_static: nvfp4_kernel = 1;
pub const NVFP4_KERNEL_sm100_stacked_2sm_256x128_c2x1_clc: nvfp4_kernel = 2;
pub const NVFP4_KERNEL_sm100_stacked_1sm_128x128_c1x1_static: nvfp4_kernel = 3;
pub const NVFP4_KERNEL_sm100_twoacc_2sm_256x64_c2x2_static: nvfp4_kernel = 4;
pub const NVFP4_KERNEL_sm100_twoacc_2sm_256x64_c2x1_static: nvfp4_kernel = 5;
pub const NVFP4_KERNEL_sm100_twoacc_1sm_128x64_c1x1_static: nvfp4_kernel = 6;
pub const NVFP4_KERNEL_sm100_interleaved_2sm_256x96_c2x2_static: nvfp4_kernel = 7;
pub const NVFP4_KERNEL_sm90_widened_256x64_k64_s1: nvfp4_kernel = 8;
pub const NVFP4_KERNEL_sm90_widened_128x96_k64_s1: nvfp4_kernel = 9;
pub const NVFP4_KERNEL_sm90_widened_128x64_k64_s1: nvfp4_kernel = 10;
pub const NVFP4_KERNEL_sm90_widened_64x64_k128_s2: nvfp4_kernel = 11;
pub const NVFP4_KERNEL_sm90_widened_32x64_k128_s2: nvfp4_kernel = 12;
pub const NVFP4_KERNEL_sm90_widened_16x64_k128_s2: nvfp4_kernel = 13;
pub const NVFP4_KERNEL_sm90_widened_8x64_k128_s2: nvfp4_kernel = 14;
pub const NVFP4_KERNEL_COUNT: nvfp4_kernel = 15;
pub type nvfp4_kernel = ::std::os::raw::c_int;
pub const NVFP4_STATUS_INVALID_ARGUMENT: nvfp4_status = 1;
pub const NVFP4_STATUS_ARCHITECTURE: nvfp4_status = 2;
pub const NVFP4_STATUS_NO_DEVICE: nvfp4_status = 3;
pub const NVFP4_STATUS_CUDA: nvfp4_status = 4;
pub const NVFP4_STATUS_CUTLASS: nvfp4_status = 5;
pub type nvfp4_status = ::std::os::raw::c_uint;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct nvfp4_problem {
    pub m: i32,
    pub n: i32,
    pub k: i32,
    pub batch: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of nvfp4_problem"][::std::mem::size_of::<nvfp4_problem>() - 16usize];
    ["Alignment of nvfp4_problem"][::std::mem::align_of::<nvfp4_problem>() - 4usize];
    [
        "Offset of field: nvfp4_problem::m",
    ][::std::mem::offset_of!(nvfp4_problem, m) - 0usize];
    [
        "Offset of field: nvfp4_problem::n",
    ][::std::mem::offset_of!(nvfp4_problem, n) - 4usize];
    [
        "Offset of field: nvfp4_problem::k",
    ][::std::mem::offset_of!(nvfp4_problem, k) - 8usize];
    [
        "Offset of field: nvfp4_problem::batch",
    ][::std::mem::offset_of!(nvfp4_problem, batch) - 12usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct nvfp4_gate {
    pub kind: nvfp4_gate_kind,
    pub limit: f32,
    pub alpha: f32,
    pub beta: f32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of nvfp4_gate"][::std::mem::size_of::<nvfp4_gate>() - 16usize];
    ["Alignment of nvfp4_gate"][::std::mem::align_of::<nvfp4_gate>() - 4usize];
    [
        "Offset of field: nvfp4_gate::kind",
    ][::std::mem::offset_of!(nvfp4_gate, kind) - 0usize];
    [
        "Offset of field: nvfp4_gate::limit",
    ][::std::mem::offset_of!(nvfp4_gate, limit) - 4usize];
    [
        "Offset of field: nvfp4_gate::alpha",
    ][::std::mem::offset_of!(nvfp4_gate, alpha) - 8usize];
    [
        "Offset of field: nvfp4_gate::beta",
    ][::std::mem::offset_of!(nvfp4_gate, beta) - 12usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct nvfp4_operands {
    pub a_codes: *const ::std::os::raw::c_void,
    pub a_scales: *const ::std::os::raw::c_void,
    pub b1_codes: *const ::std::os::raw::c_void,
    pub b1_scales: *const ::std::os::raw::c_void,
    pub b2_codes: *const ::std::os::raw::c_void,
    pub b2_scales: *const ::std::os::raw::c_void,
    pub c: *mut ::std::os::raw::c_void,
    pub alpha1: f32,
    pub alpha2: f32,
    pub alpha1_ptr: *const f32,
    pub alpha2_ptr: *const f32,
    pub workspace: *mut ::std::os::raw::c_void,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of nvfp4_operands"][::std::mem::size_of::<nvfp4_operands>() - 88usize];
    ["Alignment of nvfp4_operands"][::std::mem::align_of::<nvfp4_operands>() - 8usize];
    [
        "Offset of field: nvfp4_operands::a_codes",
    ][::std::mem::offset_of!(nvfp4_operands, a_codes) - 0usize];
    [
        "Offset of field: nvfp4_operands::a_scales",
    ][::std::mem::offset_of!(nvfp4_operands, a_scales) - 8usize];
    [
        "Offset of field: nvfp4_operands::b1_codes",
    ][::std::mem::offset_of!(nvfp4_operands, b1_codes) - 16usize];
    [
        "Offset of field: nvfp4_operands::b1_scales",
    ][::std::mem::offset_of!(nvfp4_operands, b1_scales) - 24usize];
    [
        "Offset of field: nvfp4_operands::b2_codes",
    ][::std::mem::offset_of!(nvfp4_operands, b2_codes) - 32usize];
    [
        "Offset of field: nvfp4_operands::b2_scales",
    ][::std::mem::offset_of!(nvfp4_operands, b2_scales) - 40usize];
    [
        "Offset of field: nvfp4_operands::c",
    ][::std::mem::offset_of!(nvfp4_operands, c) - 48usize];
    [
        "Offset of field: nvfp4_operands::alpha1",
    ][::std::mem::offset_of!(nvfp4_operands, alpha1) - 56usize];
    [
        "Offset of field: nvfp4_operands::alpha2",
    ][::std::mem::offset_of!(nvfp4_operands, alpha2) - 60usize];
    [
        "Offset of field: nvfp4_operands::alpha1_ptr",
    ][::std::mem::offset_of!(nvfp4_operands, alpha1_ptr) - 64usize];
    [
        "Offset of field: nvfp4_operands::alpha2_ptr",
    ][::std::mem::offset_of!(nvfp4_operands, alpha2_ptr) - 72usize];
    [
        "Offset of field: nvfp4_operands::workspace",
    ][::std::mem::offset_of!(nvfp4_operands, workspace) - 80usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct nvfp4_config {
    pub problem: nvfp4_problem,
    pub gate: nvfp4_gate,
    pub output: nvfp4_output,
    pub weights: nvfp4_weight_format,
    pub kernel: i32,
    pub programmatic_launch: i32,
    pub sm_count: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of nvfp4_config"][::std::mem::size_of::<nvfp4_config>() - 52usize];
    ["Alignment of nvfp4_config"][::std::mem::align_of::<nvfp4_config>() - 4usize];
    [
        "Offset of field: nvfp4_config::problem",
    ][::std::mem::offset_of!(nvfp4_config, problem) - 0usize];
    [
        "Offset of field: nvfp4_config::gate",
    ][::std::mem::offset_of!(nvfp4_config, gate) - 16usize];
    [
        "Offset of field: nvfp4_config::output",
    ][::std::mem::offset_of!(nvfp4_config, output) - 32usize];
    [
        "Offset of field: nvfp4_config::weights",
    ][::std::mem::offset_of!(nvfp4_config, weights) - 36usize];
    [
        "Offset of field: nvfp4_config::kernel",
    ][::std::mem::offset_of!(nvfp4_config, kernel) - 40usize];
    [
        "Offset of field: nvfp4_config::programmatic_launch",
    ][::std::mem::offset_of!(nvfp4_config, programmatic_launch) - 44usize];
    [
        "Offset of field: nvfp4_config::sm_count",
    ][::std::mem::offset_of!(nvfp4_config, sm_count) - 48usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct nvfp4_kernel_info {
    pub name: *const ::std::os::raw::c_char,
    pub mainloop: nvfp4_mainloop,
    pub scheduler: nvfp4_scheduler,
    pub weights: nvfp4_weight_format,
    pub compute_capability: i32,
    pub sms: i32,
    pub tile_m: i32,
    pub tile_n: i32,
    pub tile_k: i32,
    pub cluster_m: i32,
    pub cluster_n: i32,
    pub threads: i32,
    pub stages: i32,
    pub accumulator_stages: i32,
    pub smem_bytes: i32,
    pub tmem_columns: i32,
    pub params_bytes: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of nvfp4_kernel_info"][::std::mem::size_of::<nvfp4_kernel_info>() - 72usize];
    [
        "Alignment of nvfp4_kernel_info",
    ][::std::mem::align_of::<nvfp4_kernel_info>() - 8usize];
    [
        "Offset of field: nvfp4_kernel_info::name",
    ][::std::mem::offset_of!(nvfp4_kernel_info, name) - 0usize];
    [
        "Offset of field: nvfp4_kernel_info::mainloop",
    ][::std::mem::offset_of!(nvfp4_kernel_info, mainloop) - 8usize];
    [
        "Offset of field: nvfp4_kernel_info::scheduler",
    ][::std::mem::offset_of!(nvfp4_kernel_info, scheduler) - 12usize];
    [
        "Offset of field: nvfp4_kernel_info::weights",
    ][::std::mem::offset_of!(nvfp4_kernel_info, weights) - 16usize];
    [
        "Offset of field: nvfp4_kernel_info::compute_capability",
    ][::std::mem::offset_of!(nvfp4_kernel_info, compute_capability) - 20usize];
    [
        "Offset of field: nvfp4_kernel_info::sms",
    ][::std::mem::offset_of!(nvfp4_kernel_info, sms) - 24usize];
    [
        "Offset of field: nvfp4_kernel_info::tile_m",
    ][::std::mem::offset_of!(nvfp4_kernel_info, tile_m) - 28usize];
    [
        "Offset of field: nvfp4_kernel_info::tile_n",
    ][::std::mem::offset_of!(nvfp4_kernel_info, tile_n) - 32usize];
    [
        "Offset of field: nvfp4_kernel_info::tile_k",
    ][::std::mem::offset_of!(nvfp4_kernel_info, tile_k) - 36usize];
    [
        "Offset of field: nvfp4_kernel_info::cluster_m",
    ][::std::mem::offset_of!(nvfp4_kernel_info, cluster_m) - 40usize];
    [
        "Offset of field: nvfp4_kernel_info::cluster_n",
    ][::std::mem::offset_of!(nvfp4_kernel_info, cluster_n) - 44usize];
    [
        "Offset of field: nvfp4_kernel_info::threads",
    ][::std::mem::offset_of!(nvfp4_kernel_info, threads) - 48usize];
    [
        "Offset of field: nvfp4_kernel_info::stages",
    ][::std::mem::offset_of!(nvfp4_kernel_info, stages) - 52usize];
    [
        "Offset of field: nvfp4_kernel_info::accumulator_stages",
    ][::std::mem::offset_of!(nvfp4_kernel_info, accumulator_stages) - 56usize];
    [
        "Offset of field: nvfp4_kernel_info::smem_bytes",
    ][::std::mem::offset_of!(nvfp4_kernel_info, smem_bytes) - 60usize];
    [
        "Offset of field: nvfp4_kernel_info::tmem_columns",
    ][::std::mem::offset_of!(nvfp4_kernel_info, tmem_columns) - 64usize];
    [
        "Offset of field: nvfp4_kernel_info::params_bytes",
    ][::std::mem::offset_of!(nvfp4_kernel_info, params_bytes) - 68usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct nvfp4_launch_shape {
    pub grid: [u32; 3usize],
    pub block: [u32; 3usize],
    pub cluster: [u32; 3usize],
    pub smem_bytes: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of nvfp4_launch_shape",
    ][::std::mem::size_of::<nvfp4_launch_shape>() - 40usize];
    [
        "Alignment of nvfp4_launch_shape",
    ][::std::mem::align_of::<nvfp4_launch_shape>() - 4usize];
    [
        "Offset of field: nvfp4_launch_shape::grid",
    ][::std::mem::offset_of!(nvfp4_launch_shape, grid) - 0usize];
    [
        "Offset of field: nvfp4_launch_shape::block",
    ][::std::mem::offset_of!(nvfp4_launch_shape, block) - 12usize];
    [
        "Offset of field: nvfp4_launch_shape::cluster",
    ][::std::mem::offset_of!(nvfp4_launch_shape, cluster) - 24usize];
    [
        "Offset of field: nvfp4_launch_shape::smem_bytes",
    ][::std::mem::offset_of!(nvfp4_launch_shape, smem_bytes) - 36usize];
};
