// A checkpoint made ready to run: operators, weights, KV cache and an engine on them.
//
// Thread: made on any thread; the engine is then used on one. Outlives its engine.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/loaded_model.h"
#include "apps/option_structs.h"
#include "base/result.h"
#include "engine/engine.h"
#include "engine/mock_executor.h"
#include "engine/model_encoder.h"
#include "frontend/served_model.h"
#include "kernels/operators.h"
#include "kv/connector.h"
#include "model/language_model.h"
#include "text/jinja/chat_template.h"
#include "worker/feature_record.h"
#include "worker/link_adapters.h"

namespace pixii::apps {

class ModelHost final {
 public:
  /// Loads weights and plans memory; `progress` hears how far that is. Errors name file, flag or
  /// limit.
  static Result<std::unique_ptr<ModelHost>> Load(const std::string& folder,
                                                 const EngineFlags& flags,
                                                 model::LoadProgress progress = {});

  /// The same with a mock in the model's place: nothing but what the checkpoint says of itself is
  /// read.
  static Result<std::unique_ptr<ModelHost>> LoadMock(const std::string& folder,
                                                     const EngineFlags& flags,
                                                     const engine::MockOptions& mock);

  /// The engine; call once. `kv_event_count_max`: of its options. Errors: kInvalidArgument if the
  /// flags ask for several ranks.
  Result<std::unique_ptr<engine::Engine>> MakeEngine(std::uint32_t kv_event_count_max = 0);

  /// The engines of all data-parallel ranks, which share the model; call once. `kv_event_tokens`:
  /// of their options, too.
  Result<std::vector<std::unique_ptr<engine::Engine>>> MakeRankEngines(
      std::uint32_t kv_event_count_max, bool kv_event_tokens = false);

  /// How a link to the engine loads adapters.
  using OnBadAdapter = std::function<void(const worker::CatalogueEntry&, const Error&)>;

  /// Of --lora-dir those that can be read; `on_bad`, if any, hears of the others.
  worker::AdapterLinkOptions MakeAdapterLink(const OnBadAdapter& on_bad = {}) const;

  std::uint32_t rank_count() const { return static_cast<std::uint32_t>(processors_.size()); }

  /// What requests may ask for; to be completed before MakeEngine. Each rank has its own.
  engine::ProcessorSet& processors(std::uint32_t rank = 0) { return *processors_[rank]; }

  /// What compiles the grammars of answers; to be given before MakeEngine.
  void UseGrammars(std::shared_ptr<text::grammar::GrammarLibrary> grammars) {
    grammars_ = std::move(grammars);
  }

  /// The cluster's secret: the block hashes are made with it, unless a flag names another file. To
  /// be given before MakeEngine.
  void UseClusterKey(const std::string& key) {
    if (flags_.kv_key_file.empty() && !key.empty()) {
      identity_key_ = key;
    }
  }

  /// Who brings KV blocks to one rank's cache and takes them along; null: nobody there.
  using ConnectorMaker = std::function<Result<std::unique_ptr<kv::Connector>>(
      const kv::BlockGeometry& geometry, std::uint32_t rank)>;

  /// To be called before MakeEngine; of several, whoever brings most blocks is asked.
  void UseConnector(ConnectorMaker maker) { connectors_.push_back(std::move(maker)); }

  /// Before engines are made: their KV blocks lie where processes of this host can read them.
  void ShareBlocks() { shared_blocks_ = true; }

  const model::ModelSpec& spec() const { return spec_; }

  const std::string& numerics_id() const { return numerics_id_; }

  /// What features of another worker's tower must agree with. Pre: spec().vision, and no mock.
  worker::FeatureTerms feature_terms() const;

 private:
  ModelHost() = default;

  static Result<std::unique_ptr<ModelHost>> Start(const std::string& folder,
                                                  const EngineFlags& flags);
  Result<void> MakeProcessorSets();
  Result<void> CheckRanks() const;
  Result<std::unique_ptr<engine::StepExecutor>> MakeExecutor(std::uint32_t context_tokens,
                                                             std::uint32_t step_tokens);
  Result<std::vector<std::unique_ptr<engine::StepExecutor>>> MakeExecutors(
      std::uint32_t context_tokens, std::uint32_t step_tokens);
  using EncoderMaker = std::function<std::unique_ptr<engine::MediaEncoder>()>;
  Result<EncoderMaker> MakeEncoders() const;
  Result<std::unique_ptr<kv::Connector>> MakeConnector(const engine::StepExecutor& executor,
                                                       const engine::EngineOptions& options,
                                                       std::uint32_t rank) const;
  Result<void> LoadDraftModel();
  Result<void> LoadAdapters(engine::Engine& engine) const;
  Result<std::unique_ptr<engine::Drafter>> MakeDrafter(std::uint32_t context_tokens);

  /// Whether guesses come from a head, which wants the model's hidden states.
  bool drafts_with_head() const {
    return draft_model_ && (flags_.speculation == "mtp" || flags_.speculation == "eagle");
  }

  std::string folder_;
  EngineFlags flags_;
  std::string numerics_id_;
  kernels::KvDType kv_dtype_ = kernels::KvDType::kBf16;
  std::string identity_key_;
  std::unique_ptr<kernels::Operators> operators_;
  model::ModelSpec spec_;
  std::unique_ptr<LoadedModel> model_;  // null: there is a mock in its place
  std::optional<engine::MockOptions> mock_;
  std::vector<std::shared_ptr<engine::ProcessorSet>> processors_;  // [rank]
  std::shared_ptr<text::grammar::GrammarLibrary> grammars_;
  std::unique_ptr<LoadedModel> draft_model_;  // null: none asked for
  std::vector<worker::CatalogueEntry> adapter_catalogue_;
  std::vector<ConnectorMaker> connectors_;
  bool shared_blocks_ = false;
};

/// Data-parallel ranks: as --enable-attention-dp and --tensor-parallel-size spell it.
std::uint32_t RankCountOf(const EngineFlags& flags);

/// Ranks that hold the model together: as --tensor-parallel-size and --pipeline-parallel-size spell
/// it.
model::RankOptions RankOptionsOf(const EngineFlags& flags);

/// As --isa and --threads spell it.
kernels::CpuOptions CpuOptionsOf(const std::string& isa, std::int64_t threads);

/// As --media-cache and its other name spell it. Errors: kInvalidArgument if both do.
Result<std::uint64_t> MediaCacheBytes(const EngineFlags& flags);

/// What the bits of a tower that runs on `operators` depend on.
std::string TowerNumerics(const EngineFlags& flags, const kernels::Operators& operators);

/// Makes encoders that share the tower of a folder; without `operators` what can be known of its
/// pictures, and no tower.
Result<std::function<std::unique_ptr<engine::ModelEncoder>()>> EncodersOf(
    const std::string& folder, const model::VisionSpec& spec, kernels::Operators* operators,
    const EngineFlags& flags);

/// Of one rank: as --device, --isa ("ref" gives the reference loops), --threads and --numerics
/// spell it.
/// `gate`: of CpuOptions.
Result<std::unique_ptr<kernels::Operators>> MakeOperators(const EngineFlags& flags,
                                                          kernels::WorkGate* gate = nullptr);

/// The date and time of day in UTC, for templates that print it.
text::CivilTime CivilNow();

/// Tokenizer, template and defaults of a folder. No tokenizer.json: token ids only.
Result<frontend::ServedModel> LoadServedModel(const std::string& folder,
                                              const model::ModelSpec& spec, std::string name);

}  // namespace pixii::apps
