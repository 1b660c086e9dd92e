#include "frontend/request_trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <tuple>
#include <utility>

#include "wire/json.h"

namespace pixii::frontend {

using obs::Span;
using obs::SpanId;
using obs::SpanName;
using Phase = wire::RequestLeg::Phase;

namespace {

std::string_view PhaseName(Phase phase) {
  switch (phase) {
    case Phase::kWhole:
      return "aggregated";
    case Phase::kPrefill:
      return "prefill";
    case Phase::kDecode:
      return "decode";
    case Phase::kFetch:
      return "fetch";
  }
  return "";
}

/// Spans of one request; what is added lies within its parent whatever the times say.
class Tree {
 public:
  explicit Tree(const RequestTrace& trace) : trace_(trace) {
    out_.trace = trace.context.trace;
    out_.state = trace.context.state;
    out_.begin_unix_ns = trace.wall.unix_seconds * 1'000'000'000 + trace.wall.nanoseconds;
  }

  /// The index of the new span.
  std::size_t Root() {
    out_.spans.push_back({.name = SpanName::kHttpRequest,
                          .id = trace_.root,
                          .parent = trace_.context.parent,
                          .begin_ns = 0,
                          .end_ns = std::max<std::int64_t>(Since(trace_.answered), 0)});
    Label(out_.spans.back());
    return 0;
  }

  std::size_t Add(std::size_t parent, SpanName name, std::int64_t begin, std::int64_t end,
                  SpanId id = {}) {
    const Span& above = out_.spans[parent];
    begin = std::clamp(begin, above.begin_ns, above.end_ns);
    out_.spans.push_back({.name = name,
                          .id = id != SpanId{} ? id : NextId(),
                          .parent = above.id,
                          .begin_ns = begin,
                          .end_ns = std::clamp(end, begin, above.end_ns)});
    Label(out_.spans.back());
    return out_.spans.size() - 1;
  }

  Span& at(std::size_t index) { return out_.spans[index]; }

  Span& last() { return out_.spans.back(); }

  std::int64_t Since(rt::Time at) const { return (at - trace_.begun).count(); }

  /// Of a time as a leg has it.
  std::int64_t Since(std::int64_t steady_ns) const {
    return steady_ns - trace_.begun.time_since_epoch().count();
  }

  obs::SpanTree Take() { return std::move(out_); }

 private:
  void Label(Span& span) const {
    if (!trace_.label.empty()) {
      span.attributes.push_back({"x_request_id", trace_.label});
    }
  }

  SpanId NextId() {
    return obs::MakeSpanId(out_.trace, static_cast<std::uint64_t>(trace_.root) + out_.spans.size());
  }

