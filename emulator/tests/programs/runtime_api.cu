// Calls of the CUDA runtime and the codes they give, one line each: `label = code`. What an H100 printed (driver
// 580.159.04, runtime 13.5) is in tests/data/runtime_api*_h100.txt; the emulator has to print the same.
//   nvcc -std=c++17 -O1 -cudart shared -gencode arch=compute_90,code=sm_90 runtime_api.cu && ./a.out [illegal|misaligned]
#include <cuda_runtime.h>

#include <cstdio>
#include <cstring>
#include <thread>

namespace {

__global__ void store(int* to, int value) { *to = value; }
__global__ void __launch_bounds__(64) bounded(int* to) { *to = 1; }
__global__ void with_static(int* to) {
  __shared__ int tile[1024];
  tile[threadIdx.x] = threadIdx.x;
  __syncthreads();
  *to = tile[threadIdx.x ^ 1];
}
__global__ void add(int* to, int const* from) { *to += *from; }
__global__ void __cluster_dims__(2, 1, 1) of_two(int* to) { *to = 2; }
__device__ int variable = 5;
__constant__ int constants[4] = {1, 2, 3, 4};

void show(char const* label, long long value) { std::printf("%s = %lld\n", label, value); }

// The code, and that the runtime keeps it for one cudaGetLastError.
void code(char const* label, cudaError_t error) {
  cudaError_t const peeked = cudaPeekAtLastError();
  cudaError_t const last = cudaGetLastError();
  cudaError_t const after = cudaGetLastError();
  std::printf("%s = %d (last %d %d %d)\n", label, error, peeked, last, after);
}

#define CODE(call) code(#call, call)

template <class... Args>
cudaError_t launch(void (*kernel)(Args...), dim3 grid, dim3 block, size_t smem, cudaStream_t stream, dim3 cluster,
                   Args... args) {
  void* pointers[] = {&args...};
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = smem;
  config.stream = stream;
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim.x = cluster.x;
  attribute.val.clusterDim.y = cluster.y;
  attribute.val.clusterDim.z = cluster.z;
  config.attrs = &attribute;
  config.numAttrs = cluster.x == 0 && cluster.y == 1 ? 0 : 1;
  return cudaLaunchKernelExC(&config, reinterpret_cast<void const*>(kernel), pointers);
}

dim3 const kNoCluster(0, 1, 1);

int* device_int = nullptr;

int value() {
  int host = -1;
  cudaMemcpy(&host, device_int, sizeof host, cudaMemcpyDefault);
  return host;
}

void devices() {
  int number = -1;
  CODE(cudaGetDeviceCount(nullptr));
  CODE(cudaSetDevice(7));
  CODE(cudaSetDevice(-1));
  CODE(cudaGetDevice(&number));
  CODE(cudaDeviceGetAttribute(&number, cudaDevAttrWarpSize, 7));
  CODE(cudaDeviceGetAttribute(&number, static_cast<cudaDeviceAttr>(9999), 0));
  for (cudaDeviceAttr const attribute :
       {cudaDevAttrMaxThreadsPerBlock, cudaDevAttrMaxBlockDimX, cudaDevAttrMaxBlockDimY, cudaDevAttrMaxBlockDimZ,
        cudaDevAttrMaxGridDimX, cudaDevAttrMaxGridDimY, cudaDevAttrMaxGridDimZ, cudaDevAttrMaxSharedMemoryPerBlock,
        cudaDevAttrTotalConstantMemory, cudaDevAttrWarpSize, cudaDevAttrMaxPitch, cudaDevAttrMaxRegistersPerBlock,
        cudaDevAttrTextureAlignment, cudaDevAttrMultiProcessorCount, cudaDevAttrGpuOverlap,
        cudaDevAttrCanMapHostMemory, cudaDevAttrConcurrentKernels, cudaDevAttrL2CacheSize,
        cudaDevAttrMaxThreadsPerMultiProcessor, cudaDevAttrUnifiedAddressing, cudaDevAttrTexturePitchAlignment,
        cudaDevAttrComputeCapabilityMajor, cudaDevAttrComputeCapabilityMinor, cudaDevAttrStreamPrioritiesSupported,
        cudaDevAttrGlobalL1CacheSupported, cudaDevAttrLocalL1CacheSupported,
        cudaDevAttrMaxSharedMemoryPerMultiprocessor, cudaDevAttrMaxRegistersPerMultiprocessor,
        cudaDevAttrManagedMemory, cudaDevAttrSingleToDoublePrecisionPerfRatio, cudaDevAttrComputePreemptionSupported,
        cudaDevAttrCooperativeLaunch, cudaDevAttrMaxSharedMemoryPerBlockOptin, cudaDevAttrHostRegisterSupported,
        cudaDevAttrMaxBlocksPerMultiprocessor, cudaDevAttrReservedSharedMemoryPerBlock, cudaDevAttrClusterLaunch,
        cudaDevAttrGlobalMemoryBusWidth, cudaDevAttrSurfaceAlignment, cudaDevAttrMemSyncDomainCount}) {
    cudaError_t const error = cudaDeviceGetAttribute(&number, attribute, 0);
    std::printf("attribute %d = %d, %d\n", attribute, error, number);
  }
  cudaGetLastError();
  int least = 1, greatest = 1;
  CODE(cudaDeviceGetStreamPriorityRange(&least, &greatest));
  show("least priority", least);
  show("greatest priority", greatest);
  char text[32];
  CODE(cudaDeviceGetPCIBusId(text, 4, 0));
  CODE(cudaDeviceGetPCIBusId(text, sizeof text, 0));
  show("length of a bus id", static_cast<long long>(std::strlen(text)));
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult result{};
  CODE(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &result));
  show("found", entry != nullptr);
  show("result", result);
  CODE(cudaGetDriverEntryPointByVersion("cuNoSuchFunction", &entry, 12000, cudaEnableDefault, &result));
  show("found", entry != nullptr);
  show("result", result);
}

