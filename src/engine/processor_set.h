// The logits processors of a worker: its allow-list, their order in a request, what happens when
// one fails, and their counters.
//
// Thread: filled at start; then the engine thread; counters may be read from any thread.
// A request's processors run in the order in which it names them, those that are always on first.
// Rows that want the same processor at the same place of their order are given to it in one call.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "engine/logits_processor.h"
#include "wire/messages/generate.h"

namespace pixii::engine {

inline constexpr std::uint32_t kProcessorsPerRequestMax = 16;

enum class FailurePolicy : std::uint8_t {
  kFailRequest,  // the request ends with kProcessorFault
  kSkip,         // the row goes on as if the processor had not been asked for
};

struct ProcessorOptions {
  FailurePolicy policy = FailurePolicy::kFailRequest;
  bool always = false;  // for every request, whether it asks or not
};

struct ProcessorCounters {
  std::atomic<std::uint64_t> rows = 0;
  std::atomic<std::uint64_t> failures = 0;
  std::atomic<std::uint64_t> nanoseconds = 0;
};

class ProcessorSet;

/// What one request asked for, opened. Made by ProcessorSet::Open, which outlives it.
class ProcessorChain final {
 public:
  bool empty() const { return links_.empty(); }

  std::size_t size() const { return links_.size(); }

  /// Of the one processor that wants a second prompt, or empty.
  std::span<const TokenId> second_prompt() const;

 private:
  friend class ProcessorSet;

  struct Link {
    std::size_t entry;
    std::unique_ptr<ProcessorCall> call;
  };

  std::vector<Link> links_;
};

/// One row on its way through its request's chain.
struct ChainRow {
  const ProcessorChain* chain = nullptr;
  ProcessorRow row;               // all but call and state
  std::span<std::string> states;  // [chain] one for each processor
};

class ProcessorSet final {
 public:
  /// `now_ns`: monotonic time, for the counters; none: no time is counted.
  explicit ProcessorSet(std::function<std::int64_t()> now_ns = {});

  /// Errors: kInvalidArgument if the name is taken.
  Result<void> Add(std::unique_ptr<LogitsProcessor> processor, const ProcessorOptions& options);

  /// Errors: kInvalidArgument naming nvext.logits_processors, the processor and what it refused.
  Result<ProcessorChain> Open(std::span<const wire::LogitsProcessorCall> calls,
                              const ProcessorContext& context) const;

  /// Runs every row through its chain. A row whose processor failed gets an error, unless the
  /// policy is to skip.
  void Run(std::span<ChainRow> rows);

  std::size_t size() const { return entries_.size(); }

  std::string_view name(std::size_t index) const { return entries_[index]->processor->name(); }

  const ProcessorCounters& counters(std::size_t index) const { return entries_[index]->counters; }

  std::vector<std::string> names() const;

 private:
  struct Entry {
    std::unique_ptr<LogitsProcessor> processor;
    ProcessorOptions options;
    ProcessorCounters counters;
  };

  Result<std::size_t> Find(std::string_view name) const;
  Result<void> OpenLink(std::size_t entry, std::string_view arguments,
                        const ProcessorContext& context, ProcessorChain& chain) const;
  void RunEntry(Entry& entry);
  void Settle(Entry& entry, ProcessorRow& row, std::size_t index);

  std::function<std::int64_t()> now_ns_;
  std::vector<std::unique_ptr<Entry>> entries_;
  std::vector<ProcessorRow> rows_;        // of the call at hand
  std::vector<ChainRow*> owners_;         // [rows_]
  std::vector<float> kept_;               // [rows_, vocab] as they were before the call
  std::vector<std::string> kept_states_;  // [rows_]
};

}  // namespace pixii::engine
