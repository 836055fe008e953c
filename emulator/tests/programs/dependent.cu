// Programmatic dependent launch: chains of kernels that begin before the ones ahead of them have ended. Prints the sum
// of what the last one wrote, or the error. dependent CASE
#include <cstdint>
#include <cstdio>
#include <string>

#include <cuda_runtime.h>

namespace {

constexpr int kBlocks = 3;
constexpr int kThreads = 64;
constexpr int kCount = kBlocks * kThreads;
constexpr std::size_t kBytes = kCount * sizeof(int);

struct Buffers {
  int* in;       // read by the first kernel
  int* middle;   // written by the first kernel
  int* weights;  // written by nobody
  int* out;      // written by the last kernel
  int* spare;    // of the last kernel alone
  int* flag;
};

__device__ void wait() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
__device__ void launch_dependents() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }
__device__ int here() { return static_cast<int>(blockIdx.x * kThreads + threadIdx.x); }

enum class Trigger { kNone, kFirst, kLast };

__global__ void first(Buffers buffers, Trigger trigger) {
  if (trigger == Trigger::kFirst) {
    launch_dependents();
  }
  buffers.middle[here()] = buffers.in[here()] + 1;
  if (trigger == Trigger::kLast) {
    launch_dependents();
  }
}

// Between the first and the last one; it touches nothing of theirs.
__global__ void between(Buffers buffers, bool waits, bool triggers_before) {
  if (triggers_before) {
    launch_dependents();
  }
  if (waits) {
    wait();
  }
  buffers.spare[here()] = 0;
  launch_dependents();
}

enum class Mode {
  kWait,
  kNoWait,
  kWeightsEarly,
  kOneWarpAndBarrier,
  kOneWarpAlone,
  kOneLane,
  kLateBarrier,
  kOverwritesIn,
  kOverwritesMiddle,
  kOwnBytes,
  kBulkLoad,
  kBulkLoadAfter,
  kBulkStore,
  kAsyncCopy,
  kAtomic,
  kOneBlock,
  kOneBlockAlone,
  kNeverWaits,
};

__device__ std::uint32_t loading() {
  __shared__ std::uint64_t barrier;
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(&barrier));
}

__device__ void bulk_load(int* into, int const* from) {
  std::uint32_t const at = loading();
  auto const to = static_cast<std::uint32_t>(__cvta_generic_to_shared(into));
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(at) : "memory");
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], 16;" ::"r"(at) : "memory");
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], 16, [%2];" ::"r"(to),
               "l"(from), "r"(at)
               : "memory");
}

__device__ void wait_for_load() {
  asm volatile(
      "{ .reg .pred done;\n again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], 0;\n @!done bra again; }" ::"r"(
          loading())
      : "memory");
}

