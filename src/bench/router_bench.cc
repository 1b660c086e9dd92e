#include "bench/router_bench.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <span>
#include <utility>

#include "router/kv_index.h"
#include "router/router.h"
#include "rt/random.h"
#include "rt/time.h"
#include "wire/public_hash.h"

namespace pixii::bench {

namespace {

using router::KvIndex;
using router::RankNumber;
using wire::KvEvent;

constexpr std::uint32_t kBlockTokens = 16;
constexpr std::uint64_t kIndexBytesMax = std::uint64_t{16} << 30;

double Now() {
  const auto now = std::chrono::steady_clock::now();  // tidy: clock this is the measurement
  return std::chrono::duration<double>(now.time_since_epoch()).count();
}

// Of one prompt, made anew whenever it is asked for.
std::vector<std::uint64_t> PromptOf(std::uint64_t number, std::uint32_t blocks) {
  rt::Random random(number * 2 + 1);
  std::vector<std::uint64_t> out(blocks);
  std::ranges::generate(out, [&] { return random.Next(); });
  return out;
}

KvEvent Stored(std::span<const std::uint64_t> blocks) {
  KvEvent out;
  std::uint64_t chain = 0;
  for (const std::uint64_t block : blocks) {
    chain = router::ChainHashOf(chain, block);
    out.blocks.push_back({chain, block});
  }
  return out;
}

struct Filled {
  double stored_per_s = 0;
  double bytes = 0;
};

// `copies` workers hold each prompt; time is that of the index alone.
Filled Fill(KvIndex& index, const RouterBenchOptions& options, std::uint32_t copies, bool opaque) {
  Filled out;
  rt::Random random(options.seed);
  double seconds = 0;
  const std::uint64_t prompts = options.blocks / options.prompt_blocks;
  std::vector<std::pair<RankNumber, KvEvent>> batch;
  for (std::uint64_t i = 0; i < prompts; ++i) {
    const KvEvent stored = Stored(PromptOf(i, options.prompt_blocks));
    const std::uint64_t first = random.Below(options.workers);
    for (std::uint32_t copy = 0; copy < copies; ++copy) {
      KvEvent& event =
          batch
              .emplace_back(
                  RankNumber{static_cast<std::uint32_t>((first + copy) % options.workers)}, stored)
              .second;
      if (opaque) {
        std::ranges::for_each(event.blocks,
                              [&](wire::KvBlock& block) { block.block_hash = random.Next(); });
      }
    }
    if (batch.size() >= 64 || i + 1 == prompts) {
      const double begin = Now();
      for (const auto& [rank, event] : batch) {
        index.Apply(rank, event);
      }
      seconds += Now() - begin;
      batch.clear();
    }
  }
  out.stored_per_s = static_cast<double>(index.counters().stored) / seconds;
  out.bytes = static_cast<double>(index.bytes());
  return out;
}

double LookupsPerSecond(KvIndex& index, const RouterBenchOptions& options) {
  constexpr std::uint64_t kQueries = 20'000;
  rt::Random random(options.seed + 1);
  std::vector<std::vector<std::uint64_t>> queries;
  for (std::uint64_t i = 0; i < kQueries; ++i) {
    queries.push_back(
        PromptOf(random.Below(options.blocks / options.prompt_blocks), options.prompt_blocks));
    queries.back().resize(options.prompt_blocks / 2 +
                          random.Below(options.prompt_blocks - options.prompt_blocks / 2 + 1));
  }
  router::KvMatches matches;
  std::uint64_t found = 0;
  const double begin = Now();
  for (const std::vector<std::uint64_t>& query : queries) {
    index.Find(query, matches);
    found += matches.ranks.empty() ? 0 : matches.ranks[0].device;
  }
  return static_cast<double>(found) / (Now() - begin);
}

// What a byte budget costs: prompts are stored into half the memory they need, while some are asked
// for again and again.
struct Budgeted {
  double used = 0;   // the most that was allocated, of the budget
  double often = 0;  // found of the blocks that were asked for often, of all of them
  double once = 0;   // found of the others
  double wrong = 0;  // matches at a rank that never had the prompt
};

Budgeted FillBudget(std::uint64_t budget, const RouterBenchOptions& options) {
  constexpr std::uint64_t kOften = 16;       // one of so many prompts
  constexpr std::uint64_t kSample = 20'000;  // prompts that are looked for at the end
  KvIndex index(router::KvIndexOptions{budget});
  Budgeted out;
  const std::uint64_t prompts = options.blocks / options.prompt_blocks;
  const auto rank_of = [&](std::uint64_t prompt) {
    return RankNumber{static_cast<std::uint32_t>(prompt % options.workers)};
  };
  router::KvMatches matches;
  rt::Random asked(options.seed + 3);
  for (std::uint64_t i = 0; i < prompts; ++i) {
    index.Apply(rank_of(i), Stored(PromptOf(i, options.prompt_blocks)));
    out.used = std::max(out.used, static_cast<double>(index.bytes()) / static_cast<double>(budget));
    // Each of them comes again and again while the others come once.
    const std::uint64_t again = asked.Below(i / kOften + 1) * kOften;
    index.Find(PromptOf(again, options.prompt_blocks), matches);
  }
  double blocks[2] = {};
  double found[2] = {};
  rt::Random random(options.seed + 2);
  for (std::uint64_t i = 0; i < kSample; ++i) {
    const std::uint64_t prompt = random.Below(prompts);
    const bool often = prompt % kOften == 0;
    index.Find(PromptOf(prompt, options.prompt_blocks), matches);
    blocks[often ? 1 : 0] += options.prompt_blocks;
    for (const router::RankMatch& match : matches.ranks) {
      if (match.rank == rank_of(prompt)) {
        found[often ? 1 : 0] += match.device;
      } else {
        ++out.wrong;
      }
    }
  }
  out.often = blocks[1] > 0 ? found[1] / blocks[1] : 0;
  out.once = blocks[0] > 0 ? found[0] / blocks[0] : 0;
  return out;
}

// A prompt of tokens, a hundred shared system prompts before what is its own.
std::vector<TokenId> TokensOf(std::uint64_t number, std::uint32_t blocks) {
  std::vector<TokenId> out(std::size_t{blocks} * kBlockTokens);
  rt::Random shared(number % 100);
  rt::Random own(number + 1'000'000);
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<TokenId>((i < out.size() / 4 ? shared : own).Below(100'000));
  }
  return out;
}

std::vector<double> DecisionMicroseconds(const RouterBenchOptions& options) {
  constexpr std::uint32_t kPromptBlocks = 64;
  constexpr std::uint32_t kEventBlocks = 8;
  constexpr std::uint64_t kRunning = 4000;  // requests at a time
  router::RouterOptions settings;
  settings.mode = router::RouterMode::kKv;
  settings.index_bytes_max = kIndexBytesMax;
  settings.cost.prefill_load_scale = 64;  // as the program does it unless told otherwise
  settings.cost.recompute_weight = 16;
  settings.credit_coming_blocks = true;
  router::Router router(settings, options.seed);
  for (std::uint32_t i = 0; i < options.workers; ++i) {
    control::Instance instance;
    instance.id = router::InstanceId{i + 1};
    instance.card.block_tokens = kBlockTokens;
    instance.card.block_count = 100'000;
    instance.card.batch_tokens_max = 8192;
    router.SetWorker(instance);
  }
  rt::Random random(options.seed);
  const auto any_worker = [&] { return router::InstanceId{1 + random.Below(options.workers)}; };
  for (std::uint64_t i = 0; i < options.blocks / kPromptBlocks; ++i) {
    const KvEvent stored =
        i % 16 == 0 ? Stored(wire::PublicBlockHashes(TokensOf(i, kPromptBlocks), kBlockTokens,
                                                     wire::kPublicHashSeed))
                    : Stored(PromptOf(i, kPromptBlocks));
    router.OnKvEvents(any_worker(), {stored}, {});
  }

  // What comes, made before: the time is the router's alone.
  struct Arrival {
    std::vector<TokenId> tokens;
    router::InstanceId worker{};
    KvEvent stored;
    KvEvent removed;
  };

  const auto decisions = static_cast<std::uint64_t>(options.decisions_per_s * options.seconds);
  std::vector<Arrival> arrivals(std::min<std::uint64_t>(decisions, 8192));
  for (std::size_t i = 0; i < arrivals.size(); ++i) {
    Arrival& one = arrivals[i];
    one.tokens =
        TokensOf(16 * random.Below(options.blocks / kPromptBlocks / 16 + 1), kPromptBlocks);
    one.worker = any_worker();
    one.stored = Stored(PromptOf(options.blocks + i, kEventBlocks));
    one.removed.kind = KvEvent::Kind::kRemoved;
    std::ranges::transform(one.stored.blocks, std::back_inserter(one.removed.removed),
                           &wire::KvBlock::block_hash);
  }
  std::vector<double> out;
  const double begin = Now();
  for (std::uint64_t i = 1; i <= decisions; ++i) {
    const Arrival& one = arrivals[i % arrivals.size()];
    router::RouteRequest request;
    request.id = RequestId{i};
    request.tokens = one.tokens;
    const double arrival = begin + static_cast<double>(i) / options.decisions_per_s;
    while (Now() < arrival) {
    }
    const rt::Time now = rt::Time{} + std::chrono::microseconds(i * 100);
    router.OnKvEvents(one.worker, {one.stored}, now);
    router.Submit(std::move(request), now);
    const std::vector<router::Dispatch> dispatches = router.TakeDispatches(now);
    out.push_back(dispatches.size() == 1 ? (Now() - arrival) * 1e6 : 1e9);
    router.OnFirstToken(RequestId{i}, now);
    if (i > kRunning) {
      router.Withdraw(RequestId{i - kRunning}, now);
    }
    router.OnKvEvents(one.worker, {one.removed}, now);
  }
  return out;
}

}  // namespace

Result<std::vector<Figure>> BenchRouter(const RouterBenchOptions& options) {
  if (options.prompt_blocks == 0 || options.workers == 0 || options.copies < 2 ||
      options.blocks < options.prompt_blocks) {
    return Fail(Code::kInvalidArgument,
                "the bench needs workers, prompts with blocks, and two copies or more");
  }
  std::vector<Figure> out;
  std::uint64_t half_bytes = 0;
  for (const bool opaque : {false, true}) {
    const std::string suffix = opaque ? "_opaque" : "";
    auto index = std::make_unique<KvIndex>(router::KvIndexOptions{kIndexBytesMax});
    const Filled once = Fill(*index, options, 1, opaque);
    const auto distinct = static_cast<double>(index->block_count());
    out.push_back(MakeFigure("stored" + suffix, "Mblocks/s", {once.stored_per_s / 1e6}));
    out.push_back(
        MakeFigure("lookup" + suffix, "Mblocks/s", {LookupsPerSecond(*index, options) / 1e6}));
    out.push_back(MakeFigure("block_size" + suffix, "bytes", {once.bytes / distinct}));
    index = std::make_unique<KvIndex>(router::KvIndexOptions{kIndexBytesMax});
    const Filled many = Fill(*index, options, options.copies, opaque);
    out.push_back(MakeFigure("stored_copies" + suffix, "Mblocks/s", {many.stored_per_s / 1e6}));
    out.push_back(MakeFigure("lookup_copies" + suffix, "Mblocks/s",
                             {LookupsPerSecond(*index, options) / 1e6}));
    out.push_back(MakeFigure("further_size" + suffix, "bytes",
                             {(many.bytes - once.bytes) / distinct / (options.copies - 1)}));
    if (!opaque) {
      half_bytes = static_cast<std::uint64_t>(once.bytes / 2);
    }
  }
  const Budgeted budgeted = FillBudget(half_bytes, options);
  out.push_back(MakeFigure("budget_used", "share", {budgeted.used}));
  out.push_back(MakeFigure("budget_found_often", "share", {budgeted.often}));
  out.push_back(MakeFigure("budget_found_once", "share", {budgeted.once}));
  out.push_back(MakeFigure("budget_wrong", "matches", {budgeted.wrong}));
  const std::vector<double> decisions = DecisionMicroseconds(options);
  out.push_back(MakeFigure("decision_p50", "us", {Quantile(decisions, 0.5)}));
  out.push_back(MakeFigure("decision_p99", "us", {Quantile(decisions, 0.99)}));
  return out;
}

}  // namespace pixii::bench
