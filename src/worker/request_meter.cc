#include "worker/request_meter.h"

#include <algorithm>
#include <chrono>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace pixii::worker {

namespace {

using obs::MetricId;

constexpr std::string_view kEngine = "trtllm";

double Seconds(rt::Duration duration) { return std::chrono::duration<double>(duration).count(); }

std::string_view NameOf(wire::FinishReason reason) {
  return reason == wire::FinishReason::kLength ? "length" : "stop";
}

}  // namespace

RequestMeter::RequestMeter(obs::Registry& registry, RequestMeterOptions options)
    : registry_(registry),
      options_(std::move(options)),
      request_bytes_(registry.GetCounter(
          MetricId::kComponentRequestBytesTotal,
          {options_.ns, options_.component, options_.endpoint, options_.worker, options_.model})),
      response_bytes_(registry.GetCounter(
          MetricId::kComponentResponseBytesTotal,
          {options_.ns, options_.component, options_.endpoint, options_.worker, options_.model})),
      duration_(registry.GetHistogram(
          MetricId::kComponentRequestDuration,
          {options_.ns, options_.component, options_.endpoint, options_.worker, options_.model})),
      first_response_(registry.GetHistogram(
          MetricId::kComponentFirstResponse,
          {options_.ns, options_.component, options_.endpoint, options_.worker, options_.model})),
      prompt_tokens_(registry.GetCounter(MetricId::kTrtPromptTokens, {options_.model, kEngine})),
      generation_tokens_(
          registry.GetCounter(MetricId::kTrtGenerationTokens, {options_.model, kEngine})),
      cached_tokens_(registry.GetCounter(MetricId::kTrtPromptCached, {options_.model, kEngine})),
      completed_(registry.GetCounter(MetricId::kTrtRequestsCompleted, {options_.model, kEngine})),
      aborted_(
          registry.GetCounter(MetricId::kTrtAborted, {options_.model, options_.mode, kEngine})),
      with_pictures_(
          registry.GetCounter(MetricId::kTrtImage, {options_.model, options_.mode, kEngine})),
      constrained_(
          registry.GetCounter(MetricId::kTrtStructured, {options_.model, options_.mode, kEngine})),
      e2e_(registry.GetHistogram(MetricId::kTrtE2e, {options_.model, kEngine})),
      ttft_(registry.GetHistogram(MetricId::kTrtTtft, {options_.model, kEngine})),
      per_token_(registry.GetHistogram(MetricId::kTrtTpot, {options_.model, kEngine})),
      queue_(registry.GetHistogram(MetricId::kTrtQueue, {options_.model, kEngine})),
      prefill_(registry.GetHistogram(MetricId::kTrtPrefill, {options_.model, kEngine})),
      decode_(registry.GetHistogram(MetricId::kTrtDecode, {options_.model, kEngine})),
      inference_(registry.GetHistogram(MetricId::kTrtInference, {options_.model, kEngine})),
      cached_per_request_(
          registry.GetHistogram(MetricId::kTrtCachedPerRequest, {options_.model, kEngine})) {
  for (const wire::FinishReason reason : {wire::FinishReason::kStop, wire::FinishReason::kLength}) {
    registry.GetCounter(MetricId::kTrtRequestSuccess, {options_.model, kEngine, NameOf(reason)});
  }
  for (const Code code : {Code::kInvalidArgument, Code::kInternal, Code::kResourceExhausted,
                          Code::kDeadlineExceeded, Code::kUnavailable}) {
    registry.GetCounter(MetricId::kTrtRequestError,
                        {options_.model, kEngine, fmt::format("{}", HttpStatus(code))});
  }
}

void RequestMeter::OnRefused(const Error& error) {
  registry_
      .GetCounter(MetricId::kTrtRequestError,
                  {options_.model, kEngine, fmt::format("{}", HttpStatus(error.code()))})
      .Add();
}

void RequestMeter::OnRequest(const wire::GenerateRequest& request, rt::Time now) {
  running_.insert_or_assign(request.id, Running{.came = now,
                                                .prompt_tokens = request.prompt.size(),
                                                .has_pictures = !request.media.empty(),
                                                .constrained = request.constraint.has_value(),
                                                .live_choices = request.choice_count});
}

void RequestMeter::Forget(RequestId id) { running_.erase(id); }

void RequestMeter::OnFrame(const wire::TokenFrame& frame, rt::Time now) {
  const auto found = running_.find(frame.id);
  if (found == running_.end()) {
    return;
  }
  Running& running = found->second;
  running.cached_tokens = std::max(running.cached_tokens, frame.cached_tokens);
  if (!frame.tokens.empty() || !frame.pooled.empty()) {
    if (running.first_token == rt::kNever) {
      running.first_token = now;
      first_response_.Observe(Seconds(now - running.came));
    }
    running.last_token = now;
    running.tokens += frame.tokens.size();
    generation_tokens_.Add(frame.tokens.size());
  }
  for (const wire::RequestLeg& leg : frame.legs) {
    if (leg.times.scheduled_ns >= 0) {
      running.scheduled =
          std::min(running.scheduled, running.came + rt::Duration(leg.times.scheduled_ns));
    }
  }
  if (frame.finish && --running.live_choices == 0) {
    End(running, frame, now);
    running_.erase(found);
  }
}

// A request counts by how the last of its choices ended. Of those that ended by themselves alone
// there are times: each of them has every time, so that the counts of the histograms agree.
void RequestMeter::End(const Running& running, const wire::TokenFrame& last, rt::Time now) {
  completed_.Add();
  prompt_tokens_.Add(running.prompt_tokens);
  with_pictures_.Add(running.has_pictures ? 1 : 0);
  constrained_.Add(running.constrained ? 1 : 0);
  duration_.Observe(Seconds(now - running.came));
  cached_tokens_.Add(running.cached_tokens);
  if (*last.finish == wire::FinishReason::kCancelled) {
    aborted_.Add();
    return;
  }
  if (*last.finish == wire::FinishReason::kError) {
    OnRefused(last.error.value_or(Error(Code::kInternal, "it failed")));
    return;
  }
  registry_
      .GetCounter(MetricId::kTrtRequestSuccess, {options_.model, kEngine, NameOf(*last.finish)})
      .Add();
  const rt::Time first = running.first_token == rt::kNever ? now : running.first_token;
  const rt::Time end = running.last_token == rt::kNever ? now : running.last_token;
  // Whoever does no steps, as an encoder, has no queue for them.
  const rt::Time scheduled =
      running.scheduled == rt::kNever ? running.came : std::min(running.scheduled, first);
  e2e_.Observe(Seconds(end - running.came));
  ttft_.Observe(Seconds(first - running.came));
  queue_.Observe(Seconds(scheduled - running.came));
  prefill_.Observe(Seconds(first - scheduled));
  decode_.Observe(Seconds(end - first));
  inference_.Observe(Seconds(end - scheduled));
  cached_per_request_.Observe(running.cached_tokens);
  if (running.tokens > 1) {
    per_token_.Observe(Seconds(end - first) / static_cast<double>(running.tokens - 1));
  }
}

}  // namespace pixii::worker
