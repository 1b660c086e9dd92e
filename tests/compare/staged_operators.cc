#include "compare/staged_operators.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "kernels/ref/reference_attention.h"

namespace pixii::kernels::testing {
namespace {

class StagedOperators final : public HostOperators {
 public:
  explicit StagedOperators(std::unique_ptr<Operators> device)
      : device_(std::move(device)), host_(MakeReferenceOperators()) {}

  std::string_view name() const override { return device_->name(); }

  std::string_view numerics() const override { return device_->numerics(); }

  Result<Buffer> Allocate(std::size_t size_bytes) override { return host_->Allocate(size_bytes); }

  Result<std::unique_ptr<LinearWeight>> PrepareLinear(std::span<const WeightPart> parts,
                                                      const LinearOptions& options) override {
    return device_->PrepareLinear(parts, options);
  }

  Result<std::unique_ptr<LoraWeight>> PrepareLora(const WeightPart& down, const WeightPart& up,
                                                  float scale) override {
    return device_->PrepareLora(down, up, scale);
  }

  Result<std::unique_ptr<LinearWeight>> PrepareEmbedding(const WeightPart& table) override {
    return device_->PrepareEmbedding(table);
  }

  void Embed(const LinearWeight& table, std::span<const std::int32_t> ids, float scale,
             const Matrix& out) override {
    Staged to(*device_, out);
    device_->Embed(table, Copied(ids), scale, to.view());
    Finish({&to});
  }

  void Linear(const Matrix& in, const LinearWeight& weight, const Matrix& out) override {
    const Staged from(*device_, in);
    Staged to(*device_, out);
    device_->Linear(from.view(), weight, to.view());
    Finish({&to});
  }

  void AddLora(const Matrix& in, std::span<const LoraWeight* const> pairs,
               std::span<const std::int32_t> row_pairs, const Matrix& out) override {
    const Staged from(*device_, in);
    Staged to(*device_, out);
    device_->AddLora(from.view(), pairs, Copied(row_pairs), to.view());
    Finish({&to});
  }

  void RmsNorm(const Matrix& in, std::span<const float> weight, float weight_offset, float epsilon,
               const Matrix& out) override {
    const Staged from(*device_, in);
    Staged to(*device_, out);
    device_->RmsNorm(from.view(), Copied(weight), weight_offset, epsilon, to.view());
    Finish({&to});
  }

  void AddRmsNorm(const Matrix& residual, const Matrix& delta, std::span<const float> weight,
                  float weight_offset, float epsilon, const Matrix& out) override {
    Staged sum(*device_, residual);
    const Staged more(*device_, delta);
    Staged to(*device_, out);
    device_->AddRmsNorm(sum.view(), more.view(), Copied(weight), weight_offset, epsilon, to.view());
    Finish({&sum, &to});
  }

  void AddLayerNorm(const Matrix& residual, const Matrix& delta, std::span<const float> weight,
                    std::span<const float> bias, float epsilon, const Matrix& out) override {
    Staged sum(*device_, residual);
    const Staged more(*device_, delta);
    Staged to(*device_, out);
    const bool same = out.data == residual.data;
    device_->AddLayerNorm(sum.view(), more.view(), Copied(weight), Copied(bias), epsilon,
                          same ? sum.view() : to.view());
    same ? Finish({&sum}) : Finish({&sum, &to});
  }

  void Add(const Matrix& residual, const Matrix& delta) override {
    Staged sum(*device_, residual);
    const Staged more(*device_, delta);
    device_->Add(sum.view(), more.view());
    Finish({&sum});
  }

  void HeadRmsNorm(const Matrix& x, std::int32_t head_count, std::span<const float> weight,
                   float weight_offset, float epsilon) override {
    Staged to(*device_, x);
    device_->HeadRmsNorm(to.view(), head_count, Copied(weight), weight_offset, epsilon);
    Finish({&to});
  }

  void Rotary(const Matrix& x, std::int32_t head_count, std::span<const std::int32_t> positions,
              const RotaryTable& table) override {
    Staged to(*device_, x);
    RotaryTable copy = table;
    const auto size = static_cast<std::size_t>(table.position_max) *
                      static_cast<std::size_t>(table.rotary_dim / 2);
    copy.cos = Copied(std::span(table.cos, size)).data();
    copy.sin = Copied(std::span(table.sin, size)).data();
    device_->Rotary(to.view(), head_count, Copied(positions), copy);
    Finish({&to});
  }

  void StoreKv(const Matrix& k, const Matrix& v, std::span<const std::int32_t> slots,
               std::int32_t layer, KvCache& cache) override {
    const Staged from_k(*device_, k);
    const Staged from_v(*device_, v);
    KvCache copy = OnDevice(cache);
    device_->StoreKv(from_k.view(), from_v.view(), Copied(slots), layer, copy);
    device_->Download(copy.buffer.data(), Bytes(cache));
    Finish({});
  }