__global__ void last(Buffers buffers, Mode mode) {
  __shared__ alignas(16) int shared[4];
  int const at = here();
  int const warp = static_cast<int>(threadIdx.x) / 32;
  bool const leads = threadIdx.x == 0;
  int extra = 0;
  switch (mode) {
    case Mode::kWait:
      wait();
      break;
    case Mode::kNoWait:
      break;
    case Mode::kNeverWaits:
      buffers.out[at] = buffers.weights[at];
      return;
    case Mode::kWeightsEarly:
      extra = buffers.weights[at];
      wait();
      break;
    case Mode::kOneWarpAndBarrier:
      if (warp == 0) {
        wait();
      }
      __syncthreads();
      break;
    case Mode::kOneWarpAlone:
      if (warp == 0) {
        wait();
      }
      break;
    case Mode::kOneLane:
      if (leads) {
        wait();
      }
      break;
    case Mode::kLateBarrier:  // the other warp computes for long, then reads
      if (warp == 0) {
        wait();
      } else {
        for (int i = 0; i < 40000; ++i) {
          asm volatile("add.s32 %0, %0, 1;" : "+r"(extra));
        }
        extra -= 40000;
      }
      break;
    case Mode::kOverwritesIn:
      buffers.in[at] = 0;
      wait();
      break;
    case Mode::kOverwritesMiddle:
      if (leads) {
        buffers.middle[at] = 0;
      }
      wait();
      break;
    case Mode::kOwnBytes:
      buffers.spare[at] = 4;
      extra = buffers.spare[at] - 4;
      wait();
      break;
    case Mode::kBulkLoad:
      if (leads) {
        bulk_load(shared, buffers.middle);
      }
      wait();
      if (leads) {
        wait_for_load();
      }
      break;
    case Mode::kBulkLoadAfter:
      wait();
      if (leads) {
        bulk_load(shared, buffers.middle);
        wait_for_load();
      }
      break;
    case Mode::kBulkStore:
      if (leads) {
        shared[0] = shared[1] = shared[2] = shared[3] = 0;
        auto const from = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], 16;" ::"l"(buffers.in), "r"(from)
                     : "memory");
        asm volatile("cp.async.bulk.commit_group;" ::: "memory");
        asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
      }
      wait();
      break;
    case Mode::kAsyncCopy: {
      auto const to = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
      if (leads) {
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(buffers.middle) : "memory");
        asm volatile("cp.async.wait_all;" ::: "memory");
      }
      wait();
      break;
    }
    case Mode::kAtomic:
      if (leads) {
        atomicAdd(buffers.middle, 0);
      }
      wait();
      break;
    case Mode::kOneBlock:  // the grid's first block waits and tells the others
      if (blockIdx.x == 0) {
        wait();
        if (leads) {
          __threadfence();
          atomicExch(buffers.flag, 1);
        }
      } else if (leads) {
        while (atomicAdd(buffers.flag, 0) == 0) {
        }
        __threadfence();
      }
      __syncthreads();
      break;
    case Mode::kOneBlockAlone:
      if (blockIdx.x == 0) {
        wait();
      }
      break;
  }
  buffers.out[at] = buffers.middle[at] + extra;
  if (mode == Mode::kWeightsEarly) {
    buffers.out[at] -= extra;
  }
}

cudaStream_t g_stream;

template <class... Parameters, class... Arguments>
void launch(bool programmatic, void (*kernel)(Parameters...), Arguments... arguments) {
  cudaLaunchAttribute attribute;
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = programmatic ? 1 : 0;
  cudaLaunchConfig_t config{};
  config.gridDim = kBlocks;
  config.blockDim = kThreads;
  config.stream = g_stream;
  config.attrs = &attribute;
  config.numAttrs = 1;
  cudaLaunchKernelEx(&config, kernel, arguments...);
}

struct Pair {
  char const* name;
  Mode mode;
};

constexpr Pair kPairs[] = {
    {"wait", Mode::kWait},
    {"no_wait", Mode::kNoWait},
    {"weights_early", Mode::kWeightsEarly},
    {"one_warp_and_barrier", Mode::kOneWarpAndBarrier},
    {"one_warp_alone", Mode::kOneWarpAlone},
    {"one_lane", Mode::kOneLane},
    {"late_reader", Mode::kLateBarrier},
    {"overwrites_what_is_read", Mode::kOverwritesIn},
    {"overwrites_what_is_written", Mode::kOverwritesMiddle},
    {"own_bytes", Mode::kOwnBytes},
    {"bulk_load", Mode::kBulkLoad},
    {"bulk_load_after", Mode::kBulkLoadAfter},
    {"bulk_store", Mode::kBulkStore},
    {"async_copy", Mode::kAsyncCopy},
    {"atomic", Mode::kAtomic},
    {"one_block", Mode::kOneBlock},
    {"one_block_alone", Mode::kOneBlockAlone},
};

