pub const CUDART_VERSION: u32 = 13050;
pub const cudaStreamDefault: u32 = 0;
pub const cudaStreamNonBlocking: u32 = 1;
pub const cudaEventDefault: u32 = 0;
pub const cudaEventBlockingSync: u32 = 1;
pub const cudaEventDisableTiming: u32 = 2;
pub const cudaSuccess: cudaError = 0;
pub const cudaErrorInvalidValue: cudaError = 1;
pub const cudaErrorMemoryAllocation: cudaError = 2;
pub const cudaErrorInitializationError: cudaError = 3;
pub const cudaErrorCudartUnloading: cudaError = 4;
pub const cudaErrorProfilerDisabled: cudaError = 5;
pub const cudaErrorProfilerNotInitialized: cudaError = 6;
pub const cudaErrorProfilerAlreadyStarted: cudaError = 7;
pub const cudaErrorProfilerAlreadyStopped: cudaError = 8;
pub const cudaErrorInvalidConfiguration: cudaError = 9;
pub const cudaErrorVersionTranslation: cudaError = 10;
pub const cudaErrorInvalidPitchValue: cudaError = 12;
pub const cudaErrorInvalidSymbol: cudaError = 13;
pub const cudaErrorInvalidHostPointer: cudaError = 16;
pub const cudaErrorInvalidDevicePointer: cudaError = 17;
pub const cudaErrorInvalidTexture: cudaError = 18;
pub const cudaErrorInvalidTextureBinding: cudaError = 19;
pub const cudaErrorInvalidChannelDescriptor: cudaError = 20;
pub const cudaErrorInvalidMemcpyDirection: cudaError = 21;
pub const cudaErrorAddressOfConstant: cudaError = 22;
pub const cudaErrorTextureFetchFailed: cudaError = 23;
pub const cudaErrorTextureNotBound: cudaError = 24;
pub const cudaErrorSynchronizationError: cudaError = 25;
pub const cudaErrorInvalidFilterSetting: cudaError = 26;
pub const cudaErrorInvalidNormSetting: cudaError = 27;
pub const cudaErrorMixedDeviceExecution: cudaError = 28;
pub const cudaErrorNotYetImplemented: cudaError = 31;
pub const cudaErrorMemoryValueTooLarge: cudaError = 32;
pub const cudaErrorStubLibrary: cudaError = 34;
pub const cudaErrorInsufficientDriver: cudaError = 35;
pub const cudaErrorCallRequiresNewerDriver: cudaError = 36;
pub const cudaErrorInvalidSurface: cudaError = 37;
pub const cudaErrorDuplicateVariableName: cudaError = 43;
pub const cudaErrorDuplicateTextureName: cudaError = 44;
pub const cudaErrorDuplicateSurfaceName: cudaError = 45;
pub const cudaErrorDevicesUnavailable: cudaError = 46;
pub const cudaErrorIncompatibleDriverContext: cudaError = 49;
pub const cudaErrorMissingConfiguration: cudaError = 52;
pub const cudaErrorPriorLaunchFailure: cudaError = 53;
pub const cudaErrorLaunchMaxDepthExceeded: cudaError = 65;
pub const cudaErrorLaunchFileScopedTex: cudaError = 66;
pub const cudaErrorLaunchFileScopedSurf: cudaError = 67;
pub const cudaErrorSyncDepthExceeded: cudaError = 68;
pub const cudaErrorLaunchPendingCountExceeded: cudaError = 69;
pub const cudaErrorInvalidDeviceFunction: cudaError = 98;
pub const cudaErrorNoDevice: cudaError = 100;
pub const cudaErrorInvalidDevice: cudaError = 101;
pub const cudaErrorDeviceNotLicensed: cudaError = 102;
pub const cudaErrorSoftwareValidityNotEstablished: cudaError = 103;
pub const cudaErrorStartupFailure: cudaError = 127;
pub const cudaErrorInvalidKernelImage: cudaError = 200;
pub const cudaErrorDeviceUninitialized: cudaError = 201;
pub const cudaErrorMapBufferObjectFailed: cudaError = 205;
pub const cudaErrorUnmapBufferObjectFailed: cudaError = 206;
pub const cudaErrorArrayIsMapped: cudaError = 207;
pub const cudaErrorAlreadyMapped: cudaError = 208;
pub const cudaErrorNoKernelImageForDevice: cudaError = 209;
pub const cudaErrorAlreadyAcquired: cudaError = 210;
pub const cudaErrorNotMapped: cudaError = 211;
pub const cudaErrorNotMappedAsArray: cudaError = 212;
pub const cudaErrorNotMappedAsPointer: cudaError = 213;
pub const cudaErrorECCUncorrectable: cudaError = 214;
pub const cudaErrorUnsupportedLimit: cudaError = 215;
pub const cudaErrorDeviceAlreadyInUse: cudaError = 216;
pub const cudaErrorPeerAccessUnsupported: cudaError = 217;
pub const cudaErrorInvalidPtx: cudaError = 218;
pub const cudaErrorInvalidGraphicsContext: cudaError = 219;
pub const cudaErrorNvlinkUncorrectable: cudaError = 220;
pub const cudaErrorJitCompilerNotFound: cudaError = 221;
pub const cudaErrorUnsupportedPtxVersion: cudaError = 222;
pub const cudaErrorJitCompilationDisabled: cudaError = 223;
pub const cudaErrorUnsupportedExecAffinity: cudaError = 224;
pub const cudaErrorUnsupportedDevSideSync: cudaError = 225;
pub const cudaErrorContained: cudaError = 226;
pub const cudaErrorInsufficientLoaderVersion: cudaError = 227;
pub const cudaErrorInvalidSource: cudaError = 300;
pub const cudaErrorFileNotFound: cudaError = 301;
pub const cudaErrorSharedObjectSymbolNotFound: cudaError = 302;
pub const cudaErrorSharedObjectInitFailed: cudaError = 303;
pub const cudaErrorOperatingSystem: cudaError = 304;
pub const cudaErrorInvalidResourceHandle: cudaError = 400;
pub const cudaErrorIllegalState: cudaError = 401;
pub const cudaErrorLossyQuery: cudaError = 402;
pub const cudaErrorSymbolNotFound: cudaError = 500;
pub const cudaErrorNotReady: cudaError = 600;
pub const cudaErrorIllegalAddress: cudaError = 700;
pub const cudaErrorLaunchOutOfResources: cudaError = 701;
pub const cudaErrorLaunchTimeout: cudaError = 702;
pub const cudaErrorLaunchIncompatibleTexturing: cudaError = 703;
pub const cudaErrorPeerAccessAlreadyEnabled: cudaError = 704;
pub const cudaErrorPeerAccessNotEnabled: cudaError = 705;
pub const cudaErrorSetOnActiveProcess: cudaError = 708;
pub const cudaErrorContextIsDestroyed: cudaError = 709;
pub const cudaErrorAssert: cudaError = 710;
pub const cudaErrorTooManyPeers: cudaError = 711;
pub const cudaErrorHostMemoryAlreadyRegistered: cudaError = 712;
pub const cudaErrorHostMemoryNotRegistered: cudaError = 713;
pub const cudaErrorHardwareStackError: cudaError = 714;
pub const cudaErrorIllegalInstruction: cudaError = 715;
pub const cudaErrorMisalignedAddress: cudaError = 716;
pub const cudaErrorInvalidAddressSpace: cudaError = 717;
pub const cudaErrorInvalidPc: cudaError = 718;
pub const cudaErrorLaunchFailure: cudaError = 719;
pub const cudaErrorCooperativeLaunchTooLarge: cudaError = 720;
pub const cudaErrorTensorMemoryLeak: cudaError = 721;
pub const cudaErrorNotPermitted: cudaError = 800;
pub const cudaErrorNotSupported: cudaError = 801;
pub const cudaErrorSystemNotReady: cudaError = 802;
pub const cudaErrorSystemDriverMismatch: cudaError = 803;
pub const cudaErrorCompatNotSupportedOnDevice: cudaError = 804;
pub const cudaErrorMpsConnectionFailed: cudaError = 805;
pub const cudaErrorMpsRpcFailure: cudaError = 806;
pub const cudaErrorMpsServerNotReady: cudaError = 807;
pub const cudaErrorMpsMaxClientsReached: cudaError = 808;
pub const cudaErrorMpsMaxConnectionsReached: cudaError = 809;
pub const cudaErrorMpsClientTerminated: cudaError = 810;
pub const cudaErrorCdpNotSupported: cudaError = 811;
pub const cudaErrorCdpVersionMismatch: cudaError = 812;
pub const cudaErrorStreamCaptureUnsupported: cudaError = 900;
pub const cudaErrorStreamCaptureInvalidated: cudaError = 901;
pub const cudaErrorStreamCaptureMerge: cudaError = 902;
pub const cudaErrorStreamCaptureUnmatched: cudaError = 903;
pub const cudaErrorStreamCaptureUnjoined: cudaError = 904;
pub const cudaErrorStreamCaptureIsolation: cudaError = 905;
pub const cudaErrorStreamCaptureImplicit: cudaError = 906;
pub const cudaErrorCapturedEvent: cudaError = 907;
pub const cudaErrorStreamCaptureWrongThread: cudaError = 908;
pub const cudaErrorTimeout: cudaError = 909;
pub const cudaErrorGraphExecUpdateFailure: cudaError = 910;
pub const cudaErrorExternalDevice: cudaError = 911;
pub const cudaErrorInvalidClusterSize: cudaError = 912;
pub const cudaErrorFunctionNotLoaded: cudaError = 913;
pub const cudaErrorInvalidResourceType: cudaError = 914;
pub const cudaErrorInvalidResourceConfiguration: cudaError = 915;
pub const cudaErrorStreamDetached: cudaError = 917;
pub const cudaErrorGraphRecaptureFailure: cudaError = 918;
pub const cudaErrorFabricNotReady: cudaError = 919;
pub const cudaErrorUnknown: cudaError = 999;
pub const cudaErrorApiFailureBase: cudaError = 10000;
pub type cudaError = ::std::os::raw::c_uint;
pub const cudaMemoryTypeUnregistered: cudaMemoryType = 0;
pub const cudaMemoryTypeHost: cudaMemoryType = 1;
pub const cudaMemoryTypeDevice: cudaMemoryType = 2;
pub const cudaMemoryTypeManaged: cudaMemoryType = 3;
pub type cudaMemoryType = ::std::os::raw::c_uint;
pub const cudaMemcpyHostToHost: cudaMemcpyKind = 0;
pub const cudaMemcpyHostToDevice: cudaMemcpyKind = 1;
pub const cudaMemcpyDeviceToHost: cudaMemcpyKind = 2;
pub const cudaMemcpyDeviceToDevice: cudaMemcpyKind = 3;
pub const cudaMemcpyDefault: cudaMemcpyKind = 4;
pub type cudaMemcpyKind = ::std::os::raw::c_uint;
pub const cudaStreamCaptureStatusNone: cudaStreamCaptureStatus = 0;
pub const cudaStreamCaptureStatusActive: cudaStreamCaptureStatus = 1;
pub const cudaStreamCaptureStatusInvalidated: cudaStreamCaptureStatus = 2;
pub type cudaStreamCaptureStatus = ::std::os::raw::c_uint;
pub const cudaStreamCaptureModeGlobal: cudaStreamCaptureMode = 0;
pub const cudaStreamCaptureModeThreadLocal: cudaStreamCaptureMode = 1;
pub const cudaStreamCaptureModeRelaxed: cudaStreamCaptureMode = 2;
pub type cudaStreamCaptureMode = ::std::os::raw::c_uint;
#[repr(C)]
#[derive(Copy, Clone)]
pub struct cudaPointerAttributes {
    pub type_: cudaMemoryType,
    pub device: ::std::os::raw::c_int,
    pub devicePointer: *mut ::std::os::raw::c_void,
    pub hostPointer: *mut ::std::os::raw::c_void,
    pub __bindgen_anon_1: cudaPointerAttributes__bindgen_ty_1,
    pub reserved: [::std::os::raw::c_long; 7usize],
}
#[repr(C)]
#[derive(Copy, Clone)]
pub union cudaPointerAttributes__bindgen_ty_1 {
    pub localityDomainOrdinal: ::std::os::raw::c_int,
    pub unused: ::std::os::raw::c_long,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of cudaPointerAttributes__bindgen_ty_1",
    ][::std::mem::size_of::<cudaPointerAttributes__bindgen_ty_1>() - 8usize];
    [
        "Alignment of cudaPointerAttributes__bindgen_ty_1",
    ][::std::mem::align_of::<cudaPointerAttributes__bindgen_ty_1>() - 8usize];
    [
        "Offset of field: cudaPointerAttributes__bindgen_ty_1::localityDomainOrdinal",
    ][::std::mem::offset_of!(cudaPointerAttributes__bindgen_ty_1, localityDomainOrdinal)
        - 0usize];
    [
        "Offset of field: cudaPointerAttributes__bindgen_ty_1::unused",
    ][::std::mem::offset_of!(cudaPointerAttributes__bindgen_ty_1, unused) - 0usize];
};
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of cudaPointerAttributes",
    ][::std::mem::size_of::<cudaPointerAttributes>() - 88usize];
    [
        "Alignment of cudaPointerAttributes",
    ][::std::mem::align_of::<cudaPointerAttributes>() - 8usize];
    [
        "Offset of field: cudaPointerAttributes::type_",
    ][::std::mem::offset_of!(cudaPointerAttributes, type_) - 0usize];
    [
        "Offset of field: cudaPointerAttributes::device",
    ][::std::mem::offset_of!(cudaPointerAttributes, device) - 4usize];
    [
        "Offset of field: cudaPointerAttributes::devicePointer",
    ][::std::mem::offset_of!(cudaPointerAttributes, devicePointer) - 8usize];
    [
        "Offset of field: cudaPointerAttributes::hostPointer",
    ][::std::mem::offset_of!(cudaPointerAttributes, hostPointer) - 16usize];
    [
        "Offset of field: cudaPointerAttributes::reserved",
    ][::std::mem::offset_of!(cudaPointerAttributes, reserved) - 32usize];
};
pub const cudaDevAttrMaxThreadsPerBlock: cudaDeviceAttr = 1;
pub const cudaDevAttrMaxBlockDimX: cudaDeviceAttr = 2;
pub const cudaDevAttrMaxBlockDimY: cudaDeviceAttr = 3;
pub const cudaDevAttrMaxBlockDimZ: cudaDeviceAttr = 4;
pub const cudaDevAttrMaxGridDimX: cudaDeviceAttr = 5;
pub const cudaDevAttrMaxGridDimY: cudaDeviceAttr = 6;
pub const cudaDevAttrMaxGridDimZ: cudaDeviceAttr = 7;
pub const cudaDevAttrMaxSharedMemoryPerBlock: cudaDeviceAttr = 8;
pub const cudaDevAttrTotalConstantMemory: cudaDeviceAttr = 9;
pub const cudaDevAttrWarpSize: cudaDeviceAttr = 10;
pub const cudaDevAttrMaxPitch: cudaDeviceAttr = 11;
pub const cudaDevAttrMaxRegistersPerBlock: cudaDeviceAttr = 12;
pub const cudaDevAttrClockRate: cudaDeviceAttr = 13;
pub const cudaDevAttrTextureAlignment: cudaDeviceAttr = 14;
pub const cudaDevAttrGpuOverlap: cudaDeviceAttr = 15;
pub const cudaDevAttrMultiProcessorCount: cudaDeviceAttr = 16;
pub const cudaDevAttrKernelExecTimeout: cudaDeviceAttr = 17;
pub const cudaDevAttrIntegrated: cudaDeviceAttr = 18;
pub const cudaDevAttrCanMapHostMemory: cudaDeviceAttr = 19;
pub const cudaDevAttrComputeMode: cudaDeviceAttr = 20;
pub const cudaDevAttrMaxTexture1DWidth: cudaDeviceAttr = 21;
pub const cudaDevAttrMaxTexture2DWidth: cudaDeviceAttr = 22;
pub const cudaDevAttrMaxTexture2DHeight: cudaDeviceAttr = 23;
pub const cudaDevAttrMaxTexture3DWidth: cudaDeviceAttr = 24;
pub const cudaDevAttrMaxTexture3DHeight: cudaDeviceAttr = 25;
pub const cudaDevAttrMaxTexture3DDepth: cudaDeviceAttr = 26;
pub const cudaDevAttrMaxTexture2DLayeredWidth: cudaDeviceAttr = 27;
pub const cudaDevAttrMaxTexture2DLayeredHeight: cudaDeviceAttr = 28;
pub const cudaDevAttrMaxTexture2DLayeredLayers: cudaDeviceAttr = 29;
pub const cudaDevAttrSurfaceAlignment: cudaDeviceAttr = 30;
pub const cudaDevAttrConcurrentKernels: cudaDeviceAttr = 31;
pub const cudaDevAttrEccEnabled: cudaDeviceAttr = 32;
pub const cudaDevAttrPciBusId: cudaDeviceAttr = 33;
pub const cudaDevAttrPciDeviceId: cudaDeviceAttr = 34;
pub const cudaDevAttrTccDriver: cudaDeviceAttr = 35;
pub const cudaDevAttrMemoryClockRate: cudaDeviceAttr = 36;
pub const cudaDevAttrGlobalMemoryBusWidth: cudaDeviceAttr = 37;
pub const cudaDevAttrL2CacheSize: cudaDeviceAttr = 38;
pub const cudaDevAttrMaxThreadsPerMultiProcessor: cudaDeviceAttr = 39;
pub const cudaDevAttrAsyncEngineCount: cudaDeviceAttr = 40;
pub const cudaDevAttrUnifiedAddressing: cudaDeviceAttr = 41;
pub const cudaDevAttrMaxTexture1DLayeredWidth: cudaDeviceAttr = 42;
pub const cudaDevAttrMaxTexture1DLayeredLayers: cudaDeviceAttr = 43;
pub const cudaDevAttrMaxTexture2DGatherWidth: cudaDeviceAttr = 45;
pub const cudaDevAttrMaxTexture2DGatherHeight: cudaDeviceAttr = 46;
pub const cudaDevAttrMaxTexture3DWidthAlt: cudaDeviceAttr = 47;
pub const cudaDevAttrMaxTexture3DHeightAlt: cudaDeviceAttr = 48;
pub const cudaDevAttrMaxTexture3DDepthAlt: cudaDeviceAttr = 49;
pub const cudaDevAttrPciDomainId: cudaDeviceAttr = 50;
pub const cudaDevAttrTexturePitchAlignment: cudaDeviceAttr = 51;
pub const cudaDevAttrMaxTextureCubemapWidth: cudaDeviceAttr = 52;
pub const cudaDevAttrMaxTextureCubemapLayeredWidth: cudaDeviceAttr = 53;
pub const cudaDevAttrMaxTextureCubemapLayeredLayers: cudaDeviceAttr = 54;
pub const cudaDevAttrMaxSurface1DWidth: cudaDeviceAttr = 55;
pub const cudaDevAttrMaxSurface2DWidth: cudaDeviceAttr = 56;
pub const cudaDevAttrMaxSurface2DHeight: cudaDeviceAttr = 57;
pub const cudaDevAttrMaxSurface3DWidth: cudaDeviceAttr = 58;
pub const cudaDevAttrMaxSurface3DHeight: cudaDeviceAttr = 59;
pub const cudaDevAttrMaxSurface3DDepth: cudaDeviceAttr = 60;
pub const cudaDevAttrMaxSurface1DLayeredWidth: cudaDeviceAttr = 61;
pub const cudaDevAttrMaxSurface1DLayeredLayers: cudaDeviceAttr = 62;
pub const cudaDevAttrMaxSurface2DLayeredWidth: cudaDeviceAttr = 63;
pub const cudaDevAttrMaxSurface2DLayeredHeight: cudaDeviceAttr = 64;
pub const cudaDevAttrMaxSurface2DLayeredLayers: cudaDeviceAttr = 65;
pub const cudaDevAttrMaxSurfaceCubemapWidth: cudaDeviceAttr = 66;
pub const cudaDevAttrMaxSurfaceCubemapLayeredWidth: cudaDeviceAttr = 67;
pub const cudaDevAttrMaxSurfaceCubemapLayeredLayers: cudaDeviceAttr = 68;
pub const cudaDevAttrMaxTexture1DLinearWidth: cudaDeviceAttr = 69;
pub const cudaDevAttrMaxTexture2DLinearWidth: cudaDeviceAttr = 70;
pub const cudaDevAttrMaxTexture2DLinearHeight: cudaDeviceAttr = 71;
pub const cudaDevAttrMaxTexture2DLinearPitch: cudaDeviceAttr = 72;
pub const cudaDevAttrMaxTexture2DMipmappedWidth: cudaDeviceAttr = 73;
pub const cudaDevAttrMaxTexture2DMipmappedHeight: cudaDeviceAttr = 74;
pub const cudaDevAttrComputeCapabilityMajor: cudaDeviceAttr = 75;
pub const cudaDevAttrComputeCapabilityMinor: cudaDeviceAttr = 76;
pub const cudaDevAttrMaxTexture1DMipmappedWidth: cudaDeviceAttr = 77;
pub const cudaDevAttrStreamPrioritiesSupported: cudaDeviceAttr = 78;
pub const cudaDevAttrGlobalL1CacheSupported: cudaDeviceAttr = 79;
pub const cudaDevAttrLocalL1CacheSupported: cudaDeviceAttr = 80;
pub const cudaDevAttrMaxSharedMemoryPerMultiprocessor: cudaDeviceAttr = 81;
pub const cudaDevAttrMaxRegistersPerMultiprocessor: cudaDeviceAttr = 82;
pub const cudaDevAttrManagedMemory: cudaDeviceAttr = 83;
pub const cudaDevAttrIsMultiGpuBoard: cudaDeviceAttr = 84;
pub const cudaDevAttrMultiGpuBoardGroupID: cudaDeviceAttr = 85;
pub const cudaDevAttrHostNativeAtomicSupported: cudaDeviceAttr = 86;
pub const cudaDevAttrSingleToDoublePrecisionPerfRatio: cudaDeviceAttr = 87;
pub const cudaDevAttrPageableMemoryAccess: cudaDeviceAttr = 88;
pub const cudaDevAttrConcurrentManagedAccess: cudaDeviceAttr = 89;
pub const cudaDevAttrComputePreemptionSupported: cudaDeviceAttr = 90;
pub const cudaDevAttrCanUseHostPointerForRegisteredMem: cudaDeviceAttr = 91;
pub const cudaDevAttrReserved92: cudaDeviceAttr = 92;
pub const cudaDevAttrReserved93: cudaDeviceAttr = 93;
pub const cudaDevAttrReserved94: cudaDeviceAttr = 94;
pub const cudaDevAttrCooperativeLaunch: cudaDeviceAttr = 95;
pub const cudaDevAttrReserved96: cudaDeviceAttr = 96;
pub const cudaDevAttrMaxSharedMemoryPerBlockOptin: cudaDeviceAttr = 97;
pub const cudaDevAttrCanFlushRemoteWrites: cudaDeviceAttr = 98;
pub const cudaDevAttrHostRegisterSupported: cudaDeviceAttr = 99;
pub const cudaDevAttrPageableMemoryAccessUsesHostPageTables: cudaDeviceAttr = 100;
pub const cudaDevAttrDirectManagedMemAccessFromHost: cudaDeviceAttr = 101;
pub const cudaDevAttrMaxBlocksPerMultiprocessor: cudaDeviceAttr = 106;
pub const cudaDevAttrMaxPersistingL2CacheSize: cudaDeviceAttr = 108;
pub const cudaDevAttrMaxAccessPolicyWindowSize: cudaDeviceAttr = 109;
pub const cudaDevAttrReservedSharedMemoryPerBlock: cudaDeviceAttr = 111;
pub const cudaDevAttrSparseCudaArraySupported: cudaDeviceAttr = 112;
pub const cudaDevAttrHostRegisterReadOnlySupported: cudaDeviceAttr = 113;
pub const cudaDevAttrTimelineSemaphoreInteropSupported: cudaDeviceAttr = 114;
pub const cudaDevAttrMemoryPoolsSupported: cudaDeviceAttr = 115;
pub const cudaDevAttrGPUDirectRDMASupported: cudaDeviceAttr = 116;
pub const cudaDevAttrGPUDirectRDMAFlushWritesOptions: cudaDeviceAttr = 117;
pub const cudaDevAttrGPUDirectRDMAWritesOrdering: cudaDeviceAttr = 118;
pub const cudaDevAttrMemoryPoolSupportedHandleTypes: cudaDeviceAttr = 119;
pub const cudaDevAttrClusterLaunch: cudaDeviceAttr = 120;
pub const cudaDevAttrDeferredMappingCudaArraySupported: cudaDeviceAttr = 121;
pub const cudaDevAttrReserved122: cudaDeviceAttr = 122;
pub const cudaDevAttrReserved123: cudaDeviceAttr = 123;
pub const cudaDevAttrReserved124: cudaDeviceAttr = 124;
pub const cudaDevAttrIpcEventSupport: cudaDeviceAttr = 125;
pub const cudaDevAttrMemSyncDomainCount: cudaDeviceAttr = 126;
pub const cudaDevAttrReserved127: cudaDeviceAttr = 127;
pub const cudaDevAttrReserved128: cudaDeviceAttr = 128;
pub const cudaDevAttrReserved129: cudaDeviceAttr = 129;
pub const cudaDevAttrNumaConfig: cudaDeviceAttr = 130;
pub const cudaDevAttrNumaId: cudaDeviceAttr = 131;
pub const cudaDevAttrReserved132: cudaDeviceAttr = 132;
pub const cudaDevAttrMpsEnabled: cudaDeviceAttr = 133;
pub const cudaDevAttrHostNumaId: cudaDeviceAttr = 134;
pub const cudaDevAttrD3D12CigSupported: cudaDeviceAttr = 135;
pub const cudaDevAttrVulkanCigSupported: cudaDeviceAttr = 138;
pub const cudaDevAttrGpuPciDeviceId: cudaDeviceAttr = 139;
pub const cudaDevAttrGpuPciSubsystemId: cudaDeviceAttr = 140;
pub const cudaDevAttrReserved141: cudaDeviceAttr = 141;
pub const cudaDevAttrHostNumaMemoryPoolsSupported: cudaDeviceAttr = 142;
pub const cudaDevAttrHostNumaMultinodeIpcSupported: cudaDeviceAttr = 143;
pub const cudaDevAttrHostMemoryPoolsSupported: cudaDeviceAttr = 144;
pub const cudaDevAttrReserved145: cudaDeviceAttr = 145;
pub const cudaDevAttrOnlyPartialHostNativeAtomicSupported: cudaDeviceAttr = 147;
pub const cudaDevAttrAtomicReductionSupported: cudaDeviceAttr = 148;
pub const cudaDevAttrLocalityDomainCount: cudaDeviceAttr = 149;
pub const cudaDevAttrOversizedSharedMemoryPerBlock: cudaDeviceAttr = 150;
pub const cudaDevAttrCigStreamsSupported: cudaDeviceAttr = 151;
pub const cudaDevAttrLocalityDomainMultiprocessorCount: cudaDeviceAttr = 157;
pub const cudaDevAttrTensorMapLargeTensorMinSize: cudaDeviceAttr = 160;
pub const cudaDevAttrMax: cudaDeviceAttr = 161;
pub type cudaDeviceAttr = ::std::os::raw::c_uint;
pub use self::cudaError as cudaError_t;
#[repr(C)]
#[derive(Debug)]
pub struct CUstream_st {
    _unused: [u8; 0],
}
pub type cudaStream_t = *mut CUstream_st;
#[repr(C)]
#[derive(Debug)]
pub struct CUevent_st {
    _unused: [u8; 0],
}
pub type cudaEvent_t = *mut CUevent_st;
#[repr(C)]
#[derive(Debug)]
pub struct CUgraph_st {
    _unused: [u8; 0],
}
pub type cudaGraph_t = *mut CUgraph_st;
#[repr(C)]
#[derive(Debug)]
pub struct CUgraphExec_st {
    _unused: [u8; 0],
}
pub type cudaGraphExec_t = *mut CUgraphExec_st;
unsafe extern "C" {
    pub fn cudaDeviceSynchronize() -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaDeviceGetStreamPriorityRange(
        leastPriority: *mut ::std::os::raw::c_int,
        greatestPriority: *mut ::std::os::raw::c_int,
    ) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaDeviceGetPCIBusId(
        pciBusId: *mut ::std::os::raw::c_char,
        len: ::std::os::raw::c_int,
        device: ::std::os::raw::c_int,
    ) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaGetLastError() -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaPeekAtLastError() -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaGetErrorName(error: cudaError_t) -> *const ::std::os::raw::c_char;
}
unsafe extern "C" {
    pub fn cudaGetErrorString(error: cudaError_t) -> *const ::std::os::raw::c_char;
}
unsafe extern "C" {
    pub fn cudaGetDeviceCount(count: *mut ::std::os::raw::c_int) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaDeviceGetAttribute(
        value: *mut ::std::os::raw::c_int,
        attr: cudaDeviceAttr,
        device: ::std::os::raw::c_int,
    ) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaSetDevice(device: ::std::os::raw::c_int) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaGetDevice(device: *mut ::std::os::raw::c_int) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaStreamCreateWithFlags(
        pStream: *mut cudaStream_t,
        flags: ::std::os::raw::c_uint,
    ) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaStreamCreateWithPriority(
        pStream: *mut cudaStream_t,
        flags: ::std::os::raw::c_uint,
        priority: ::std::os::raw::c_int,
    ) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaStreamGetDevice(
        hStream: cudaStream_t,
        device: *mut ::std::os::raw::c_int,
    ) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaStreamDestroy(stream: cudaStream_t) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaStreamWaitEvent(
        stream: cudaStream_t,
        event: cudaEvent_t,
        flags: ::std::os::raw::c_uint,
    ) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaStreamSynchronize(stream: cudaStream_t) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaStreamQuery(stream: cudaStream_t) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaStreamBeginCapture(
        stream: cudaStream_t,
        mode: cudaStreamCaptureMode,
    ) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaThreadExchangeStreamCaptureMode(
        mode: *mut cudaStreamCaptureMode,
    ) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaStreamEndCapture(
        stream: cudaStream_t,
        pGraph: *mut cudaGraph_t,
    ) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaStreamIsCapturing(
        stream: cudaStream_t,
        pCaptureStatus: *mut cudaStreamCaptureStatus,
    ) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaEventCreateWithFlags(
        event: *mut cudaEvent_t,
        flags: ::std::os::raw::c_uint,
    ) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaEventRecord(event: cudaEvent_t, stream: cudaStream_t) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaEventQuery(event: cudaEvent_t) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaEventSynchronize(event: cudaEvent_t) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaEventDestroy(event: cudaEvent_t) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaEventElapsedTime(
        ms: *mut f32,
        start: cudaEvent_t,
        end: cudaEvent_t,
    ) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaMalloc(
        devPtr: *mut *mut ::std::os::raw::c_void,
        size: usize,
    ) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaMallocHost(
        ptr: *mut *mut ::std::os::raw::c_void,
        size: usize,
    ) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaFree(devPtr: *mut ::std::os::raw::c_void) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaFreeHost(ptr: *mut ::std::os::raw::c_void) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaMemGetInfo(free: *mut usize, total: *mut usize) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaMemcpy(
        dst: *mut ::std::os::raw::c_void,
        src: *const ::std::os::raw::c_void,
        count: usize,
        kind: cudaMemcpyKind,
    ) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaMemcpyAsync(
        dst: *mut ::std::os::raw::c_void,
        src: *const ::std::os::raw::c_void,
        count: usize,
        kind: cudaMemcpyKind,
        stream: cudaStream_t,
    ) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaMemcpy2DAsync(
        dst: *mut ::std::os::raw::c_void,
        dpitch: usize,
        src: *const ::std::os::raw::c_void,
        spitch: usize,
        width: usize,
        height: usize,
        kind: cudaMemcpyKind,
        stream: cudaStream_t,
    ) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaMemset(
        devPtr: *mut ::std::os::raw::c_void,
        value: ::std::os::raw::c_int,
        count: usize,
    ) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaMemsetAsync(
        devPtr: *mut ::std::os::raw::c_void,
        value: ::std::os::raw::c_int,
        count: usize,
        stream: cudaStream_t,
    ) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaPointerGetAttributes(
        attributes: *mut cudaPointerAttributes,
        ptr: *const ::std::os::raw::c_void,
    ) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaDriverGetVersion(
        driverVersion: *mut ::std::os::raw::c_int,
    ) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaRuntimeGetVersion(
        runtimeVersion: *mut ::std::os::raw::c_int,
    ) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaGraphInstantiate(
        pGraphExec: *mut cudaGraphExec_t,
        graph: cudaGraph_t,
        flags: ::std::os::raw::c_ulonglong,
    ) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaGraphLaunch(
        graphExec: cudaGraphExec_t,
        stream: cudaStream_t,
    ) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaGraphExecDestroy(graphExec: cudaGraphExec_t) -> cudaError_t;
}
unsafe extern "C" {
    pub fn cudaGraphDestroy(graph: cudaGraph_t) -> cudaError_t;
}
