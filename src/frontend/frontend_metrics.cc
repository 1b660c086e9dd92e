#include "frontend/frontend_metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <limits>
#include <utility>

namespace pixii::frontend {

namespace {

constexpr double kSecondsBounds[] = {0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2,
                                     0.5,   1,     2,     5,    10,   30,   60,  300};
constexpr double kGapBounds[] = {0.0005, 0.001, 0.002, 0.005, 0.01, 0.02,
                                 0.05,   0.1,   0.2,   0.5,   1,    5};
constexpr double kTokenBounds[] = {1,    2,    4,    8,    16,    32,    64,    128,    256,   512,
                                   1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072, 262144};

double Seconds(rt::Duration duration) { return std::chrono::duration<double>(duration).count(); }

std::string_view EndpointName(Surface surface) {
  return surface == Surface::kChat ? "chat_completions" : "completions";
}

std::string_view TypeName(bool stream) { return stream ? "stream" : "unary"; }

std::string EscapeLabel(std::string_view value) {
  std::string out;
  for (char c : value) {
    if (c == '\\' || c == '"') {
      out += '\\';
    }
    if (c == '\n') {
      out += "\\n";
      continue;
    }
    out += c;
  }
  return out;
}

void Head(std::string& out, std::string_view name, std::string_view type, std::string_view help) {
  fmt::format_to(std::back_inserter(out), "# HELP {0} {2}\n# TYPE {0} {1}\n", name, type, help);
}

}  // namespace

Histogram::Histogram(std::span<const double> bounds)
    : bounds_(bounds), counts_(bounds.size() + 1) {}

void Histogram::Add(double value, std::uint64_t times) {
  auto at = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
  counts_[static_cast<std::size_t>(at)] += times;
  sum_ += value * static_cast<double>(times);
  count_ += times;
}

void Histogram::Render(std::string& out, std::string_view name, std::string_view labels) const {
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < counts_.size(); ++i) {
    total += counts_[i];
    std::string bound = i < bounds_.size() ? fmt::format("{}", bounds_[i]) : "+Inf";
    fmt::format_to(std::back_inserter(out), "{}_bucket{{{},le=\"{}\"}} {}\n", name, labels, bound,
                   total);
  }
  fmt::format_to(std::back_inserter(out), "{0}_sum{{{1}}} {2}\n{0}_count{{{1}}} {3}\n", name,
                 labels, sum_, count_);
}

FrontendMetrics::FrontendMetrics(std::string model)
    : model_(EscapeLabel(model)),
      duration_(kSecondsBounds),
      ttft_(kSecondsBounds),
      itl_(kGapBounds),
      input_(kTokenBounds),
      output_(kTokenBounds),
      cached_(kTokenBounds) {
  for (Surface surface : {Surface::kChat, Surface::kCompletions}) {
    rejections_[surface] = 0;
    for (bool stream : {false, true}) {
      requests_[{surface, stream, 200, ""}] = 0;
      cancellations_[{surface, stream}] = 0;
    }
  }
}

void FrontendMetrics::OnRequest(Surface surface, bool stream, int status,
                                std::string_view error_class) {
  ++requests_count_;
  ++requests_[{surface, stream, status, error_class}];
}

void FrontendMetrics::OnGeneration(const GenerationRecord& record, rt::Time now) {
  duration_.Add(Seconds(now - record.started));
  input_.Add(static_cast<double>(record.prompt_tokens));
  output_.Add(static_cast<double>(record.output_tokens));
  cached_.Add(static_cast<double>(record.cached_tokens));
  if (record.error && record.error->code() == Code::kCancelled) {
    ++cancelled_count_;
    ++cancellations_[{record.surface, record.stream}];
  }
}

void FrontendMetrics::OnTokens(const GenerationRecord& record, std::uint64_t count, rt::Time now) {
  output_tokens_ += count;
  if (record.last_token == rt::kNever) {
    ttft_.Add(Seconds(now - record.started));
    return;
  }
  itl_.Add(Seconds(now - record.last_token) / static_cast<double>(count), count);
}

void FrontendMetrics::OnRejected(Surface surface) { ++rejections_[surface]; }