void memory() {
  void* pointer = nullptr;
  CODE(cudaMalloc(nullptr, 16));
  CODE(cudaMalloc(&pointer, 0));
  show("null for 0 bytes", pointer == nullptr);
  CODE(cudaMalloc(&pointer, size_t{1} << 50));
  CODE(cudaFree(nullptr));
  int local = 0;
  CODE(cudaFree(&local));
  CODE(cudaMalloc(&pointer, 1000));
  char* const bytes = static_cast<char*>(pointer);
  CODE(cudaFree(bytes + 256));
  show("aligned to 256", reinterpret_cast<size_t>(pointer) % 256 == 0);
  char host[2048];
  CODE(cudaMemcpy(host, bytes, 1000, cudaMemcpyDeviceToHost));
  CODE(cudaMemcpy(host, host + 1024, 1000, cudaMemcpyHostToHost));
  CODE(cudaMemcpy(host, host + 1024, 1000, cudaMemcpyDefault));
  CODE(cudaMemcpy(host, bytes, 0, cudaMemcpyDeviceToHost));
  CODE(cudaMemcpy(bytes, host, 10, static_cast<cudaMemcpyKind>(9)));
  CODE(cudaMemcpy(nullptr, host, 10, cudaMemcpyHostToDevice));
  CODE(cudaMemcpy(nullptr, host, 0, cudaMemcpyHostToDevice));
  CODE(cudaMemcpy2D(bytes, 10, host, 20, 15, 3, cudaMemcpyHostToDevice));
  CODE(cudaMemcpy2D(bytes, 20, host, 30, 15, 3, cudaMemcpyHostToDevice));
  CODE(cudaMemset(bytes, 7, 1000));
  CODE(cudaMemset2D(bytes, 100, 9, 10, 10));
  CODE(cudaMemset(host, 7, 10));
  CODE(cudaMemcpy(host, bytes, 1000, cudaMemcpyDeviceToHost));
  show("filled", host[0] * 100 + host[10]);
  cudaPointerAttributes attributes{};
  auto const kind = [&](char const* label, void const* of) {
    attributes = {};
    code(label, cudaPointerGetAttributes(&attributes, of));
    std::printf("  type %d, device %d, device pointer %d, host pointer %d\n", attributes.type, attributes.device,
                attributes.devicePointer == of, attributes.hostPointer == of);
  };
  kind("attributes of memory of the device", bytes + 10);
  kind("attributes of a local", &local);
  kind("attributes of null", nullptr);
  CODE(cudaFree(pointer));
  CODE(cudaFree(pointer));
  CODE(cudaMallocHost(&pointer, 100));
  kind("attributes of page-locked memory", pointer);
  CODE(cudaFree(pointer));
  CODE(cudaFreeHost(pointer));
  CODE(cudaFreeHost(nullptr));
  CODE(cudaFreeHost(&local));
  CODE(cudaHostAlloc(&pointer, 100, 64));
  CODE(cudaMallocHost(&pointer, 0));
  show("null for 0 bytes", pointer == nullptr);
  CODE(cudaMallocManaged(&pointer, 0));
  CODE(cudaMallocManaged(&pointer, 100));
  kind("attributes of managed memory", pointer);
  CODE(cudaFree(pointer));
  CODE(cudaHostRegister(host, sizeof host, 0));
  CODE(cudaHostRegister(host, sizeof host, 0));
  CODE(cudaHostUnregister(host));
  CODE(cudaHostUnregister(host));
  CODE(cudaMallocAsync(&pointer, 100, nullptr));
  CODE(cudaFreeAsync(pointer, nullptr));
  CODE(cudaFreeAsync(nullptr, nullptr));
  int five = 0;
  CODE(cudaMemcpyFromSymbol(&five, variable, sizeof five));
  show("variable", five);
  five = 6;
  CODE(cudaMemcpyToSymbol(variable, &five, sizeof five));
  CODE(cudaMemcpyToSymbol(variable, &five, sizeof five, 4));
  CODE(cudaMemcpyToSymbol(variable, &five, sizeof five, 0, cudaMemcpyDeviceToHost));
  int all[4] = {};
  CODE(cudaMemcpyFromSymbol(all, constants, sizeof all));
  show("constants", all[0] * 1000 + all[1] * 100 + all[2] * 10 + all[3]);
  size_t size = 0;
  CODE(cudaGetSymbolSize(&size, constants));
  show("size", static_cast<long long>(size));
  CODE(cudaGetSymbolAddress(&pointer, variable));
  kind("attributes of a variable", pointer);
  CODE(cudaGetSymbolAddress(&pointer, local));
}

