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
pub const NVFP4_DATA_TYPE_F16: nvfp4_data_type = 0;
pub const NVFP4_DATA_TYPE_BF16: nvfp4_data_type = 1;
pub const NVFP4_DATA_TYPE_F32: nvfp4_data_type = 2;
pub const NVFP4_DATA_TYPE_NVFP4: nvfp4_data_type = 3;
pub type nvfp4_data_type = ::std::os::raw::c_uint;
pub const NVFP4_OPERATION_DUAL_GEMM: nvfp4_operation = 0;
pub const NVFP4_OPERATION_GEMM: nvfp4_operation = 1;
pub type nvfp4_operation = ::std::os::raw::c_uint;
pub const NVFP4_ROUND_FIRST_NONE: nvfp4_round_first = 0;
pub const NVFP4_ROUND_FIRST_F16: nvfp4_round_first = 1;
pub const NVFP4_ROUND_FIRST_BF16: nvfp4_round_first = 2;
pub type nvfp4_round_first = ::std::os::raw::c_uint;
pub const NVFP4_GLU_SWIGLU: nvfp4_glu_kind = 0;
pub const NVFP4_GLU_CLAMPED_SWIGLU: nvfp4_glu_kind = 1;
pub const NVFP4_GLU_GEGLU_TANH: nvfp4_glu_kind = 2;
pub type nvfp4_glu_kind = ::std::os::raw::c_uint;
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
pub const NVFP4_STATUS_INVALID_ARGUMENT: nvfp4_status = 1;
pub const NVFP4_STATUS_ARCHITECTURE: nvfp4_status = 2;
pub const NVFP4_STATUS_NO_DEVICE: nvfp4_status = 3;
pub const NVFP4_STATUS_CUDA: nvfp4_status = 4;
pub const NVFP4_STATUS_CUTLASS: nvfp4_status = 5;
pub type nvfp4_status = ::std::os::raw::c_uint;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct nvfp4_shape {
    pub m: i32,
    pub n: i32,
    pub k: i32,
    pub batch: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of nvfp4_shape"][::std::mem::size_of::<nvfp4_shape>() - 16usize];
    ["Alignment of nvfp4_shape"][::std::mem::align_of::<nvfp4_shape>() - 4usize];
    ["Offset of field: nvfp4_shape::m"][::std::mem::offset_of!(nvfp4_shape, m) - 0usize];
    ["Offset of field: nvfp4_shape::n"][::std::mem::offset_of!(nvfp4_shape, n) - 4usize];
    ["Offset of field: nvfp4_shape::k"][::std::mem::offset_of!(nvfp4_shape, k) - 8usize];
    [
        "Offset of field: nvfp4_shape::batch",
    ][::std::mem::offset_of!(nvfp4_shape, batch) - 12usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct nvfp4_glu {
    pub kind: nvfp4_glu_kind,
    pub limit: f32,
    pub slope: f32,
    pub offset: f32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of nvfp4_glu"][::std::mem::size_of::<nvfp4_glu>() - 16usize];
    ["Alignment of nvfp4_glu"][::std::mem::align_of::<nvfp4_glu>() - 4usize];
    [
        "Offset of field: nvfp4_glu::kind",
    ][::std::mem::offset_of!(nvfp4_glu, kind) - 0usize];
    [
        "Offset of field: nvfp4_glu::limit",
    ][::std::mem::offset_of!(nvfp4_glu, limit) - 4usize];
    [
        "Offset of field: nvfp4_glu::slope",
    ][::std::mem::offset_of!(nvfp4_glu, slope) - 8usize];
    [
        "Offset of field: nvfp4_glu::offset",
    ][::std::mem::offset_of!(nvfp4_glu, offset) - 12usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct nvfp4_destination {
    pub size: u32,
    pub type_: nvfp4_data_type,
    pub data: *mut ::std::os::raw::c_void,
    pub scales: *mut ::std::os::raw::c_void,
    pub global_scale: f32,
    pub round_first: nvfp4_round_first,
    pub row_stride: i64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of nvfp4_destination"][::std::mem::size_of::<nvfp4_destination>() - 40usize];
    [
        "Alignment of nvfp4_destination",
    ][::std::mem::align_of::<nvfp4_destination>() - 8usize];
    [
        "Offset of field: nvfp4_destination::size",
    ][::std::mem::offset_of!(nvfp4_destination, size) - 0usize];
    [
        "Offset of field: nvfp4_destination::type_",
    ][::std::mem::offset_of!(nvfp4_destination, type_) - 4usize];
    [
        "Offset of field: nvfp4_destination::data",
    ][::std::mem::offset_of!(nvfp4_destination, data) - 8usize];
    [
        "Offset of field: nvfp4_destination::scales",
    ][::std::mem::offset_of!(nvfp4_destination, scales) - 16usize];
    [
        "Offset of field: nvfp4_destination::global_scale",
    ][::std::mem::offset_of!(nvfp4_destination, global_scale) - 24usize];
    [
        "Offset of field: nvfp4_destination::round_first",
    ][::std::mem::offset_of!(nvfp4_destination, round_first) - 28usize];
    [
        "Offset of field: nvfp4_destination::row_stride",
    ][::std::mem::offset_of!(nvfp4_destination, row_stride) - 32usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct nvfp4_spec {
    pub size: u32,
    pub operation: nvfp4_operation,
    pub activations: nvfp4_data_type,
    pub n: i32,
    pub k: i32,
    pub batch: i32,
    pub glu: nvfp4_glu,
    pub weights: nvfp4_weight_format,
    pub kernel: *const ::std::os::raw::c_char,
    pub programmatic_launch: i32,
    pub constant_weights: i32,
    pub sm_count: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of nvfp4_spec"][::std::mem::size_of::<nvfp4_spec>() - 72usize];
    ["Alignment of nvfp4_spec"][::std::mem::align_of::<nvfp4_spec>() - 8usize];
    [
        "Offset of field: nvfp4_spec::size",
    ][::std::mem::offset_of!(nvfp4_spec, size) - 0usize];
    [
        "Offset of field: nvfp4_spec::operation",
    ][::std::mem::offset_of!(nvfp4_spec, operation) - 4usize];
    [
        "Offset of field: nvfp4_spec::activations",
    ][::std::mem::offset_of!(nvfp4_spec, activations) - 8usize];
    ["Offset of field: nvfp4_spec::n"][::std::mem::offset_of!(nvfp4_spec, n) - 12usize];
    ["Offset of field: nvfp4_spec::k"][::std::mem::offset_of!(nvfp4_spec, k) - 16usize];
    [
        "Offset of field: nvfp4_spec::batch",
    ][::std::mem::offset_of!(nvfp4_spec, batch) - 20usize];
    [
        "Offset of field: nvfp4_spec::glu",
    ][::std::mem::offset_of!(nvfp4_spec, glu) - 24usize];
    [
        "Offset of field: nvfp4_spec::weights",
    ][::std::mem::offset_of!(nvfp4_spec, weights) - 40usize];
    [
        "Offset of field: nvfp4_spec::kernel",
    ][::std::mem::offset_of!(nvfp4_spec, kernel) - 48usize];
    [
        "Offset of field: nvfp4_spec::programmatic_launch",
    ][::std::mem::offset_of!(nvfp4_spec, programmatic_launch) - 56usize];
    [
        "Offset of field: nvfp4_spec::constant_weights",
    ][::std::mem::offset_of!(nvfp4_spec, constant_weights) - 60usize];
    [
        "Offset of field: nvfp4_spec::sm_count",
    ][::std::mem::offset_of!(nvfp4_spec, sm_count) - 64usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct nvfp4_weights {
    pub size: u32,
    pub b1_codes: *const ::std::os::raw::c_void,
    pub b1_scales: *const ::std::os::raw::c_void,
    pub b2_codes: *const ::std::os::raw::c_void,
    pub b2_scales: *const ::std::os::raw::c_void,
    pub bias1: *const f32,
    pub bias2: *const f32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of nvfp4_weights"][::std::mem::size_of::<nvfp4_weights>() - 56usize];
    ["Alignment of nvfp4_weights"][::std::mem::align_of::<nvfp4_weights>() - 8usize];
    [
        "Offset of field: nvfp4_weights::size",
    ][::std::mem::offset_of!(nvfp4_weights, size) - 0usize];
    [
        "Offset of field: nvfp4_weights::b1_codes",
    ][::std::mem::offset_of!(nvfp4_weights, b1_codes) - 8usize];
    [
        "Offset of field: nvfp4_weights::b1_scales",
    ][::std::mem::offset_of!(nvfp4_weights, b1_scales) - 16usize];
    [
        "Offset of field: nvfp4_weights::b2_codes",
    ][::std::mem::offset_of!(nvfp4_weights, b2_codes) - 24usize];
    [
        "Offset of field: nvfp4_weights::b2_scales",
    ][::std::mem::offset_of!(nvfp4_weights, b2_scales) - 32usize];
    [
        "Offset of field: nvfp4_weights::bias1",
    ][::std::mem::offset_of!(nvfp4_weights, bias1) - 40usize];
    [
        "Offset of field: nvfp4_weights::bias2",
    ][::std::mem::offset_of!(nvfp4_weights, bias2) - 48usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct nvfp4_io {
    pub size: u32,
    pub rows: i32,
    pub a_codes: *const ::std::os::raw::c_void,
    pub a_scales: *const ::std::os::raw::c_void,
    pub a_row_stride: i64,
    pub c: nvfp4_destination,
    pub residual: *const ::std::os::raw::c_void,
    pub residual_row_stride: i64,
    pub alpha1: f32,
    pub alpha2: f32,
    pub factor1: *const f32,
    pub factor2: *const f32,
    pub workspace: *mut ::std::os::raw::c_void,
    pub workspace_bytes: usize,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of nvfp4_io"][::std::mem::size_of::<nvfp4_io>() - 128usize];
    ["Alignment of nvfp4_io"][::std::mem::align_of::<nvfp4_io>() - 8usize];
    ["Offset of field: nvfp4_io::size"][::std::mem::offset_of!(nvfp4_io, size) - 0usize];
    ["Offset of field: nvfp4_io::rows"][::std::mem::offset_of!(nvfp4_io, rows) - 4usize];
    [
        "Offset of field: nvfp4_io::a_codes",
    ][::std::mem::offset_of!(nvfp4_io, a_codes) - 8usize];
    [
        "Offset of field: nvfp4_io::a_scales",
    ][::std::mem::offset_of!(nvfp4_io, a_scales) - 16usize];
    [
        "Offset of field: nvfp4_io::a_row_stride",
    ][::std::mem::offset_of!(nvfp4_io, a_row_stride) - 24usize];
    ["Offset of field: nvfp4_io::c"][::std::mem::offset_of!(nvfp4_io, c) - 32usize];
    [
        "Offset of field: nvfp4_io::residual",
    ][::std::mem::offset_of!(nvfp4_io, residual) - 72usize];
    [
        "Offset of field: nvfp4_io::residual_row_stride",
    ][::std::mem::offset_of!(nvfp4_io, residual_row_stride) - 80usize];
    [
        "Offset of field: nvfp4_io::alpha1",
    ][::std::mem::offset_of!(nvfp4_io, alpha1) - 88usize];
    [
        "Offset of field: nvfp4_io::alpha2",
    ][::std::mem::offset_of!(nvfp4_io, alpha2) - 92usize];
    [
        "Offset of field: nvfp4_io::factor1",
    ][::std::mem::offset_of!(nvfp4_io, factor1) - 96usize];
    [
        "Offset of field: nvfp4_io::factor2",
    ][::std::mem::offset_of!(nvfp4_io, factor2) - 104usize];
    [
        "Offset of field: nvfp4_io::workspace",
    ][::std::mem::offset_of!(nvfp4_io, workspace) - 112usize];
    [
        "Offset of field: nvfp4_io::workspace_bytes",
    ][::std::mem::offset_of!(nvfp4_io, workspace_bytes) - 120usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct nvfp4_kernel_info {
    pub name: *const ::std::os::raw::c_char,
    pub mainloop: nvfp4_mainloop,
    pub scheduler: nvfp4_scheduler,
    pub weights: nvfp4_weight_format,
    pub activations: nvfp4_data_type,
    pub compute_capability: i32,
    pub family: i32,
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
    ["Size of nvfp4_kernel_info"][::std::mem::size_of::<nvfp4_kernel_info>() - 80usize];
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
        "Offset of field: nvfp4_kernel_info::activations",
    ][::std::mem::offset_of!(nvfp4_kernel_info, activations) - 20usize];
    [
        "Offset of field: nvfp4_kernel_info::compute_capability",
    ][::std::mem::offset_of!(nvfp4_kernel_info, compute_capability) - 24usize];
    [
        "Offset of field: nvfp4_kernel_info::family",
    ][::std::mem::offset_of!(nvfp4_kernel_info, family) - 28usize];
    [
        "Offset of field: nvfp4_kernel_info::sms",
    ][::std::mem::offset_of!(nvfp4_kernel_info, sms) - 32usize];
    [
        "Offset of field: nvfp4_kernel_info::tile_m",
    ][::std::mem::offset_of!(nvfp4_kernel_info, tile_m) - 36usize];
    [
        "Offset of field: nvfp4_kernel_info::tile_n",
    ][::std::mem::offset_of!(nvfp4_kernel_info, tile_n) - 40usize];
    [
        "Offset of field: nvfp4_kernel_info::tile_k",
    ][::std::mem::offset_of!(nvfp4_kernel_info, tile_k) - 44usize];
    [
        "Offset of field: nvfp4_kernel_info::cluster_m",
    ][::std::mem::offset_of!(nvfp4_kernel_info, cluster_m) - 48usize];
    [
        "Offset of field: nvfp4_kernel_info::cluster_n",
    ][::std::mem::offset_of!(nvfp4_kernel_info, cluster_n) - 52usize];
    [
        "Offset of field: nvfp4_kernel_info::threads",
    ][::std::mem::offset_of!(nvfp4_kernel_info, threads) - 56usize];
    [
        "Offset of field: nvfp4_kernel_info::stages",
    ][::std::mem::offset_of!(nvfp4_kernel_info, stages) - 60usize];
    [
        "Offset of field: nvfp4_kernel_info::accumulator_stages",
    ][::std::mem::offset_of!(nvfp4_kernel_info, accumulator_stages) - 64usize];
    [
        "Offset of field: nvfp4_kernel_info::smem_bytes",
    ][::std::mem::offset_of!(nvfp4_kernel_info, smem_bytes) - 68usize];
    [
        "Offset of field: nvfp4_kernel_info::tmem_columns",
    ][::std::mem::offset_of!(nvfp4_kernel_info, tmem_columns) - 72usize];
    [
        "Offset of field: nvfp4_kernel_info::params_bytes",
    ][::std::mem::offset_of!(nvfp4_kernel_info, params_bytes) - 76usize];
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
