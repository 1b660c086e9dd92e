// libpixii_cuda.so: a device, its stream, graphs, and the launches of kernels.cuh.
#include <cuda_runtime.h>

#include "kernels/cuda/kernels.cuh"

namespace pixii::kernels::cuda {

struct Device {
  cudaStream_t stream = nullptr;
  cudaError_t error = cudaSuccess;  // the first one
  cudaDeviceProp properties = {};
};

struct Graph {
  cudaGraphExec_t executable = nullptr;
};

namespace {

void Keep(Device* device, cudaError_t error) {
  if (device->error == cudaSuccess) {
    device->error = error;
  }
}

/// After each launch: a bad one is told by the next Synchronize.
void Launched(Device* device) { Keep(device, cudaGetLastError()); }

const char* Sentence(cudaError_t error) {
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

unsigned Count(std::int64_t value) { return static_cast<unsigned>(value); }

const char* Open(std::int32_t index, Device** out) {
  int count = 0;
  cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) {
    return cudaGetErrorString(error);
  }
  if (index >= count) {
    return "there is no such device";
  }
  auto* device = new Device;
  error = cudaSetDevice(index);
  if (error == cudaSuccess) {
    error = cudaGetDeviceProperties(&device->properties, index);
  }
  if (error == cudaSuccess) {
    error = cudaStreamCreateWithFlags(&device->stream, cudaStreamNonBlocking);
  }
  if (error != cudaSuccess) {
    delete device;
    return cudaGetErrorString(error);
  }
  *out = device;
  return nullptr;
}

void Close(Device* device) {
  cudaStreamSynchronize(device->stream);
  cudaStreamDestroy(device->stream);
  delete device;
}

const char* Name(Device* device) { return device->properties.name; }

const char* Allocate(Device* device, std::size_t size_bytes, void** out) {
  const cudaError_t error = cudaMalloc(out, size_bytes);
  if (error != cudaSuccess) {
    cudaGetLastError();  // no memory is no failure of the device
    return cudaGetErrorString(error);
  }
  Keep(device, cudaMemsetAsync(*out, 0, size_bytes, device->stream));
  return nullptr;
}

void Free(Device* device, void* data) { Keep(device, cudaFree(data)); }

void Upload(Device* device, const void* from, void* to, std::size_t size_bytes) {
  Keep(device, cudaMemcpyAsync(to, from, size_bytes, cudaMemcpyHostToDevice, device->stream));
}

void Download(Device* device, const void* from, void* to, std::size_t size_bytes) {
  Keep(device, cudaMemcpyAsync(to, from, size_bytes, cudaMemcpyDeviceToHost, device->stream));
}

const char* Synchronize(Device* device) {
  Keep(device, cudaStreamSynchronize(device->stream));
  return Sentence(device->error);
}

void BeginGraph(Device* device) {
  Keep(device, cudaStreamBeginCapture(device->stream, cudaStreamCaptureModeThreadLocal));
}

Graph* EndGraph(Device* device) {
  cudaGraph_t recorded = nullptr;
  Keep(device, cudaStreamEndCapture(device->stream, &recorded));
  if (device->error != cudaSuccess) {
    return nullptr;
  }
  auto* graph = new Graph;
  Keep(device, cudaGraphInstantiate(&graph->executable, recorded, 0));
  Keep(device, cudaGraphDestroy(recorded));
  return graph;
}

void LaunchGraph(Device* device, Graph* graph) {
  Keep(device, cudaGraphLaunch(graph->executable, device->stream));
}

void FreeGraph(Graph* graph) {
  if (graph->executable != nullptr) {
    cudaGraphExecDestroy(graph->executable);
  }
  delete graph;
}

void LaunchEmbed(Device* device, const Weight& table, const std::int32_t* ids, float scale,
                 const Rows& out) {
  if (out.rows == 0) {
    return;
  }
  if (table.element == Element::kBf16) {
    EmbedKernel<<<Count(out.rows), kRowThreads, 0, device->stream>>>(
        static_cast<const __nv_bfloat16*>(table.data), ids, scale, out);
  } else {
    EmbedKernel<<<Count(out.rows), kRowThreads, 0, device->stream>>>(
        static_cast<const float*>(table.data), ids, scale, out);
  }
  Launched(device);
}

template <class T, bool kAligned>
void LaunchLinearOf(Device* device, const Rows& in, const Weight& weight, const Rows& out) {
  const unsigned blocks = Count((out.cols + kLinearWarps - 1) / kLinearWarps);
  constexpr int kThreads = kLinearWarps * kWarp;
  if (in.rows == 1) {
    LinearKernel<T, kAligned, 1><<<blocks, kThreads, 0, device->stream>>>(in, weight, out);
    return;
  }
  constexpr std::int64_t kRows = 8;
  constexpr std::int64_t kGridRows = 65535 * kRows;
  for (std::int64_t begin = 0; begin < in.rows; begin += kGridRows) {
    const std::int64_t count = in.rows - begin < kGridRows ? in.rows - begin : kGridRows;
    const Rows some_in = {in.data + begin * in.stride, count, in.cols, in.stride};
    const Rows some_out = {out.data + begin * out.stride, count, out.cols, out.stride};
    LinearKernel<T, kAligned, kRows>
        <<<dim3(blocks, Count((count + kRows - 1) / kRows)), kThreads, 0, device->stream>>>(
            some_in, weight, some_out);
  }
}

void LaunchLinear(Device* device, const Rows& in, const Weight& weight, const Rows& out) {
  if (in.rows == 0) {
    return;
  }
  const bool aligned = weight.in_features % kChunk == 0 && weight.shard_size % kChunk == 0;
  if (weight.element == Element::kBf16) {
    (aligned ? LaunchLinearOf<__nv_bfloat16, true> : LaunchLinearOf<__nv_bfloat16, false>)(
        device, in, weight, out);
  } else {
    (aligned ? LaunchLinearOf<float, true> : LaunchLinearOf<float, false>)(device, in, weight, out);
  }
  Launched(device);
}

void LaunchNorm(Device* device, const Rows& in, const Rows& delta, const Norm& norm,
                const Rows& out) {
  if (in.rows > 0) {
    NormKernel<<<Count(in.rows * norm.segments), kRowThreads, 0, device->stream>>>(in, delta, norm,
                                                                                   out);
    Launched(device);
  }
}

void LaunchAdd(Device* device, const Rows& residual, const Rows& delta) {
  if (residual.rows > 0) {
    AddKernel<<<Count(residual.rows), kRowThreads, 0, device->stream>>>(residual, delta);
    Launched(device);
  }
}

void LaunchRotary(Device* device, const Rows& x, const Turn& turn) {
  if (x.rows > 0 && turn.half > 0) {
    RotaryKernel<<<Count(x.rows), kRowThreads, 0, device->stream>>>(x, turn);
    Launched(device);
  }
}

void LaunchStoreKv(Device* device, const Rows& k, const Rows& v, const std::int32_t* slots,
                   const KvSlices& cache) {
  if (k.rows == 0) {
    return;
  }
  const auto kernel = cache.element == Element::kF32    ? StoreKvKernel<float>
                      : cache.element == Element::kBf16 ? StoreKvKernel<__nv_bfloat16>
                                                        : StoreKvKernel<__half>;
  kernel<<<Count(k.rows), kRowThreads, 0, device->stream>>>(k, v, slots, cache);
  Launched(device);
}

void LaunchAttention(Device* device, const Rows& q, const KvSlices& cache, const Attention& options,
                     const Rows& out) {
  if (q.rows == 0) {
    return;
  }
  const auto kernel = cache.element == Element::kF32    ? AttentionKernel<float>
                      : cache.element == Element::kBf16 ? AttentionKernel<__nv_bfloat16>
                                                        : AttentionKernel<__half>;
  kernel<<<dim3(Count(q.rows), Count(options.heads)), kAttentionThreads, 0, device->stream>>>(
      q, cache, options, out);
  Launched(device);
}

void LaunchActivate(Device* device, const Rows& in, const Rows& up, std::int32_t activation,
                    const Rows& out) {
  if (out.rows > 0) {
    ActivateKernel<<<Count(out.rows), kRowThreads, 0, device->stream>>>(in, up, activation, out);
    Launched(device);
  }
}

void LaunchGather(Device* device, const Rows& in, const std::int32_t* rows, const Rows& out) {
  if (out.rows > 0) {
    GatherKernel<<<Count(out.rows), kRowThreads, 0, device->stream>>>(in, rows, out);
    Launched(device);
  }
}

void LaunchFindNonFinite(Device* device, const Rows& in, std::int32_t* flags) {
  if (in.rows > 0) {
    FindNonFiniteKernel<<<Count(in.rows), kRowThreads, 0, device->stream>>>(in, flags);
    Launched(device);
  }
}

constexpr Library kLibrary = {
    kAbi,        Open,          Close,        Name,           Allocate,       Free,
    Upload,      Download,      Synchronize,  BeginGraph,     EndGraph,       LaunchGraph,
    FreeGraph,   LaunchEmbed,   LaunchLinear, LaunchNorm,     LaunchAdd,      LaunchRotary,
    LaunchStoreKv, LaunchAttention, LaunchActivate, LaunchGather, LaunchFindNonFinite};

}  // namespace
}  // namespace pixii::kernels::cuda

extern "C" __attribute__((visibility("default"))) const pixii::kernels::cuda::Library*
pixii_cuda_library() {
  return &pixii::kernels::cuda::kLibrary;
}