void launches() {
  CODE(cudaMalloc(&device_int, sizeof(int)));
  auto const run = [&](char const* label, cudaError_t error) {
    code(label, error);
    cudaError_t const done = cudaDeviceSynchronize();
    if (done != cudaSuccess) {
      code("  then", done);
    }
  };
#define RUN(...) run(#__VA_ARGS__, launch(__VA_ARGS__))
  RUN(store, 1, 1, 0, nullptr, kNoCluster, device_int, 41);
  show("stored", value());
  RUN(store, 0, 1, 0, nullptr, kNoCluster, device_int, 1);
  RUN(store, 1, 0, 0, nullptr, kNoCluster, device_int, 1);
  RUN(store, 1, 1025, 0, nullptr, kNoCluster, device_int, 1);
  RUN(store, 1, dim3(1, 1, 65), 0, nullptr, kNoCluster, device_int, 1);
  RUN(store, dim3(1, 65536), 1, 0, nullptr, kNoCluster, device_int, 1);
  RUN(bounded, 1, 64, 0, nullptr, kNoCluster, device_int);
  RUN(bounded, 1, 65, 0, nullptr, kNoCluster, device_int);
  RUN(store, 1, 1, 49152, nullptr, kNoCluster, device_int, 1);
  RUN(store, 1, 1, 49153, nullptr, kNoCluster, device_int, 1);
  RUN(with_static, 1, 1024, 45056, nullptr, kNoCluster, device_int);
  RUN(with_static, 1, 1024, 45057, nullptr, kNoCluster, device_int);
  RUN(store, 1, 1, 300000, nullptr, kNoCluster, device_int, 1);
  CODE(cudaFuncSetAttribute(store, cudaFuncAttributeMaxDynamicSharedMemorySize, 232449));
  CODE(cudaFuncSetAttribute(store, cudaFuncAttributeMaxDynamicSharedMemorySize, -1));
  CODE(cudaFuncSetAttribute(store, cudaFuncAttributeMaxDynamicSharedMemorySize, 232448));
  CODE(cudaFuncSetAttribute(with_static, cudaFuncAttributeMaxDynamicSharedMemorySize, 232448));
  CODE(cudaFuncSetAttribute(with_static, cudaFuncAttributeMaxDynamicSharedMemorySize, 228352));
  RUN(store, 1, 1, 232448, nullptr, kNoCluster, device_int, 1);
  RUN(store, 1, 1, 232449, nullptr, kNoCluster, device_int, 1);
  CODE(cudaFuncSetAttribute(store, static_cast<cudaFuncAttribute>(99), 1));
  CODE(cudaFuncSetAttribute(store, cudaFuncAttributePreferredSharedMemoryCarveout, 101));
  CODE(cudaFuncSetAttribute(store, cudaFuncAttributePreferredSharedMemoryCarveout, 100));
  CODE(cudaFuncSetAttribute(reinterpret_cast<void const*>(&device_int), cudaFuncAttributeMaxDynamicSharedMemorySize, 1));
  RUN(store, 4, 1, 0, nullptr, dim3(2, 1, 1), device_int, 1);
  RUN(store, 3, 1, 0, nullptr, dim3(2, 1, 1), device_int, 1);
  RUN(store, 8, 1, 0, nullptr, dim3(8, 1, 1), device_int, 1);
  RUN(store, 16, 1, 0, nullptr, dim3(16, 1, 1), device_int, 1);
  RUN(store, 16, 1, 0, nullptr, dim3(0, 0, 0), device_int, 1);
  CODE(cudaFuncSetAttribute(store, cudaFuncAttributeNonPortableClusterSizeAllowed, 1));
  RUN(store, 16, 1, 0, nullptr, dim3(16, 1, 1), device_int, 1);
  RUN(store, 32, 1, 0, nullptr, dim3(32, 1, 1), device_int, 1);
  RUN(of_two, 4, 1, 0, nullptr, kNoCluster, device_int);
  RUN(of_two, 3, 1, 0, nullptr, kNoCluster, device_int);
  RUN(of_two, 4, 1, 0, nullptr, dim3(2, 1, 1), device_int);
  RUN(of_two, 4, 1, 0, nullptr, dim3(4, 1, 1), device_int);
  CODE(cudaLaunchKernel(reinterpret_cast<void const*>(&device_int), 1, 1, nullptr, 0, nullptr));
  store<<<1, 1>>>(device_int, 43);
  run("<<<>>>", cudaSuccess);
  show("stored", value());
  store<<<1, 2048>>>(device_int, 44);
  run("<<<1, 2048>>>", cudaSuccess);
  show("stored", value());
  void* arguments[] = {&device_int, &device_int};
  CODE(cudaLaunchCooperativeKernel(reinterpret_cast<void const*>(store), 1, 1, arguments, 0, nullptr));
  CODE(cudaLaunchCooperativeKernel(reinterpret_cast<void const*>(store), 1 << 20, 1024, arguments, 0, nullptr));
  CODE(cudaDeviceSynchronize());
  cudaFuncAttributes attributes{};
  CODE(cudaFuncGetAttributes(&attributes, with_static));
  show("static shared", static_cast<long long>(attributes.sharedSizeBytes));
  show("dynamic shared", attributes.maxDynamicSharedSizeBytes);
  show("threads", attributes.maxThreadsPerBlock);
  show("binary version", attributes.binaryVersion);
  CODE(cudaFuncGetAttributes(&attributes, bounded));
  show("threads", attributes.maxThreadsPerBlock);
  show("dynamic shared", attributes.maxDynamicSharedSizeBytes);
  CODE(cudaFuncGetAttributes(&attributes, of_two));
  show("cluster must be set", attributes.clusterDimMustBeSet);
  show("required width", attributes.requiredClusterWidth);
  int blocks = -1;
  CODE(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, store, 128, 0));
  show("blocks", blocks);
  CODE(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, store, 1024, 0));
  show("blocks", blocks);
  CODE(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, store, 128, 100000));
  show("blocks", blocks);
  CODE(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, store, 128, 232448));
  show("blocks", blocks);
  CODE(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, store, 128, 232449));
  show("blocks", blocks);
  CODE(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, with_static, 128, 228353));
  show("blocks", blocks);
  CODE(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, bounded, 128, 0));
  show("blocks", blocks);
  CODE(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, store, 0, 0));
  int least = 0, size = 0;
  CODE(cudaOccupancyMaxPotentialBlockSize(&least, &size, bounded));
  show("size", size);
  auto const clusters = [&](char const* label, void (*kernel)(int*, int), size_t smem, unsigned width) {
    cudaLaunchConfig_t config{};
    config.gridDim = 132 * 16;
    config.blockDim = 128;
    config.dynamicSmemBytes = smem;
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = width;
    attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
    config.attrs = &attribute;
    config.numAttrs = 1;
    int count = -1;
    code(label, cudaOccupancyMaxActiveClusters(&count, kernel, &config));
    show("clusters", count);
  };
  clusters("clusters of 1", store, 232448, 1);
  clusters("clusters of 2", store, 232448, 2);
  clusters("clusters of 2, too much shared memory", store, 232449, 2);
  clusters("clusters of 32", store, 0, 32);
}


