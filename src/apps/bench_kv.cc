#include "apps/bench_kv.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "apps/kv_tiers.h"
#include "apps/model_host.h"
#include "apps/model_source.h"
#include "engine/engine_loop.h"
#include "obs/log.h"
#include "rt/file.h"
#include "rt/loop.h"
#include "rt/random.h"
#include "rt/shared_memory.h"

namespace pixii::apps {

namespace {

constexpr std::uint64_t kSeed = 20'261'122;
constexpr std::size_t kFilesMax = 16;
constexpr rt::Duration kQuiet = std::chrono::milliseconds(300);  // in which tiers write nothing

/// One engine and its tiers; requests one after another.
class Served final {
 public:
  static Result<std::unique_ptr<Served>> Make(const std::string& folder, const EngineFlags& flags) {
    auto served = std::make_unique<Served>();
    PX_TRY(served->loop_, rt::MakeLoop());
    rt::Loop& loop = *served->loop_;
    served->log_ = std::make_unique<obs::Log>(
        obs::LogOptions{}, [&loop] { return loop.WallNow(); },
        [](obs::Severity, std::string_view) {});
    served->tiers_ =
        std::make_unique<KvTiers>(flags, kv::TierJournalOptions{}, loop, *served->log_);
    PX_TRY(served->host_, ModelHost::Load(folder, flags));
    served->host_->UseConnector([tiers = served->tiers_.get(), &bytes = served->block_bytes_](
                                    const kv::BlockGeometry& geometry, std::uint32_t rank) {
      bytes = geometry.block_size_bytes;
      return tiers->Make(geometry, rank);
    });
    PX_TRY(std::unique_ptr<engine::Engine> engine, served->host_->MakeEngine());
    served->engine_ = std::make_unique<engine::EngineLoop>(loop, std::move(engine));
    served->destination_ =
        served->engine_->AddDestination([raw = served.get()](engine::StepOutput output) {
          for (const wire::TokenFrame& frame : output.frames) {
            raw->Take(frame);
          }
        });
    return served;
  }

  struct Turn {
    double ttft_ms = 0;
    std::vector<TokenId> tokens;
    std::uint32_t cached_tokens = 0;
  };

  Result<Turn> Ask(const std::vector<TokenId>& prompt, std::uint32_t output_tokens) {
    wire::GenerateRequest request;
    request.id = RequestId{++last_id_};
    request.prompt = prompt;
    request.sampling.temperature = 0;
    request.stop.max_tokens = output_tokens;
    request.stop.ignore_eos = true;
    turn_ = {};
    error_.reset();
    began_ = loop_->Now();
    engine_->Submit(destination_, std::move(request));
    loop_->Run();
    if (error_) {
      return Fail(*error_);
    }
    return std::move(turn_);
  }

  /// Until what the tiers want to write is written.
  void Settle() {
    loop_->RunAt(loop_->Now() + kQuiet, [this] { loop_->Stop(); });
    loop_->Run();
  }

  std::uint32_t vocab_size() const { return engine_->card().vocab_size; }

  std::uint64_t block_bytes() const { return block_bytes_; }

 private:
  void Take(const wire::TokenFrame& frame) {
    if (turn_.tokens.empty() && !frame.tokens.empty()) {
      turn_.ttft_ms = std::chrono::duration<double, std::milli>(loop_->Now() - began_).count();
      turn_.cached_tokens = frame.cached_tokens;
    }
    turn_.tokens.insert(turn_.tokens.end(), frame.tokens.begin(), frame.tokens.end());
    if (frame.finish) {
      error_ = frame.error;
      loop_->Stop();
    }
  }