std::string FrontendMetrics::Render(const FrontendGauges& gauges) const {
  std::string out;
  auto put = std::back_inserter(out);
  Head(out, "dynamo_frontend_requests_total", "counter", "Generation requests answered.");
  for (const auto& [key, value] : requests_) {
    const auto& [surface, stream, status, error] = key;
    fmt::format_to(put,
                   "dynamo_frontend_requests_total{{model=\"{}\",endpoint=\"{}\",request_type=\"{}"
                   "\",status=\"{}\","
                   "error_type=\"{}\"}} {}\n",
                   model_, EndpointName(surface), TypeName(stream),
                   status == 200 ? "success" : "error", error, value);
  }
  Head(out, "dynamo_frontend_model_cancellation_total", "counter",
       "Requests whose client hung up.");
  for (const auto& [key, value] : cancellations_) {
    fmt::format_to(put,
                   "dynamo_frontend_model_cancellation_total{{model=\"{}\",endpoint=\"{}\",request_"
                   "type=\"{}\"}} {}\n",
                   model_, EndpointName(key.first), TypeName(key.second), value);
  }
  Head(out, "dynamo_frontend_model_rejection_total", "counter",
       "Requests refused because a bound was reached.");
  for (const auto& [surface, value] : rejections_) {
    fmt::format_to(put,
                   "dynamo_frontend_model_rejection_total{{model=\"{}\",endpoint=\"{}\"}} {}\n",
                   model_, EndpointName(surface), value);
  }
  std::string model = fmt::format("model=\"{}\"", model_);
  Head(out, "dynamo_frontend_output_tokens_total", "counter", "Tokens generated for clients.");
  fmt::format_to(put, "dynamo_frontend_output_tokens_total{{{}}} {}\n", model, output_tokens_);

  struct Row {
    const Histogram& histogram;
    std::string_view name;
    std::string_view help;
  };

  for (const Row& row :
       {Row{duration_, "dynamo_frontend_request_duration_seconds", "From request to last byte."},
        Row{ttft_, "dynamo_frontend_time_to_first_token_seconds", "From request to first token."},
        Row{itl_, "dynamo_frontend_inter_token_latency_seconds", "Between tokens of a request."},
        Row{input_, "dynamo_frontend_input_sequence_tokens", "Prompt tokens of a request."},
        Row{output_, "dynamo_frontend_output_sequence_tokens", "Generated tokens of a request."},
        Row{cached_, "dynamo_frontend_cached_tokens",
            "Prompt tokens found in the prefix cache."}}) {
    Head(out, row.name, "histogram", row.help);
    row.histogram.Render(out, row.name, model);
  }
  auto gauge = [&](std::string_view name, std::uint64_t value, std::string_view help) {
    Head(out, name, "gauge", help);
    fmt::format_to(put, "{}{{{}}} {}\n", name, model, value);
  };
  gauge("dynamo_frontend_active_requests", gauges.active_requests,
        "Generations running or waiting.");
  gauge("dynamo_frontend_inflight_requests", gauges.active_requests,
        "The same, by its older name.");
  gauge("dynamo_frontend_queued_requests", gauges.load.queued, "Sequences waiting in the engine.");
  gauge("pixii_frontend_connections", gauges.connections, "Open client connections.");
  gauge("pixii_frontend_ready", gauges.ready ? 1 : 0, "Whether /ready says yes.");
  if (gauges.card != nullptr) {
    gauge("dynamo_frontend_model_total_kv_blocks", gauges.card->block_count,
          "KV blocks of the worker.");
    gauge("dynamo_frontend_model_max_num_seqs", gauges.card->batch_sequences_max,
          "Sequences of one batch.");
    gauge("dynamo_frontend_model_max_num_batched_tokens", gauges.card->batch_tokens_max,
          "Tokens of one batch.");
    gauge("dynamo_frontend_model_context_length", gauges.card->context_tokens_max,
          "Prompt and output tokens.");
    gauge("dynamo_frontend_model_kv_cache_block_size", gauges.card->block_tokens,
          "Tokens of one KV block.");
  }
  gauge("dynamo_frontend_worker_active_decode_blocks", gauges.load.blocks_used,
        "KV blocks pinned by sequences.");
  return out;
}

}  // namespace pixii::frontend