bool run(std::string const& name, Buffers const& buffers) {
  for (Pair const& pair : kPairs) {
    if (name == pair.name || name == std::string("last_trigger_") + pair.name) {
      bool const at_end = name != pair.name;
      launch(false, first, buffers, at_end ? Trigger::kLast : Trigger::kFirst);
      launch(true, last, buffers, pair.mode);
      return true;
    }
  }
  auto const begin = [&](bool waits, bool triggers_before) {
    launch(false, first, buffers, Trigger::kFirst);
    launch(true, between, buffers, waits, triggers_before);
  };
  if (name == "nothing_triggers") {
    launch(false, first, buffers, Trigger::kNone);
    launch(true, last, buffers, Mode::kNoWait);
  } else if (name == "nothing_triggers_and_it_waits") {
    launch(false, first, buffers, Trigger::kNone);
    launch(true, last, buffers, Mode::kWait);
  } else if (name == "nothing_triggers_and_it_overwrites_what_was_read") {
    launch(false, first, buffers, Trigger::kNone);
    launch(true, last, buffers, Mode::kOverwritesIn);
  } else if (name == "ordinary_launch") {
    launch(false, first, buffers, Trigger::kFirst);
    launch(false, last, buffers, Mode::kNoWait);
  } else if (name == "chain") {
    begin(true, true);
    launch(true, last, buffers, Mode::kWait);
  } else if (name == "chain_without_wait_between") {
    begin(false, true);
    launch(true, last, buffers, Mode::kWait);
  } else if (name == "chain_reads_early") {
    begin(true, true);
    launch(true, last, buffers, Mode::kNoWait);
  } else if (name == "chain_triggers_after_its_wait") {
    begin(true, false);
    launch(true, last, buffers, Mode::kNoWait);
  } else if (name == "chain_ends_with_an_ordinary_launch") {
    begin(false, true);
    launch(false, last, buffers, Mode::kNoWait);
  } else if (name == "never_waits") {
    launch(false, first, buffers, Trigger::kFirst);
    launch(true, last, buffers, Mode::kNeverWaits);
  } else if (name == "memset_between") {
    launch(false, first, buffers, Trigger::kFirst);
    cudaMemsetAsync(buffers.spare, 0, kBytes, g_stream);
    launch(true, last, buffers, Mode::kNoWait);
  } else if (name == "wait_of_the_host_between") {
    launch(false, first, buffers, Trigger::kFirst);
    cudaStreamSynchronize(g_stream);
    launch(true, last, buffers, Mode::kNoWait);
  } else if (name == "event_between" || name == "event_waited_for") {
    cudaEvent_t event;
    cudaEventCreate(&event);
    launch(false, first, buffers, Trigger::kFirst);
    cudaEventRecord(event, g_stream);
    if (name == "event_waited_for") {
      cudaEventSynchronize(event);
    }
    launch(true, last, buffers, Mode::kNoWait);
  } else if (name == "seen_by_way_of_another_stream" || name == "another_stream_alone") {
    // The host waits for a stream that waited for the first kernel, or for one that did not.
    cudaEvent_t event;
    cudaStream_t other;
    cudaEventCreate(&event);
    cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking);
    launch(false, first, buffers, Trigger::kFirst);
    cudaEventRecord(event, g_stream);
    if (name == "seen_by_way_of_another_stream") {
      cudaStreamWaitEvent(other, event, 0);
    }
    cudaMemsetAsync(buffers.spare, 0, kBytes, other);
    cudaStreamSynchronize(other);
    launch(true, last, buffers, Mode::kNoWait);
  } else if (name == "graph" || name == "graph_no_wait") {
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    cudaStreamBeginCapture(g_stream, cudaStreamCaptureModeGlobal);
    launch(false, first, buffers, Trigger::kFirst);
    launch(true, last, buffers, name == "graph" ? Mode::kWait : Mode::kNoWait);
    cudaStreamEndCapture(g_stream, &graph);
    cudaGraphInstantiate(&executable, graph, 0);
    cudaGraphLaunch(executable, g_stream);
  } else if (name == "other_stream") {
    // What is ahead of it in its own stream is all that it may overlap; this is a race, but not of that kind.
    launch(false, first, buffers, Trigger::kFirst);
    cudaStreamSynchronize(g_stream);
    cudaStreamCreate(&g_stream);
    launch(true, last, buffers, Mode::kNoWait);
  } else {
    return false;
  }
  return true;
}

}  // namespace

int main(int count, char** arguments) {
  Buffers buffers{};
  for (int** buffer : {&buffers.in, &buffers.middle, &buffers.weights, &buffers.out, &buffers.spare, &buffers.flag}) {
    cudaMalloc(buffer, kBytes);
    cudaMemset(*buffer, 0, kBytes);
  }
  cudaDeviceSynchronize();
  cudaStreamCreateWithFlags(&g_stream, cudaStreamNonBlocking);
  if (!run(count > 1 ? arguments[1] : "", buffers)) {
    std::printf("no such case\n");
    return 1;
  }
  cudaError_t const code = cudaDeviceSynchronize();
  if (code != cudaSuccess) {
    std::printf("%s\n", cudaGetErrorName(code));
    return 0;
  }
  static int host[kCount];
  cudaMemcpy(host, buffers.out, kBytes, cudaMemcpyDeviceToHost);
  int sum = 0;
  for (int const value : host) {
    sum += value;
  }
  std::printf("%d\n", sum);
}