void streams() {
  cudaStream_t stream = nullptr;
  CODE(cudaStreamCreateWithFlags(&stream, 7));
  CODE(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, -100));
  int priority = 9;
  CODE(cudaStreamGetPriority(stream, &priority));
  show("priority", priority);
  unsigned flags = 9;
  CODE(cudaStreamGetFlags(stream, &flags));
  show("flags", flags);
  int number = 9;
  CODE(cudaStreamGetDevice(stream, &number));
  CODE(cudaStreamGetDevice(nullptr, &number));
  CODE(cudaStreamQuery(stream));
  CODE(cudaStreamSynchronize(stream));
  cudaEvent_t first = nullptr, second = nullptr, untimed = nullptr;
  CODE(cudaEventCreateWithFlags(&first, 99));
  CODE(cudaEventCreate(&first));
  CODE(cudaEventCreate(&second));
  CODE(cudaEventCreateWithFlags(&untimed, cudaEventDisableTiming));
  float ms = -1;
  CODE(cudaEventQuery(first));
  CODE(cudaEventSynchronize(first));
  CODE(cudaEventElapsedTime(&ms, first, second));
  CODE(cudaStreamWaitEvent(stream, first, 0));
  CODE(cudaEventRecord(first, stream));
  CODE(cudaEventRecord(second, stream));
  CODE(cudaEventRecord(untimed, stream));
  CODE(cudaStreamSynchronize(stream));
  CODE(cudaEventElapsedTime(&ms, first, second));
  show("not negative", ms >= 0);
  CODE(cudaEventElapsedTime(&ms, first, untimed));
  CODE(cudaEventRecord(first, cudaStreamPerThread));
  CODE(cudaEventRecord(first, cudaStreamLegacy));
  CODE(cudaEventRecord(nullptr, stream));
  CODE(cudaEventQuery(nullptr));
  CODE(cudaEventDestroy(nullptr));
  CODE(cudaEventDestroy(first));
  CODE(cudaEventDestroy(second));
  CODE(cudaEventDestroy(untimed));
  CODE(cudaStreamDestroy(stream));
}

