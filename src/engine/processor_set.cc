#include "engine/processor_set.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace pixii::engine {

namespace {

constexpr std::string_view kField = "nvext.logits_processors";
constexpr wire::JsonLimits kArgumentLimits{.depth_max = 16, .values_max = 100'000};

tl::unexpected<Error> Refused(std::string detail) {
  return Fail(Code::kInvalidArgument, fmt::format("{}: {}", kField, detail), std::string(kField));
}

}  // namespace

std::span<const TokenId> ProcessorChain::second_prompt() const {
  for (const Link& link : links_) {
    if (!link.call->second_prompt().empty()) {
      return link.call->second_prompt();
    }
  }
  return {};
}

ProcessorSet::ProcessorSet(std::function<std::int64_t()> now_ns) : now_ns_(std::move(now_ns)) {}

Result<void> ProcessorSet::Add(std::unique_ptr<LogitsProcessor> processor,
                               const ProcessorOptions& options) {
  if (Find(processor->name())) {
    return Fail(Code::kInvalidArgument,
                fmt::format("the logits processor \"{}\" is given twice", processor->name()),
                "logits-processor");
  }
  auto entry = std::make_unique<Entry>();
  entry->processor = std::move(processor);
  entry->options = options;
  entries_.push_back(std::move(entry));
  return {};
}

Result<std::size_t> ProcessorSet::Find(std::string_view name) const {
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    if (entries_[i]->processor->name() == name) {
      return i;
    }
  }
  std::string known;
  for (const auto& entry : entries_) {
    known += fmt::format("{}\"{}\"", known.empty() ? "" : ", ", entry->processor->name());
  }
  return Refused(
      fmt::format("\"{}\" is not allowed here; {}", name.substr(0, 100),
                  known.empty() ? "this worker has no logits processors" : "allowed are " + known));
}

Result<ProcessorChain> ProcessorSet::Open(std::span<const wire::LogitsProcessorCall> calls,
                                          const ProcessorContext& context) const {
  if (calls.size() > kProcessorsPerRequestMax) {
    return Refused(fmt::format("{} processors; at most {} are allowed", calls.size(),
                               kProcessorsPerRequestMax));
  }
  ProcessorChain chain;
  std::vector<bool> named(entries_.size(), false);
  for (const wire::LogitsProcessorCall& call : calls) {
    PX_TRY(std::size_t entry, Find(call.name));
    if (named[entry]) {
      return Refused(fmt::format("\"{}\" is named twice", call.name));
    }
    named[entry] = true;
  }
  for (std::size_t entry = 0; entry < entries_.size(); ++entry) {
    if (entries_[entry]->options.always && !named[entry]) {
      PX_CHECK_OK(OpenLink(entry, "", context, chain));
    }
  }
  for (const wire::LogitsProcessorCall& call : calls) {
    PX_TRY(std::size_t entry, Find(call.name));
    PX_CHECK_OK(OpenLink(entry, call.arguments, context, chain));
  }
  auto wants_second = [](const ProcessorChain::Link& link) {
    return !link.call->second_prompt().empty();
  };
  if (std::ranges::count_if(chain.links_, wants_second) > 1) {
    return Refused("two of the processors want another prompt; at most one may");
  }
  return chain;
}

Result<void> ProcessorSet::OpenLink(std::size_t entry, std::string_view arguments,
                                    const ProcessorContext& context, ProcessorChain& chain) const {
  const LogitsProcessor& processor = *entries_[entry]->processor;
  wire::Json parsed{wire::Json::Object{}};
  if (!arguments.empty()) {
    PX_TRY(parsed, wire::ParseJson(arguments, kArgumentLimits));
    if (!parsed.is_object()) {
      return Refused(fmt::format("arguments of \"{}\" must be an object", processor.name()));
    }
  }
  Result<std::unique_ptr<ProcessorCall>> call = processor.Open(parsed, context);
  if (!call) {
    return Fail(call.error().code(),
                fmt::format("{}: \"{}\": {}", kField, processor.name(), call.error().detail()),
                std::string(kField));
  }
  chain.links_.push_back({entry, std::move(*call)});
  return {};
}

void ProcessorSet::Run(std::span<ChainRow> rows) {
  std::size_t places = 0;
  for (const ChainRow& row : rows) {
    places = std::max(places, row.chain->size());
  }
  for (std::size_t place = 0; place < places; ++place) {
    for (std::size_t entry = 0; entry < entries_.size(); ++entry) {
      rows_.clear();
      owners_.clear();
      for (ChainRow& row : rows) {
        if (place >= row.chain->size() || row.chain->links_[place].entry != entry ||
            row.row.error) {
          continue;
        }
        rows_.push_back(row.row);
        rows_.back().call = row.chain->links_[place].call.get();
        rows_.back().state = &row.states[place];
        owners_.push_back(&row);
      }
      if (!rows_.empty()) {
        RunEntry(*entries_[entry]);
      }
    }
  }
}

void ProcessorSet::RunEntry(Entry& entry) {
  bool may_fail = !entry.processor->cannot_fail();
  std::size_t vocab = rows_.front().logits.size();
  if (may_fail) {
    kept_.resize(std::max(kept_.size(), rows_.size() * vocab));
    kept_states_.resize(std::max(kept_states_.size(), rows_.size()));
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      std::ranges::copy(rows_[i].logits, kept_.data() + i * vocab);
      kept_states_[i] = *rows_[i].state;
    }
  }
  std::int64_t began = now_ns_ ? now_ns_() : 0;
  entry.processor->Process(rows_);
  if (may_fail && rows_.size() > 1 &&
      std::ranges::all_of(rows_, [](const ProcessorRow& row) { return row.error.has_value(); })) {
    // A call that failed as a whole says nothing of its rows: each gets one of its own.
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      std::copy_n(kept_.data() + i * vocab, vocab, rows_[i].logits.data());
      *rows_[i].state = kept_states_[i];
      rows_[i].error.reset();
      entry.processor->Process(std::span(&rows_[i], 1));
    }
  }
  std::int64_t took = now_ns_ ? now_ns_() - began : 0;
  entry.counters.nanoseconds.fetch_add(static_cast<std::uint64_t>(std::max<std::int64_t>(took, 0)),
                                       std::memory_order_relaxed);
  entry.counters.rows.fetch_add(rows_.size(), std::memory_order_relaxed);
  for (std::size_t i = 0; may_fail && i < rows_.size(); ++i) {
    Settle(entry, rows_[i], i);
  }
}

void ProcessorSet::Settle(Entry& entry, ProcessorRow& row, std::size_t index) {
  if (!row.error && row.state->size() > wire::kStateBytesMax) {
    row.error = Error(Code::kProcessorFault,
                      fmt::format("it keeps {} bytes of state; at most {} are allowed",
                                  row.state->size(), wire::kStateBytesMax));
  }
  if (!row.error) {
    return;
  }
  entry.counters.failures.fetch_add(1, std::memory_order_relaxed);
  std::size_t vocab = row.logits.size();
  std::copy_n(kept_.data() + index * vocab, vocab, row.logits.data());
  *row.state = kept_states_[index];
  if (entry.options.policy == FailurePolicy::kFailRequest) {
    owners_[index]->row.error =
        Error(Code::kProcessorFault, fmt::format("the logits processor \"{}\" failed: {}",
                                                 entry.processor->name(), row.error->detail()));
  }
}

std::vector<std::string> ProcessorSet::names() const {
  std::vector<std::string> out;
  for (const auto& entry : entries_) {
    out.emplace_back(entry->processor->name());
  }
  return out;
}

}  // namespace pixii::engine