  void PagedAttention(const Matrix& q, const StepView& step, std::int32_t layer,
                      const KvCache& cache, const AttentionOptions& options,
                      const Matrix& out) override {
    if (!step.mutual_rows.empty()) {
      ReferencePagedAttention(q, step, layer, cache, options, out);  // no device does it
      return;
    }
    StepBatch batch;
    batch.sequences.assign(step.sequences.begin(), step.sequences.end());
    batch.block_table.assign(step.block_table.begin(), step.block_table.end());
    for (const StepSequence& sequence : step.sequences) {
      for (std::int32_t i = 0; i < sequence.token_count; ++i) {
        batch.token_ids.push_back(0);
        batch.slots.push_back(0);
        batch.positions.push_back(sequence.context_tokens - sequence.token_count + i);
      }
    }
    const StepView view = device_->UploadStep(batch);
    const std::int64_t rows = std::ssize(view.token_ids);
    const Staged from(*device_, q, rows);
    Staged to(*device_, out, rows);
    AttentionOptions on_device = options;
    if (options.sinks != nullptr) {
      on_device.sinks =
          Copied(std::span(options.sinks, static_cast<std::size_t>(options.head_count))).data();
    }
    device_->PagedAttention(from.view(), view, layer, OnDevice(cache), on_device, to.view());
    Finish({&to});
  }

  void ActivationMul(const Matrix& gate_up, Activation activation, const Matrix& out) override {
    const Staged from(*device_, gate_up);
    Staged to(*device_, out);
    device_->ActivationMul(from.view(), activation, to.view());
    Finish({&to});
  }

  void ExpertLinear(const Matrix& in, std::span<const std::int32_t> experts,
                    std::span<const std::unique_ptr<LinearWeight>> weights,
                    const Matrix& out) override {
    const Staged from(*device_, in);
    Staged to(*device_, out);
    device_->ExpertLinear(from.view(), Copied(experts), weights, to.view());
    Finish({&to});
  }

  void Activate(const Matrix& x, Activation activation) override {
    Staged to(*device_, x);
    device_->Activate(to.view(), activation);
    Finish({&to});
  }

  void ScaleColumns(const Matrix& x, std::span<const float> factors) override {
    Staged to(*device_, x);
    device_->ScaleColumns(to.view(), Copied(factors));
    Finish({&to});
  }

  void Convolve(const Matrix& in, const ConvolutionShape& shape, const LinearWeight& weight,
                const Matrix& out) override {
    const Staged from(*device_, in);
    Staged to(*device_, out);
    device_->Convolve(from.view(), shape, weight, to.view());
    Finish({&to});
  }

  void GatherRows(const Matrix& in, std::span<const std::int32_t> rows,
                  const Matrix& out) override {
    const Staged from(*device_, in);
    Staged to(*device_, out);
    device_->GatherRows(from.view(), Copied(rows), to.view());
    Finish({&to});
  }

 private:
  /// A matrix of the host's and its copy on the device, which may have more rows.
  class Staged final {
   public:
    Staged(Operators& device, const Matrix& host) : Staged(device, host, host.rows) {}

    Staged(Operators& device, const Matrix& host, std::int64_t rows)
        : host_(host),
          buffer_(std::move(
              *device.Allocate(static_cast<std::size_t>(rows * host.stride) * sizeof(float)))),
          view_(host) {
      view_.data = buffer_.data();
      view_.rows = rows;
      device.Upload(Bytes(), buffer_.data());
    }

    const Matrix& view() const { return view_; }

    /// What lies between the rows too, so that a stray write shows.
    std::span<std::byte> Bytes() const {
      const std::int64_t floats =
          host_.rows == 0 ? 0 : (host_.rows - 1) * host_.stride + host_.cols;
      return std::as_writable_bytes(
          std::span(static_cast<float*>(host_.data), static_cast<std::size_t>(floats)));
    }

   private:
    Matrix host_;
    Buffer buffer_;
    Matrix view_;
  };

  static std::span<std::byte> Bytes(const KvCache& cache) {
    return {static_cast<std::byte*>(cache.buffer.data()), cache.buffer.size_bytes()};
  }

  template <class T>
  std::span<const T> Copied(std::span<const T> host) {
    copies_.push_back(std::move(*device_->Allocate(host.size_bytes())));
    device_->Upload(std::as_bytes(host), copies_.back().data());
    return {static_cast<const T*>(copies_.back().data()), host.size()};
  }

  KvCache OnDevice(const KvCache& cache) {
    KvCache copy;
    copy.layout = cache.layout;
    copy.block_count = cache.block_count;
    copy.buffer = std::move(*device_->Allocate(cache.buffer.size_bytes()));
    device_->Upload(Bytes(cache), copy.buffer.data());
    return copy;
  }

  void Finish(std::initializer_list<const Staged*> changed) {
    for (const Staged* one : changed) {
      device_->Download(one->view().data, one->Bytes());
    }
    const Result<void> done = device_->Synchronize();
    if (!done) {
      ADD_FAILURE() << done.error().detail();
    }
    copies_.clear();
  }

  std::unique_ptr<Operators> device_;
  std::unique_ptr<Operators> host_;
  std::vector<Buffer> copies_;
};

}  // namespace

std::unique_ptr<Operators> StageOperators(std::unique_ptr<Operators> device) {
  return std::make_unique<StagedOperators>(std::move(device));
}

}  // namespace pixii::kernels::testing