cudaStream_t make_stream(unsigned flags) {
  cudaStream_t stream = nullptr;
  cudaStreamCreateWithFlags(&stream, flags);
  return stream;
}

cudaEvent_t make_event() {
  cudaEvent_t event = nullptr;
  cudaEventCreate(&event);
  return event;
}

// Ends a capture: the code, and how many nodes the graph has.
void end(char const* label, cudaStream_t stream) {
  cudaGraph_t graph = nullptr;
  cudaError_t const error = cudaStreamEndCapture(stream, &graph);
  code(label, error);
  size_t nodes = 0;
  if (graph != nullptr) {
    cudaGraphGetNodes(graph, nullptr, &nodes);
    cudaGraphDestroy(graph);
  }
  show("  nodes", graph == nullptr ? -1 : static_cast<long long>(nodes));
}

void capturing(char const* label, cudaStream_t stream) {
  cudaStreamCaptureStatus status{};
  cudaError_t const error = cudaStreamIsCapturing(stream, &status);
  code(label, error);
  if (error == cudaSuccess) {
    show("  status", status);
  }
}

// In each mode: a call while a stream is captured, and what it did to the capture.
template <class Call>
void during(char const* label, Call call, unsigned flags = cudaStreamNonBlocking) {
  for (int mode = 0; mode < 3; ++mode) {
    for (int relaxed = 0; relaxed < 2; ++relaxed) {
      cudaStream_t const stream = make_stream(flags);
      cudaStreamBeginCapture(stream, static_cast<cudaStreamCaptureMode>(mode));
      cudaMemsetAsync(device_int, 0, 4, stream);
      cudaStreamCaptureMode swapped = relaxed ? cudaStreamCaptureModeRelaxed : cudaStreamCaptureModeGlobal;
      cudaThreadExchangeStreamCaptureMode(&swapped);
      cudaError_t const error = call(stream);
      cudaThreadExchangeStreamCaptureMode(&swapped);
      cudaGraph_t graph = nullptr;
      cudaError_t const ended = cudaStreamEndCapture(stream, &graph);
      std::printf("capture of mode %d%s, %s = %d, end %d\n", mode, relaxed ? ", thread relaxed" : "", label, error,
                  ended);
      if (graph != nullptr) {
        cudaGraphDestroy(graph);
      }
      cudaGetLastError();
      cudaStreamDestroy(stream);
    }
  }
}

// The same, with the call in another thread.
template <class Call>
void beside(char const* label, Call call, unsigned flags = cudaStreamNonBlocking) {
  for (int mode = 0; mode < 3; ++mode) {
    for (int own = 0; own < 3; ++own) {
      cudaStream_t const stream = make_stream(flags);
      cudaStreamBeginCapture(stream, static_cast<cudaStreamCaptureMode>(mode));
      cudaMemsetAsync(device_int, 0, 4, stream);
      cudaError_t error = cudaSuccess;
      std::thread([&] {
        cudaStreamCaptureMode swapped = static_cast<cudaStreamCaptureMode>(own);
        cudaThreadExchangeStreamCaptureMode(&swapped);
        error = call(stream);
      }).join();
      cudaGraph_t graph = nullptr;
      cudaError_t const ended = cudaStreamEndCapture(stream, &graph);
      std::printf("capture of mode %d, other thread of mode %d, %s = %d, end %d\n", mode, own, label, error, ended);
      if (graph != nullptr) {
        cudaGraphDestroy(graph);
      }
      cudaGetLastError();
      if (ended == cudaErrorStreamCaptureWrongThread) {
        cudaStreamEndCapture(stream, &graph);
        cudaGetLastError();
      }
      cudaStreamDestroy(stream);
    }
  }
}

