#include "kernels/roof.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

#include "kernels/cpu/cpu_features.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/memory.h"
#include "kernels/host_operators.h"
#include "kernels/thread_pool.h"

namespace pixii::kernels {
namespace {

constexpr Index kReadChunkBytes = Index{256} << 10;
constexpr Index kMultiplyRounds = 4096;

double Seconds() {
  const auto now = std::chrono::steady_clock::now();  // tidy: clock what is measured is real time
  return std::chrono::duration<double>(now.time_since_epoch()).count();
}

class CpuRoof final : public Roof {
 public:
  CpuRoof(const CpuChoice& choice, Buffer buffer)
      : kernels_(choice.isa->kernels()), pool_(choice.thread_count), buffer_(std::move(buffer)) {
    std::memset(buffer_.data(), 0,
                buffer_.size_bytes());  // pages of their own, not the shared zero page
  }

  double ReadBytesPerSecond(std::size_t working_set_bytes) override {
    const std::size_t size_bytes = std::min(working_set_bytes, buffer_.size_bytes());
    const Index chunks =
        std::max<Index>(1, static_cast<Index>(size_bytes) / kReadChunkBytes / pool_.thread_count());
    const auto* data = static_cast<const std::byte*>(buffer_.data());
    return Measure([&](std::int32_t worker, Index turn) {
      const Index chunk = worker * chunks + (start_ + turn) % chunks;
      sink_.store(kernels_.read_stream(data + chunk * kReadChunkBytes, kReadChunkBytes),
                  std::memory_order_relaxed);
      return kReadChunkBytes;
    });
  }

  double MultiplyAddsPerSecond(ComputeType compute) override {
    const auto multiply = compute == ComputeType::kInt8   ? kernels_.integers.multiply_adds
                          : compute == ComputeType::kBf16 ? kernels_.linear.multiply_adds
                                                          : kernels_.multiply_adds_f32;
    return Measure([&](std::int32_t /*worker*/, Index /*turn*/) {
      float result = 0.0F;
      const Index done = multiply(kMultiplyRounds, &result);
      sink_.store(result, std::memory_order_relaxed);
      return done;
    });
  }

 private:
  /// Amount per second over all workers, each doing `work` until the time is up.
  template <class Work>
  double Measure(Work&& work) {
    std::atomic<Index> amount{0};
    std::atomic<Index> turns_most{0};
    const double begin = Seconds();
    const double limit = begin + std::chrono::duration<double>(kRoofMeasureTime).count();
    pool_.Run([&](std::int32_t worker) {
      Index done = 0;
      Index turn = 0;
      do {
        done += work(worker, turn++);
      } while (Seconds() < limit);
      amount.fetch_add(done, std::memory_order_relaxed);
      for (Index most = turns_most.load();
           most < turn && !turns_most.compare_exchange_weak(most, turn);) {
      }
    });
    start_ +=
        turns_most.load();  // go on where this measurement ended: caches hold nothing of what comes
    return static_cast<double>(amount.load()) / (Seconds() - begin);
  }

  const KernelTable& kernels_;
  ThreadPool pool_;
  Buffer buffer_;
  Index start_ = 0;
  std::atomic<float> sink_{0.0F};
};

}  // namespace

HostDescription DescribeHost() {
  const CpuFeatures features = DetectCpuFeatures();
  HostDescription out;
  out.cpu_model = CpuModelName();
  const std::pair<bool, const char*> flags[] = {{features.avx2, "avx2"},
                                                {features.avx512, "avx512"},
                                                {features.avx512_vnni, "avx512_vnni"},
                                                {features.avx512_bf16, "avx512_bf16"},
                                                {features.amx_bf16, "amx_bf16"},
                                                {features.amx_int8, "amx_int8"},
                                                {features.neon, "neon"},
                                                {features.neon_i8mm, "neon_i8mm"}};
  for (const auto& [has, name] : flags) {
    if (has) {
      out.flags += fmt::format("{}{}", out.flags.empty() ? "" : " ", name);
    }
  }
  out.core_count = UsableCoreCount();
  for (const CpuIsa isa : AvailableIsas()) {
    out.isas.emplace_back(IsaName(isa));
  }
  return out;
}

MultiplyAdds MultiplyAddsRun(const Operators& operators) {
  const auto* host = dynamic_cast<const HostOperators*>(&operators);
  return host != nullptr ? host->multiply_adds_run() : MultiplyAdds{};
}

Result<std::unique_ptr<Roof>> MakeRoof(const CpuOptions& options) {
  PX_TRY(const CpuChoice choice, ChooseCpu(options));
  PX_TRY(Buffer buffer, AllocateHostMemory(Roof::kReadBufferBytes));
  return std::make_unique<CpuRoof>(choice, std::move(buffer));
}

}  // namespace pixii::kernels
