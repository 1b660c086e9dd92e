#include "apps/bench_kv.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "apps/bench_kv_engine.h"
#include "apps/bench_kv_slowdown.h"
#include "apps/model_source.h"
#include "rt/file.h"
#include "rt/random.h"
#include "rt/shared_memory.h"

namespace pixii::apps {

namespace {

constexpr std::uint64_t kSeed = 20'261'122;
constexpr std::size_t kFilesMax = 16;

struct Variant {
  const char* name;
  std::unique_ptr<BenchedEngine> engine;
  std::vector<double> ttft_ms;
  std::vector<double> brought;  // tokens a second that come from the cache or a tier
};

/// A folder that goes, with its files, however the bench ends.
class OwnFolder final {
 public:
  explicit OwnFolder(std::string path) : path_(std::move(path)) {}

  OwnFolder(const OwnFolder&) = delete;
  OwnFolder& operator=(const OwnFolder&) = delete;

  ~OwnFolder() {
    if (const auto left = rt::ListFolder(path_, kFilesMax)) {
      for (const rt::FolderEntry& entry : *left) {
        (void)rt::RemoveFile(fmt::format("{}/{}", path_, entry.name));
      }
      (void)rt::RemoveFolder(path_);
    }
  }

  const std::string& path() const { return path_; }

 private:
  std::string path_;
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
  const OwnFolder folder(fmt::format("{}/pixii-bench-kv-{}", flags.disk, rt::OwnProcessId()));
  EngineFlags host = base;
  host.kv_host_blocks = blocks;
  EngineFlags disk = base;
  disk.kv_disk = folder.path();
  disk.kv_disk_blocks = blocks;
  std::vector<Variant> variants;
  for (const auto& [name, own] : {std::pair("none", base), {"host", host}, {"disk", disk}}) {
    Variant& variant = variants.emplace_back();
    variant.name = name;
    PX_TRY(variant.engine, BenchedEngine::Make(source.folder, own));
  }
  rt::Random random(kSeed);
  const auto vocab = variants[0].engine->vocab_size();
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
      PX_CHECK_OK(variant.engine->Ask(talks.back(), 1));
    }
  }
  for (Variant& variant : variants) {
    variant.engine->Settle();
  }
  for (std::int64_t repeat = 0; repeat < flags.repeats; ++repeat) {
    for (std::vector<TokenId>& talk : talks) {
      const std::vector<TokenId> more = draw(flags.turn);
      talk.insert(talk.end(), more.begin(), more.end());
      std::vector<TokenId> answer;
      for (Variant& variant : variants) {
        PX_TRY(const BenchedEngine::Turn turn, variant.engine->Ask(talk, 1));
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
  const double prefill = static_cast<double>(flags.context + flags.turn) / (none / 1000);
  figures.push_back(bench::MakeFigure("prefill", "tokens/s", {prefill}));
  for (std::size_t i = 1; i < variants.size(); ++i) {
    figures.push_back(bench::MakeFigure(fmt::format("{}_read_of_prefill", variants[i].name),
                                        "times",
                                        {bench::Quantile(variants[i].brought, 0.5) / prefill}));
  }
  figures.push_back(bench::MakeFigure("block", "bytes",
                                      {static_cast<double>(variants[1].engine->block_bytes())}));
  variants.clear();
  if (flags.slowdown) {
    PX_TRY(std::vector<bench::Figure> slowdown, BenchKvSlowdown(flags, source.folder));
    std::ranges::move(slowdown, std::back_inserter(figures));
  }
  return figures;
}

}  // namespace pixii::apps