void captures() {
  cudaStream_t const stream = make_stream(cudaStreamNonBlocking), side = make_stream(cudaStreamNonBlocking);
  cudaEvent_t const fork = make_event(), join = make_event();
  cudaGraph_t graph = nullptr;
  CODE(cudaStreamEndCapture(stream, &graph));
  CODE(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeGlobal));
  CODE(cudaStreamBeginCapture(cudaStreamLegacy, cudaStreamCaptureModeGlobal));
  CODE(cudaStreamBeginCapture(stream, static_cast<cudaStreamCaptureMode>(5)));
  CODE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  capturing("captured stream", stream);
  capturing("other stream", side);
  capturing("legacy stream", nullptr);
  CODE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  capturing("captured stream", stream);
  end("empty capture", stream);

  CODE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  CODE(launch(store, 1, 1, 0, stream, kNoCluster, device_int, 50));
  CODE(launch(store, 1, 2000, 0, stream, kNoCluster, device_int, 50));
  capturing("after an impossible launch", stream);
  CODE(cudaMemsetAsync(device_int, 0, 4, stream));
  end("kernel and fill", stream);

  CODE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  CODE(cudaEventRecord(fork, stream));
  CODE(cudaStreamWaitEvent(side, fork, 0));
  capturing("joined stream", side);
  CODE(cudaMemsetAsync(device_int, 0, 4, side));
  CODE(cudaEventQuery(fork));
  capturing("after a look at a captured event", stream);
  end("end", stream);
  capturing("joined stream after the end", side);

  CODE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  CODE(cudaEventRecord(fork, stream));
  CODE(cudaStreamWaitEvent(side, fork, 0));
  CODE(cudaMemsetAsync(device_int, 0, 4, side));
  end("end of a joined stream", side);
  capturing("captured stream", stream);
  end("unjoined", stream);

  CODE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  CODE(cudaEventRecord(fork, stream));
  CODE(cudaStreamWaitEvent(side, fork, 0));
  CODE(cudaMemsetAsync(device_int, 0, 4, side));
  end("unjoined", stream);

  CODE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  CODE(cudaEventRecord(fork, stream));
  CODE(cudaStreamWaitEvent(side, fork, 0));
  end("fork without work", stream);
  capturing("joined stream after the end", side);

  CODE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  CODE(cudaEventRecord(fork, stream));
  CODE(cudaStreamWaitEvent(side, fork, 0));
  CODE(cudaMemsetAsync(device_int, 0, 4, side));
  CODE(cudaEventRecord(join, side));
  CODE(cudaStreamWaitEvent(stream, join, 0));
  CODE(cudaMemsetAsync(device_int, 1, 4, stream));
  end("joined", stream);
  CODE(cudaEventQuery(join));
  CODE(cudaEventSynchronize(join));
  CODE(cudaStreamWaitEvent(side, join, 0));
  CODE(cudaEventRecord(join, side));
  CODE(cudaEventSynchronize(join));

  CODE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  CODE(cudaStreamWaitEvent(stream, join, 0));
  end("waited for an event of outside", stream);
  cudaEvent_t const never = make_event();
  CODE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  CODE(cudaStreamWaitEvent(stream, never, 0));
  end("waited for an event that was recorded nowhere", stream);

  CODE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  CODE(cudaStreamBeginCapture(side, cudaStreamCaptureModeThreadLocal));
  CODE(cudaEventRecord(fork, stream));
  CODE(cudaStreamWaitEvent(side, fork, 0));
  end("merged, first", stream);
  end("merged, second", side);

  CODE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  CODE(cudaEventRecord(fork, stream));
  CODE(cudaStreamWaitEvent(nullptr, fork, 0));
  end("waited for in the legacy stream", stream);

  CODE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  CODE(cudaStreamSynchronize(stream));
  CODE(cudaMemsetAsync(device_int, 0, 4, stream));
  CODE(cudaEventRecord(fork, stream));
  CODE(cudaStreamWaitEvent(side, fork, 0));
  CODE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  capturing("invalidated", stream);
  end("invalidated", stream);
  capturing("ended", stream);

  std::thread([&] { cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal); }).join();
  CODE(cudaMemsetAsync(device_int, 0, 4, stream));
  end("other thread, thread-local", stream);
  capturing("after the wrong thread", stream);
  end("other thread, thread-local, again", stream);
  std::thread([&] { cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed); }).join();
  end("other thread, relaxed", stream);
  capturing("ended", stream);

  cudaStream_t const doomed = make_stream(cudaStreamNonBlocking);
  CODE(cudaStreamBeginCapture(doomed, cudaStreamCaptureModeThreadLocal));
  CODE(cudaStreamDestroy(doomed));
  CODE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  end("after another captured stream was destroyed", stream);

  // The legacy stream while a stream is captured that orders itself with it.
  cudaStream_t const blocking = make_stream(cudaStreamDefault);
  CODE(cudaStreamBeginCapture(blocking, cudaStreamCaptureModeThreadLocal));
  capturing("legacy stream beside a blocking one", nullptr);
  capturing("blocking stream", blocking);
  CODE(cudaMemsetAsync(device_int, 0, 4, nullptr));
  capturing("blocking stream", blocking);
  end("legacy stream was used", blocking);

  int host = 0;
  void* pointer = nullptr;
  during("cudaMalloc", [&](cudaStream_t) { return cudaMalloc(&pointer, 64); });
  during("cudaFree", [&](cudaStream_t) {
    cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    cudaThreadExchangeStreamCaptureMode(&mode);
    cudaMalloc(&pointer, 64);
    cudaThreadExchangeStreamCaptureMode(&mode);
    return cudaFree(pointer);
  });
  during("cudaMallocHost", [&](cudaStream_t) { return cudaMallocHost(&pointer, 64); });
  during("cudaMemcpy", [&](cudaStream_t) { return cudaMemcpy(&host, device_int, 4, cudaMemcpyDeviceToHost); });
  during("cudaMemset", [&](cudaStream_t) { return cudaMemset(device_int, 0, 4); });
  during("cudaMemset beside a blocking stream", [&](cudaStream_t) { return cudaMemset(device_int, 0, 4); },
         cudaStreamDefault);
  during("cudaMemsetAsync in the legacy stream", [&](cudaStream_t) {
    return cudaMemsetAsync(device_int, 0, 4, nullptr);
  });
  during("cudaMemsetAsync in another stream", [&](cudaStream_t) { return cudaMemsetAsync(device_int, 0, 4, side); });
  during("cudaMemcpyAsync from pageable memory", [&](cudaStream_t captured) {
    return cudaMemcpyAsync(device_int, &host, 4, cudaMemcpyHostToDevice, captured);
  });
  during("cudaStreamSynchronize of another stream", [&](cudaStream_t) { return cudaStreamSynchronize(side); });
  during("cudaStreamQuery of another stream", [&](cudaStream_t) { return cudaStreamQuery(side); });
  during("cudaStreamQuery", [&](cudaStream_t captured) { return cudaStreamQuery(captured); });
  during("cudaStreamSynchronize", [&](cudaStream_t captured) { return cudaStreamSynchronize(captured); });
  during("cudaDeviceSynchronize", [&](cudaStream_t) { return cudaDeviceSynchronize(); });
  during("cudaEventQuery of an event of outside", [&](cudaStream_t) { return cudaEventQuery(join); });
  during("cudaEventSynchronize of an event of outside", [&](cudaStream_t) { return cudaEventSynchronize(join); });
  during("cudaEventCreate", [&](cudaStream_t) {
    cudaEvent_t event = nullptr;
    return cudaEventCreate(&event);
  });
  during("cudaStreamCreate", [&](cudaStream_t) {
    cudaStream_t other = nullptr;
    return cudaStreamCreate(&other);
  });
  during("cudaMemGetInfo", [&](cudaStream_t) {
    size_t available = 0, total = 0;
    return cudaMemGetInfo(&available, &total);
  });
  during("cudaFuncSetAttribute", [&](cudaStream_t) {
    return cudaFuncSetAttribute(store, cudaFuncAttributeMaxDynamicSharedMemorySize, 1000);
  });
  during("cudaPointerGetAttributes", [&](cudaStream_t) {
    cudaPointerAttributes attributes{};
    return cudaPointerGetAttributes(&attributes, device_int);
  });
  during("cudaMemcpyToSymbol", [&](cudaStream_t) { return cudaMemcpyToSymbol(variable, &host, 4); });
  during("cudaGetSymbolAddress", [&](cudaStream_t) { return cudaGetSymbolAddress(&pointer, variable); });
  during("a launch with impossible sizes", [&](cudaStream_t captured) {
    return launch(store, 1, 2000, 0, captured, kNoCluster, device_int, 50);
  });
  during("a copy that leaves its allocation null", [&](cudaStream_t captured) {
    return cudaMemcpyAsync(nullptr, device_int, 4, cudaMemcpyDeviceToDevice, captured);
  });
  beside("cudaMalloc", [&](cudaStream_t) { return cudaMalloc(&pointer, 64); });
  beside("cudaStreamSynchronize of another stream", [&](cudaStream_t) { return cudaStreamSynchronize(side); });
  beside("cudaEventQuery of an event of outside", [&](cudaStream_t) { return cudaEventQuery(join); });
  beside("cudaDeviceSynchronize", [&](cudaStream_t) { return cudaDeviceSynchronize(); });
  beside("cudaMemcpy", [&](cudaStream_t) { return cudaMemcpy(&host, device_int, 4, cudaMemcpyDeviceToHost); });
  beside("cudaMemsetAsync", [&](cudaStream_t captured) { return cudaMemsetAsync(device_int, 0, 4, captured); });
}

