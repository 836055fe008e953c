// What streams, events and graphs order: each case once as it has to be, and once without what makes it right. Prints
// what the host saw at the end. queues CASE right|broken
#include <cstdio>
#include <cstring>
#include <string>

#include <cuda_runtime.h>

namespace {

constexpr int kCount = 256;
constexpr std::size_t kBytes = kCount * sizeof(int);

__global__ void add(int* to, int const* from, int number) { to[threadIdx.x] = from[threadIdx.x] + number; }
__global__ void set(int* to, int number) { to[threadIdx.x] = number; }
__global__ void outside(int* to) { to[std::size_t{1} << 40] = 1; }

char const* g_failed = nullptr;

// The first call that fails is what the program says.
void check(cudaError_t code) {
  if (code != cudaSuccess && g_failed == nullptr) {
    g_failed = cudaGetErrorName(code);
  }
}

cudaStream_t stream(unsigned flags = cudaStreamNonBlocking) {
  cudaStream_t made;
  check(cudaStreamCreateWithFlags(&made, flags));
  return made;
}

cudaEvent_t event() {
  cudaEvent_t made;
  check(cudaEventCreateWithFlags(&made, cudaEventDisableTiming));
  return made;
}

int* device() {
  int* made = nullptr;
  check(cudaMalloc(&made, kBytes));
  check(cudaMemset(made, 0, kBytes));
  check(cudaDeviceSynchronize());
  return made;
}

int* pinned(int number) {
  int* made = nullptr;
  check(cudaMallocHost(&made, kBytes));
  for (int i = 0; i < kCount; ++i) {
    made[i] = number;
  }
  return made;
}

void order(cudaStream_t first, cudaStream_t second, bool right) {
  cudaEvent_t const between = event();
  check(cudaEventRecord(between, first));
  if (right) {
    check(cudaStreamWaitEvent(second, between, 0));
  }
}

// All numbers alike, or the first that is another.
int number(int const* from) {
  static int host[kCount];
  check(cudaDeviceSynchronize());
  check(cudaMemcpy(host, from, kBytes, cudaMemcpyDefault));
  for (int i = 1; i < kCount; ++i) {
    if (host[i] != host[0]) {
      return host[i];
    }
  }
  return host[0];
}

int event_orders_streams(bool right) {
  auto const [first, second] = std::pair{stream(), stream()};
  int *a = device(), *b = device();
  set<<<1, kCount, 0, first>>>(a, 7);
  order(first, second, right);
  add<<<1, kCount, 0, second>>>(b, a, 1);
  return number(b);
}

// An event that is recorded again stands for the later point, but not for who waited before.
int event_is_recorded_again(bool right) {
  auto const [first, second] = std::pair{stream(), stream()};
  int *a = device(), *b = device();
  cudaEvent_t const between = event();
  check(cudaEventRecord(between, first));
  if (!right) {
    check(cudaStreamWaitEvent(second, between, 0));
  }
  set<<<1, kCount, 0, first>>>(a, 7);
  check(cudaEventRecord(between, first));
  if (right) {
    check(cudaStreamWaitEvent(second, between, 0));
  }
  add<<<1, kCount, 0, second>>>(b, a, 1);
  return number(b);
}

int buffer_is_used_again(bool right) {
  auto const [first, second] = std::pair{stream(), stream()};
  int *a = device(), *b = device();
  set<<<1, kCount, 0, first>>>(a, 7);
  check(cudaStreamSynchronize(first));
  add<<<1, kCount, 0, first>>>(b, a, 1);
  order(first, second, right);
  check(cudaMemsetAsync(a, 0, kBytes, second));
  return number(b);
}

int host_reads_after_a_wait(bool right) {
  cudaStream_t const only = stream();
  int *a = device(), *host = pinned(1);
  set<<<1, kCount, 0, only>>>(a, 7);
  check(cudaMemcpyAsync(host, a, kBytes, cudaMemcpyDeviceToHost, only));
  if (right) {
    cudaEvent_t const end = event();
    check(cudaEventRecord(end, only));
    check(cudaEventSynchronize(end));
  }
  return host[kCount - 1];
}

int host_polls(bool right) {
  cudaStream_t const only = stream();
  int *a = device(), *host = pinned(1);
  set<<<1, kCount, 0, only>>>(a, 7);
  check(cudaMemcpyAsync(host, a, kBytes, cudaMemcpyDeviceToHost, only));
  cudaError_t state = cudaErrorNotReady;
  for (int i = 0; state == cudaErrorNotReady && (right || i < 1); ++i) {
    state = cudaStreamQuery(only);
  }
  check(state == cudaErrorNotReady ? cudaSuccess : state);
  (void)cudaGetLastError();
  return host[kCount - 1];
}

int page_locked_source_is_kept(bool right) {
  cudaStream_t const only = stream();
  int *a = device(), *host = pinned(7);
  check(cudaMemcpyAsync(a, host, kBytes, cudaMemcpyHostToDevice, only));
  if (right) {
    check(cudaStreamSynchronize(only));
  }
  std::memset(host, 0, kBytes);
  return number(a);
}

// Memory that is not page-locked was read when the call returns; there is nothing to break.
int pageable_source_is_free_at_once(bool) {
  cudaStream_t const only = stream();
  int* a = device();
  static int host[kCount];
  for (int& value : host) {
    value = 7;
  }
  check(cudaMemcpyAsync(a, host, kBytes, cudaMemcpyHostToDevice, only));
  std::memset(host, 0, kBytes);
  return number(a);
}

int memory_is_given_back_in_order(bool right) {
  auto const [first, second] = std::pair{stream(), stream()};
  int *a = nullptr, *b = device();
  check(cudaMallocAsync(&a, kBytes, first));
  set<<<1, kCount, 0, first>>>(a, 7);
  add<<<1, kCount, 0, first>>>(b, a, 1);
  order(first, second, right);
  check(cudaFreeAsync(a, second));
  return number(b);
}

int memory_is_used_after_it_is_made(bool right) {
  auto const [first, second] = std::pair{stream(), stream()};
  int *a = nullptr, *b = device();
  check(cudaMallocAsync(&a, kBytes, first));
  order(first, second, right);
  set<<<1, kCount, 0, second>>>(a, 7);
  add<<<1, kCount, 0, second>>>(b, a, 1);
  return number(b);
}

// cudaFree waits for all work.
int memory_is_freed_after_all_work(bool) {
  cudaStream_t const only = stream();
  int *a = device(), *b = device();
  set<<<1, kCount, 0, only>>>(a, 7);
  add<<<1, kCount, 0, only>>>(b, a, 1);
  check(cudaFree(a));
  return number(b);
}

int graph_keeps_the_order_of_its_capture(bool right) {
  auto const [first, second] = std::pair{stream(), stream()};
  int *a = device(), *b = device(), *c = device();
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  check(cudaStreamBeginCapture(first, cudaStreamCaptureModeGlobal));
  order(first, second, true);
  set<<<1, kCount, 0, first>>>(a, 7);
  order(first, second, right);
  add<<<1, kCount, 0, second>>>(b, a, 1);
  order(second, first, true);
  add<<<1, kCount, 0, first>>>(c, b, 1);
  check(cudaStreamEndCapture(first, &graph));
  check(cudaGraphInstantiate(&executable, graph, 0));
  check(cudaGraphLaunch(executable, first));
  return number(c);
}

// Launches of one graph follow each other in whatever streams, those of two graphs do not.
int graph_follows_itself(bool right) {
  auto const [first, second] = std::pair{stream(), stream()};
  int *a = device(), *b = device();
  cudaGraph_t graph;
  cudaGraphExec_t executables[2];
  check(cudaStreamBeginCapture(first, cudaStreamCaptureModeGlobal));
  add<<<1, kCount, 0, first>>>(b, a, 1);
  check(cudaMemcpyAsync(a, b, kBytes, cudaMemcpyDeviceToDevice, first));
  check(cudaStreamEndCapture(first, &graph));
  for (auto& executable : executables) {
    check(cudaGraphInstantiate(&executable, graph, 0));
  }
  check(cudaGraphLaunch(executables[0], first));
  check(cudaGraphLaunch(executables[right ? 0 : 1], second));
  return number(a);
}

int legacy_stream_waits_for_blocking_ones(bool right) {
  cudaStream_t const other = stream(right ? cudaStreamDefault : cudaStreamNonBlocking);
  int *a = device(), *b = device();
  set<<<1, kCount, 0, other>>>(a, 7);
  add<<<1, kCount>>>(b, a, 1);
  return number(b);
}

int blocking_streams_wait_for_the_legacy_one(bool right) {
  cudaStream_t const other = right ? cudaStreamPerThread : stream();
  int *a = device(), *b = device();
  set<<<1, kCount>>>(a, 7);
  add<<<1, kCount, 0, other>>>(b, a, 1);
  return number(b);
}

// Within the device, cudaMemcpy does not wait; to the host it does.
int copies_to_the_host_wait(bool right) {
  int *a = device(), *b = device(), *host = pinned(1);
  set<<<1, kCount>>>(a, 7);
  check(cudaMemcpy(b, a, kBytes, cudaMemcpyDeviceToDevice));
  if (right) {
    check(cudaMemcpy(host, b, kBytes, cudaMemcpyDeviceToHost));
  } else {
    check(cudaMemcpyAsync(host, b, kBytes, cudaMemcpyDeviceToHost, nullptr));
  }
  return host[kCount - 1];
}

int functions_of_the_host_come_in_order(bool right) {
  auto const [first, second] = std::pair{stream(), stream()};
  int *a = device(), *host = pinned(1);
  auto const write = [](void* to) { std::fill_n(static_cast<int*>(to), kCount, 7); };
  check(cudaLaunchHostFunc(first, write, host));
  order(first, second, right);
  check(cudaMemcpyAsync(a, host, kBytes, cudaMemcpyHostToDevice, second));
  return number(a);
}

// The stream goes, its work does not.
int work_outlives_its_stream(bool) {
  cudaStream_t const only = stream();
  int* a = device();
  set<<<1, kCount, 0, only>>>(a, 7);
  check(cudaStreamDestroy(only));
  return number(a);
}

void say(char const* what, cudaError_t code) { std::printf("%s %s\n", what, cudaGetErrorName(code)); }

void failure_of_queued_work() {
  cudaStream_t const only = stream();
  int *a = device(), *b = device();
  static cudaError_t told = cudaErrorUnknown;
  outside<<<1, 1, 0, only>>>(a);
  say("launch", cudaGetLastError());
  if (cudaPeekAtLastError() == cudaSuccess) {
    set<<<1, kCount, 0, only>>>(b, 7);
    (void)cudaStreamAddCallback(only, [](cudaStream_t, cudaError_t code, void*) { told = code; }, nullptr, 0);
  }
  (void)cudaGetLastError();
  say("wait", cudaStreamSynchronize(only));
  say("wait again", cudaDeviceSynchronize());
  int* c = nullptr;
  say("allocate", cudaMalloc(&c, 4));
  say("reset", cudaDeviceReset());
  say("allocate", cudaMalloc(&c, 4));
}

void refused_by_the_device() {
  int* a = device();
  set<<<1, 2048>>>(a, 7);
  say("launch", cudaGetLastError());
  say("last error", cudaGetLastError());
  set<<<1, kCount>>>(a, 7);
  say("launch", cudaGetLastError());
  say("wait", cudaDeviceSynchronize());
}

void refused_by_the_emulator() {
  int* a = device();
  cudaLaunchAttribute attribute;
  attribute.id = cudaLaunchAttributeDeviceUpdatableKernelNode;
  attribute.val.deviceUpdatableKernelNode.deviceUpdatable = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = 1;
  config.blockDim = kCount;
  config.attrs = &attribute;
  config.numAttrs = 1;
  say("launch", cudaLaunchKernelEx(&config, set, a, 7));
  (void)cudaGetLastError();
  say("wait", cudaDeviceSynchronize());
  set<<<1, kCount>>>(a, 7);
  say("launch", cudaGetLastError());
}

struct Case {
  char const* name;
  int (*run)(bool right);
};

#define CASE(name) Case{#name, name}
constexpr Case kCases[] = {
    CASE(event_orders_streams),
    CASE(event_is_recorded_again),
    CASE(buffer_is_used_again),
    CASE(host_reads_after_a_wait),
    CASE(host_polls),
    CASE(page_locked_source_is_kept),
    CASE(pageable_source_is_free_at_once),
    CASE(memory_is_given_back_in_order),
    CASE(memory_is_used_after_it_is_made),
    CASE(memory_is_freed_after_all_work),
    CASE(graph_keeps_the_order_of_its_capture),
    CASE(graph_follows_itself),
    CASE(legacy_stream_waits_for_blocking_ones),
    CASE(blocking_streams_wait_for_the_legacy_one),
    CASE(copies_to_the_host_wait),
    CASE(functions_of_the_host_come_in_order),
    CASE(work_outlives_its_stream),
};

struct Report {
  char const* name;
  void (*run)();
};

constexpr Report kReports[] = {
    {"failure_of_queued_work", failure_of_queued_work},
    {"refused_by_the_device", refused_by_the_device},
    {"refused_by_the_emulator", refused_by_the_emulator},
};

}  // namespace

int main(int count, char** arguments) {
  std::string const name = count > 1 ? arguments[1] : "";
  bool const right = count > 2 && std::string(arguments[2]) == "right";
  for (Case const& one : kCases) {
    if (name == one.name) {
      int const value = one.run(right);
      if (g_failed != nullptr) {
        std::printf("%s\n", g_failed);
      } else {
        std::printf("%d\n", value);
      }
      return 0;
    }
  }
  for (Report const& one : kReports) {
    if (name == one.name) {
      one.run();
      return 0;
    }
  }
  std::printf("no case %s\n", name.c_str());
  return 1;
}