  std::unique_ptr<rt::Loop> loop_;
  std::unique_ptr<obs::Log> log_;
  std::unique_ptr<KvTiers> tiers_;
  std::unique_ptr<ModelHost> host_;
  std::unique_ptr<engine::EngineLoop> engine_;
  engine::DestinationId destination_{};
  std::uint64_t block_bytes_ = 0;
  std::uint64_t last_id_ = 0;
  rt::Time began_{};
  Turn turn_;
  std::optional<Error> error_;
};

struct Variant {
  const char* name;
  std::unique_ptr<Served> served;
  std::vector<double> ttft_ms;
  std::vector<double> brought;  // tokens a second that come from the cache or a tier
};

}  // namespace

Result<std::vector<bench::Figure>> BenchKv(const BenchKvFlags& flags) {
  PX_TRY(const ModelSource source, ResolveModel(flags.model, false));
  const auto count = static_cast<std::size_t>(
      std::max(1.0, flags.working_set * static_cast<double>(flags.cache_tokens) /
                        static_cast<double>(flags.context)));
  EngineFlags base;
  base.block_size = flags.block_size;
  base.kv_tokens = flags.cache_tokens;
  base.max_context = flags.context + (flags.repeats + 2) * 2 * flags.turn;
  base.max_batch = 8;  // the cache is planned for as many contexts at most
  base.threads = flags.threads;
  const auto blocks =
      static_cast<std::int64_t>(2 * count) * (base.max_context / flags.block_size + 1);
  const std::string folder = fmt::format("{}/pixii-bench-kv-{}", flags.disk, rt::OwnProcessId());
  EngineFlags host = base;
  host.kv_host_blocks = blocks;
  EngineFlags disk = base;
  disk.kv_disk = folder;
  disk.kv_disk_blocks = blocks;
  std::vector<Variant> variants;
  for (const auto& [name, own] : {std::pair("none", base), {"host", host}, {"disk", disk}}) {
    Variant& variant = variants.emplace_back();
    variant.name = name;
    PX_TRY(variant.served, Served::Make(source.folder, own));
  }
  rt::Random random(kSeed);
  const auto vocab = variants[0].served->vocab_size();
  auto draw = [&](std::int64_t tokens) {
    std::vector<TokenId> drawn;
    for (std::int64_t i = 0; i < tokens; ++i) {
      drawn.push_back(static_cast<TokenId>(random.Below(vocab)));
    }
    return drawn;
  };
  std::vector<std::vector<TokenId>> talks;
  for (std::size_t i = 0; i < count; ++i) {
    talks.push_back(draw(flags.context));
    for (Variant& variant : variants) {
      PX_CHECK_OK(variant.served->Ask(talks.back(), 1));
    }
  }
  for (Variant& variant : variants) {
    variant.served->Settle();
  }
  for (std::int64_t repeat = 0; repeat < flags.repeats; ++repeat) {
    for (std::vector<TokenId>& talk : talks) {
      const std::vector<TokenId> more = draw(flags.turn);
      talk.insert(talk.end(), more.begin(), more.end());
      std::vector<TokenId> answer;
      for (Variant& variant : variants) {
        PX_TRY(const Served::Turn turn, variant.served->Ask(talk, 1));
        if (!answer.empty() && turn.tokens != answer) {
          return Fail(Code::kInternal,
                      fmt::format("the answer with tier {} is another one", variant.name));
        }
        answer = turn.tokens;
        variant.ttft_ms.push_back(turn.ttft_ms);
        variant.brought.push_back(turn.cached_tokens / (turn.ttft_ms / 1000));
      }
      talk.insert(talk.end(), answer.begin(), answer.end());
    }
  }
  std::vector<bench::Figure> figures;
  for (const Variant& variant : variants) {
    figures.push_back(
        bench::MakeFigure(fmt::format("ttft_{}", variant.name), "ms", variant.ttft_ms));
  }
  const double none = bench::Quantile(variants[0].ttft_ms, 0.5);
  for (std::size_t i = 1; i < variants.size(); ++i) {
    figures.push_back(bench::MakeFigure(fmt::format("{}_speedup", variants[i].name), "times",
                                        {none / bench::Quantile(variants[i].ttft_ms, 0.5)}));
    figures.push_back(bench::MakeFigure(fmt::format("{}_tokens", variants[i].name), "tokens/s",
                                        variants[i].brought));
  }
  figures.push_back(bench::MakeFigure(
      "prefill", "tokens/s", {static_cast<double>(flags.context + flags.turn) / (none / 1000)}));
  figures.push_back(bench::MakeFigure("block", "bytes",
                                      {static_cast<double>(variants[1].served->block_bytes())}));
  variants.clear();
  PX_TRY(const std::vector<rt::FolderEntry> left, rt::ListFolder(folder, kFilesMax));
  for (const rt::FolderEntry& entry : left) {
    PX_CHECK_OK(rt::RemoveFile(fmt::format("{}/{}", folder, entry.name)));
  }
  return figures;
}

}  // namespace pixii::apps