void graphs() {
  cudaStream_t const stream = make_stream(cudaStreamNonBlocking);
  int* other = nullptr;
  cudaMalloc(&other, sizeof(int));
  int one = 1;
  cudaMemcpy(other, &one, 4, cudaMemcpyHostToDevice);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  CODE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  // The arguments are copied when they are captured.
  int start = 100;
  void* arguments[] = {&device_int, &start};
  CODE(cudaLaunchKernel(reinterpret_cast<void const*>(store), 1, 1, arguments, 0, stream));
  start = 999;
  CODE(launch(add, 1, 1, 0, stream, kNoCluster, device_int, static_cast<int const*>(other)));
  CODE(cudaStreamEndCapture(stream, &graph));
  show("not run yet", value() != 101);
  CODE(cudaGraphInstantiate(&executable, graph, 0));
  CODE(cudaGraphDestroy(graph));
  CODE(cudaGraphLaunch(executable, stream));
  CODE(cudaStreamSynchronize(stream));
  show("sum", value());
  one = 7;
  cudaMemcpy(other, &one, 4, cudaMemcpyHostToDevice);
  CODE(cudaGraphUpload(executable, stream));
  CODE(cudaGraphLaunch(executable, nullptr));
  CODE(cudaDeviceSynchronize());
  show("sum", value());
  CODE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  CODE(cudaGraphLaunch(executable, stream));
  end("a graph in a capture", stream);
  CODE(cudaGraphExecDestroy(executable));
  CODE(cudaGraphInstantiate(&executable, nullptr, 0));
  CODE(cudaGraphCreate(&graph, 1));
  CODE(cudaGraphCreate(&graph, 0));
  CODE(cudaGraphInstantiateWithFlags(&executable, graph, 0));
  CODE(cudaGraphLaunch(executable, stream));
  CODE(cudaGraphExecDestroy(executable));
  CODE(cudaGraphDestroy(graph));
  int calls = 0;
  auto const count = [](void* argument) { ++*static_cast<int*>(argument); };
  CODE(cudaLaunchHostFunc(stream, count, &calls));
  CODE(cudaLaunchHostFunc(stream, nullptr, &calls));
  CODE(cudaStreamSynchronize(stream));
  show("calls", calls);
}