  const RequestTrace& trace_;
  obs::SpanTree out_;
};

void AddWorker(Tree& tree, std::size_t attempt, const wire::RequestLeg& leg) {
  const wire::WorkerTimes& times = leg.times;
  if (times.ended_ns < 0) {
    return;  // it died, or never said
  }
  // Half of what the attempt took longer than the worker, before and after it: but no token was
  // here before it was there.
  const std::int64_t sent = tree.at(attempt).begin_ns;
  const std::int64_t slack = tree.at(attempt).end_ns - sent - times.ended_ns;
  std::int64_t begin = sent + std::max<std::int64_t>(slack / 2, 0);
  if (leg.first_frame_ns >= 0 && times.first_token_ns >= 0) {
    begin = std::min(begin, tree.Since(leg.first_frame_ns) - times.first_token_ns);
  }
  begin = std::max(begin, sent);
  const std::size_t worker = tree.Add(attempt, SpanName::kWorker, begin, begin + times.ended_ns);
  for (obs::SpanAttribute attribute : {
           obs::SpanAttribute{"pixii.cached_tokens", std::int64_t{times.cached_tokens}},
           obs::SpanAttribute{"pixii.computed_tokens", std::int64_t{times.computed_tokens}},
           obs::SpanAttribute{"pixii.preempted", times.preempted},
       }) {
    tree.at(worker).attributes.push_back(std::move(attribute));
  }
  const auto add = [&](SpanName name, std::int64_t from, std::int64_t to) {
    if (from >= 0 && to >= from) {
      tree.Add(worker, name, begin + from, begin + to);
    }
  };
  const std::int64_t queued_until = times.scheduled_ns >= 0 ? times.scheduled_ns : times.ended_ns;
  if (times.awaited_blocks) {
    add(SpanName::kKvTransfer, 0, times.queued_ns >= 0 ? times.queued_ns : times.ended_ns);
    tree.last().attributes.push_back(
        {"pixii.bytes", static_cast<std::int64_t>(times.brought_bytes)});
  }
  add(SpanName::kQueue, times.queued_ns, queued_until);
  add(SpanName::kPrefill, times.scheduled_ns,
      times.first_token_ns >= 0 ? times.first_token_ns : times.ended_ns);
  add(SpanName::kDecode, times.first_token_ns, times.last_token_ns);
}

// A moved attempt stands beside the one that goes on, which points to it. `before`: the attempt
// before it in its phase.
std::size_t AddLeg(Tree& tree, const wire::RequestLeg& leg, std::optional<SpanId> before) {
  const std::int64_t ended = tree.Since(leg.ended_ns);
  std::size_t parent = 0;
  if (leg.phase == Phase::kPrefill) {
    parent = tree.Add(0, SpanName::kPrefillRouting, tree.Since(leg.routed_ns), ended);
  } else if (leg.routed_ns >= 0) {
    tree.Add(0, SpanName::kRoute, tree.Since(leg.routed_ns), tree.Since(leg.sent_ns));
  }
  const std::size_t attempt =
      tree.Add(parent, SpanName::kHandlePayload, tree.Since(leg.sent_ns), ended, SpanId{leg.span});
  Span& span = tree.at(attempt);
  span.error = leg.error;
  span.attributes.push_back({"pixii.phase", std::string(PhaseName(leg.phase))});
  if (leg.worker != 0) {
    span.attributes.push_back({"pixii.worker", fmt::format("{:016x}", leg.worker)});
    span.attributes.push_back({"pixii.rank", std::int64_t{leg.rank}});
  }
  span.attributes.push_back({"pixii.attempt", std::int64_t{leg.attempt}});
  if (leg.moved) {
    span.attributes.push_back({"pixii.moved", true});
  }
  if (!leg.error.empty()) {
    span.attributes.push_back({"error.type", leg.error});
  }
  if (ended > span.end_ns) {
    span.attributes.push_back({"pixii.ended_late_ns", ended - span.end_ns});
  }
  if (before) {
    span.links.push_back({.span = *before, .why = "migration"});
  }
  AddWorker(tree, attempt, leg);
  return attempt;
}

void AddPromptParts(Tree& tree, std::size_t parent, const PromptTimes& times) {
  rt::Time begun = times.template_begun;
  if (times.template_ended != rt::kNever) {
    tree.Add(parent, SpanName::kTemplate, tree.Since(begun), tree.Since(times.template_ended));
    begun = times.template_ended;
  }
  if (times.tokens_ended != rt::kNever && begun != rt::kNever) {
    tree.Add(parent, SpanName::kTokenize, tree.Since(begun), tree.Since(times.tokens_ended));
  }
}

void Describe(const RequestTrace& trace, Span& root) {
  auto& out = root.attributes;
  out.push_back({"http.request.method", std::string("POST")});
  out.push_back({"url.path", trace.path});
  out.push_back({"gen_ai.operation.name", trace.operation});
  out.push_back({"gen_ai.provider.name", std::string("pixii")});
  if (!trace.model.empty()) {
    out.push_back({"gen_ai.request.model", trace.model});
    out.push_back({"gen_ai.response.model", trace.model});
  }
  if (!trace.id.empty()) {
    out.push_back({"gen_ai.response.id", trace.id});
  }
  const auto count = [&](std::string_view key, std::uint64_t value) {
    out.push_back({key, static_cast<std::int64_t>(value)});
  };
  count("gen_ai.usage.input_tokens", trace.prompt_tokens);
  count("gen_ai.usage.output_tokens", trace.output_tokens);
  count("pixii.cached_tokens", trace.cached_tokens);
  out.push_back({"pixii.stream", trace.stream});
  if (trace.ahead) {
    out.push_back({"pixii.ahead", true});
  }
  if (!trace.session.id.empty()) {
    out.push_back({"pixii.session", trace.session.id});
  }
  if (!trace.session.parent.empty()) {
    out.push_back({"pixii.session.parent", trace.session.parent});
  }
  if (!trace.finish_reasons.empty()) {
    out.push_back({"gen_ai.response.finish_reasons",
                   fmt::format("{}", fmt::join(trace.finish_reasons, ","))});
  }
  if (trace.first_token != rt::kNever) {
    out.push_back({"gen_ai.server.time_to_first_token",
                   std::chrono::duration<double>(trace.first_token - trace.begun).count()});
  }
  if (trace.error) {
    root.error = trace.error->ToString();
    out.push_back({"error.type", std::string(CodeName(trace.error->code()))});
  }
}

void AppendValue(std::string& out, const obs::SpanValue& value) {
  if (const auto* text = std::get_if<std::string>(&value)) {
    wire::AppendJsonString(out, *text);
  } else if (const auto* flag = std::get_if<bool>(&value)) {
    out += *flag ? "true" : "false";
  } else if (const auto* number = std::get_if<std::int64_t>(&value)) {
    out += fmt::format_int(*number).str();
  } else {
    out += fmt::format("{:.9g}", std::get<double>(value));
  }
}

void AppendSpan(std::string& out, const Span& span) {
  fmt::format_to(std::back_inserter(out), R"({{"name":"{}","span_id":"{}","parent_span_id":)",
                 obs::NameOf(span.name), obs::ToHex(span.id));
  out += span.parent == SpanId{} ? "null" : fmt::format("\"{}\"", obs::ToHex(span.parent));
  fmt::format_to(std::back_inserter(out), R"(,"start_ns":{},"end_ns":{},"error":)", span.begin_ns,
                 span.end_ns);
  if (span.error.empty()) {
    out += "null";
  } else {
    wire::AppendJsonString(out, span.error);
  }
  out += R"(,"links":[)";
  for (std::size_t i = 0; i < span.links.size(); ++i) {
    fmt::format_to(std::back_inserter(out), R"({}{{"span_id":"{}","why":"{}"}})", i == 0 ? "" : ",",
                   obs::ToHex(span.links[i].span), span.links[i].why);
  }
  out += R"(],"attributes":{)";
  for (std::size_t i = 0; i < span.attributes.size(); ++i) {
    fmt::format_to(std::back_inserter(out), "{}\"{}\":", i == 0 ? "" : ",", span.attributes[i].key);
    AppendValue(out, span.attributes[i].value);
  }
  out += "}}";
}

}  // namespace

obs::SpanTree SpansOf(const RequestTrace& trace) {
  Tree tree(trace);
  tree.Root();
  Describe(trace, tree.at(0));
  const bool prepared = trace.prepared != rt::kNever;
  if (prepared) {
    const std::size_t made = tree.Add(0, SpanName::kPreprocess, 0, tree.Since(trace.prepared));
    AddPromptParts(tree, made, trace.prompt_times);
  }
  std::vector<wire::RequestLeg> legs = trace.legs;
  std::ranges::sort(legs, {}, [](const wire::RequestLeg& leg) {
    return std::tuple(leg.sent_ns, leg.phase, leg.attempt);
  });
  std::optional<SpanId> moved[4];  // [phase]
  for (const wire::RequestLeg& leg : legs) {
    std::optional<SpanId>& before = moved[static_cast<std::size_t>(leg.phase)];
    const std::size_t attempt = AddLeg(tree, leg, std::exchange(before, std::nullopt));
    if (leg.moved) {
      before = tree.at(attempt).id;
    }
  }
  if (prepared && trace.last_frame != rt::kNever && trace.last_frame <= trace.answered) {
    tree.Add(0, SpanName::kPostprocess, tree.Since(trace.last_frame), tree.Since(trace.answered));
  }
  return tree.Take();
}

std::string TraceJson(const RequestTrace& trace) {
  const obs::SpanTree tree = SpansOf(trace);
  std::string out =
      fmt::format(R"({{"object":"trace","trace_id":"{}","id":)", obs::ToHex(tree.trace));
  wire::AppendJsonString(out, trace.id);
  out += R"(,"request_id":)";
  wire::AppendJsonString(out, trace.label);
  out += R"(,"model":)";
  wire::AppendJsonString(out, trace.model);
  fmt::format_to(std::back_inserter(out), R"(,"start_unix_ns":{},"duration_ns":{},"spans":[)",
                 tree.begin_unix_ns, tree.spans.front().end_ns);
  for (std::size_t i = 0; i < tree.spans.size(); ++i) {
    out += i == 0 ? "" : ",";
    AppendSpan(out, tree.spans[i]);
  }
  out += "]}";
  return out;
}

std::string EndedRequestJson(const RequestTrace& trace, std::uint64_t sequence) {
  const auto ms = [](rt::Duration time) {
    return std::max(std::chrono::duration<double, std::milli>(time).count(), 0.0);
  };
  wire::Json out{wire::Json::Object{}};
  out.Set("sequence", sequence);
  out.Set("model", trace.model);
  out.Set("prompt_tokens", trace.prompt_tokens);
  out.Set("cached_tokens", trace.cached_tokens);
  out.Set("output_tokens", trace.output_tokens);
  if (trace.first_token != rt::kNever) {
    out.Set("ttft_ms", ms(trace.first_token - trace.begun));
    const rt::Time last = trace.last_frame != rt::kNever ? trace.last_frame : trace.answered;
    if (trace.output_tokens > 1) {
      out.Set("itl_ms",
              ms(last - trace.first_token) / static_cast<double>(trace.output_tokens - 1));
    }
  }
  out.Set("duration_ms", ms(trace.answered - trace.begun));
  if (trace.error) {
    out.Set("error", CodeName(trace.error->code()));
    out.Set("status", std::int64_t{HttpStatus(trace.error->code())});
  }
  return out.Dump();
}

void TraceStore::Begin() {
  rt::MutexLock lock(mutex_);
  ++begun_;
}

TraceStore::Recent TraceStore::Since(std::uint64_t after) const {
  rt::MutexLock lock(mutex_);
  Recent out{.begun = begun_, .ended = ended_, .traces = {}};
  const std::uint64_t fresh = ended_ - std::min(after, ended_);
  const auto count = static_cast<std::ptrdiff_t>(std::min<std::uint64_t>(fresh, traces_.size()));
  out.traces.assign(traces_.end() - count, traces_.end());
  return out;
}

void TraceStore::Add(std::unique_ptr<RequestTrace> ended) {
  const std::shared_ptr<const TracePayload> payload = std::move(ended->payload);
  const EndedTrace trace = std::move(ended);
  {
    rt::MutexLock lock(mutex_);
    ++ended_;
    traces_.push_back(trace);
    if (traces_.size() > options_.count_max) {
      traces_.pop_front();
    }
  }
  if (options_.on_ended) {
    options_.on_ended(trace, payload);
  }
}

EndedTrace TraceStore::Find(std::string_view id) const {
  if (id.empty()) {
    return nullptr;
  }
  rt::MutexLock lock(mutex_);
  for (auto at = traces_.rbegin(); at != traces_.rend(); ++at) {
    const RequestTrace& trace = **at;
    if (trace.id == id || trace.label == id || obs::ToHex(trace.context.trace) == id) {
      return *at;
    }
  }
  return nullptr;
}

}  // namespace pixii::frontend