// Nothing works after a kernel failed.
void failure(int which) {
  int* const nowhere = reinterpret_cast<int*>(which == 0 ? 0x10 : reinterpret_cast<size_t>(device_int) + 2);
  CODE(launch(store, 1, 1, 0, nullptr, kNoCluster, nowhere, 1));
  CODE(cudaDeviceSynchronize());
  void* pointer = nullptr;
  size_t available = 0, total = 0;
  int number = 0;
  cudaStream_t stream = nullptr;
  cudaEvent_t event = nullptr;
  CODE(cudaMalloc(&pointer, 4));
  CODE(cudaFree(device_int));
  CODE(cudaMemGetInfo(&available, &total));
  CODE(cudaStreamCreate(&stream));
  CODE(cudaEventCreate(&event));
  CODE(cudaGetDevice(&number));
  CODE(cudaSetDevice(0));
  CODE(cudaGetDeviceCount(&number));
  CODE(cudaDeviceGetAttribute(&number, cudaDevAttrWarpSize, 0));
  CODE(cudaDriverGetVersion(&number));
  CODE(launch(store, 1, 1, 0, nullptr, kNoCluster, device_int, 1));
  CODE(cudaGetLastError());
}

}  // namespace

int main(int argc, char** argv) {
  char const* const part = argc > 1 ? argv[1] : "all";
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  if (std::strcmp(part, "illegal") == 0 || std::strcmp(part, "misaligned") == 0) {
    cudaMalloc(&device_int, 64);
    failure(std::strcmp(part, "misaligned") == 0);
    return 0;
  }
  devices();
  memory();
  launches();
  streams();
  captures();
  graphs();
  return 0;
}
