#include "apps/bench_kv_engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <string_view>
#include <utility>

namespace pixii::apps {

namespace {

constexpr std::uint32_t kBatchSlack = 16;                        // tokens of an answer
constexpr rt::Duration kQuiet = std::chrono::milliseconds(300);  // in which tiers write nothing

double Milliseconds(rt::Duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

}  // namespace

Result<std::unique_ptr<BenchedEngine>> BenchedEngine::Make(
    const std::string& folder, const EngineFlags& flags,
    const std::optional<engine::MockOptions>& mock) {
  auto made = std::make_unique<BenchedEngine>();
  PX_TRY(made->loop_, rt::MakeLoop());
  rt::Loop& loop = *made->loop_;
  const rt::Time began = loop.Now();
  made->log_ = std::make_unique<obs::Log>(
      obs::LogOptions{}, [&loop] { return loop.WallNow(); },
      [](obs::Severity, std::string_view) {});
  made->tiers_ = std::make_unique<KvTiers>(flags, kv::TierJournalOptions{}, loop, *made->log_);
  PX_TRY(made->host_,
         mock ? ModelHost::LoadMock(folder, flags, *mock) : ModelHost::Load(folder, flags));
  made->host_->UseConnector([tiers = made->tiers_.get(), &bytes = made->block_bytes_](
                                const kv::BlockGeometry& geometry, std::uint32_t rank) {
    bytes = geometry.block_size_bytes;
    return tiers->Make(geometry, rank);
  });
  PX_TRY(std::unique_ptr<engine::Engine> engine, made->host_->MakeEngine());
  made->engine_ = std::make_unique<engine::EngineLoop>(loop, std::move(engine));
  made->load_time_ = loop.Now() - began;
  made->destination_ = made->engine_->AddDestination([raw = made.get()](engine::StepOutput output) {
    for (const wire::TokenFrame& frame : output.frames) {
      raw->Take(frame);
    }
  });
  return made;
}

RequestId BenchedEngine::Submit(const std::vector<TokenId>& prompt, std::uint32_t output_tokens) {
  wire::GenerateRequest request;
  request.id = RequestId{++last_id_};
  request.prompt = prompt;
  request.sampling.temperature = 0;
  request.stop.max_tokens = output_tokens;
  request.stop.ignore_eos = true;
  engine_->Submit(destination_, std::move(request));
  return RequestId{last_id_};
}

Result<BenchedEngine::Turn> BenchedEngine::Ask(const std::vector<TokenId>& prompt,
                                               std::uint32_t output_tokens) {
  turn_ = {};
  error_.reset();
  began_ = loop_->Now();
  Submit(prompt, output_tokens);
  loop_->Run();
  if (error_) {
    return Fail(*error_);
  }
  return std::move(turn_);
}

Result<double> BenchedEngine::StepOfBatch(const std::vector<std::vector<TokenId>>& prompts,
                                          std::uint32_t steps) {
  error_.reset();
  batch_.emplace();
  batch_->waiting = prompts.size();
  batch_->steps_left = steps;
  const auto count = static_cast<std::uint32_t>(prompts.size());
  // Those that begin first go on while the others begin.
  const std::uint32_t tokens = 2 * (steps + count) + kBatchSlack;
  for (const std::vector<TokenId>& prompt : prompts) {
    const RequestId id = Submit(prompt, tokens);
    batch_->first = batch_->begun.empty() ? id : batch_->first;
    batch_->begun.emplace(id, false);
  }
  loop_->Run();
  const bool whole = batch_->steps_left == 0 && !error_;
  const double took = Milliseconds(batch_->until - batch_->since) / std::max(steps, 1U);
  batch_.reset();
  if (error_) {
    return Fail(*error_);
  }
  if (!whole) {
    return Fail(Code::kResourceExhausted,
                fmt::format("{} sequences do not all run at a time", prompts.size()));
  }
  return took;
}

void BenchedEngine::TakeBatch(const wire::TokenFrame& frame) {
  const auto found = batch_->begun.find(frame.id);
  if (found == batch_->begun.end()) {
    return;
  }
  const rt::Time now = loop_->Now();
  const bool counts = frame.id == batch_->first && batch_->waiting == 0 && !batch_->cut;
  if (counts && batch_->since != rt::Time{}) {
    batch_->steps_left -= std::min<std::uint32_t>(batch_->steps_left,
                                                  static_cast<std::uint32_t>(frame.tokens.size()));
    batch_->until = now;
  } else if (counts) {
    batch_->since = now;  // from the first step on that all of them are in
  }
  if (!found->second && !frame.tokens.empty()) {
    found->second = true;
    --batch_->waiting;
  }
  if (frame.finish) {
    error_ = frame.error ? frame.error : error_;
    batch_->begun.erase(found);
  }
  if (!batch_->cut && (frame.finish || batch_->steps_left == 0)) {
    batch_->cut = true;
    for (const auto& [id, begun] : batch_->begun) {
      engine_->Cancel({.id = id, .choice = std::nullopt});
    }
  }
  if (batch_->begun.empty()) {
    loop_->Stop();
  }
}

Result<void> BenchedEngine::StartStream(const std::vector<TokenId>& prompt,
                                        std::uint32_t output_tokens) {
  error_.reset();
  stream_left_ = output_tokens;
  stream_begins_ = true;
  stream_ = Submit(prompt, output_tokens);
  loop_->Run();
  return error_ ? Result<void>(Fail(*error_)) : Result<void>();
}

void BenchedEngine::EndStream() {
  if (stream_left_ > 0) {
    engine_->Cancel({.id = stream_, .choice = std::nullopt});
    loop_->Run();
  }
}

std::vector<double> BenchedEngine::TakeStreamGaps() { return std::exchange(gaps_ms_, {}); }

void BenchedEngine::RunUntil(rt::Time when) {
  loop_->RunAt(when, [this] { loop_->Stop(); });
  loop_->Run();
}

void BenchedEngine::Settle() { RunUntil(loop_->Now() + kQuiet); }

void BenchedEngine::TakeStream(const wire::TokenFrame& frame) {
  const rt::Time now = loop_->Now();
  const auto count = static_cast<std::uint32_t>(frame.tokens.size());
  for (std::uint32_t i = 0; i < count && !stream_begins_; ++i) {
    gaps_ms_.push_back(Milliseconds(now - stream_last_) / count);
  }
  stream_left_ -= std::min(stream_left_, count);
  stream_last_ = now;
  const bool begins = stream_begins_;
  stream_begins_ = begins && count == 0 && !frame.finish;
  if (frame.finish) {
    stream_left_ = 0;
    error_ = frame.error;
  }
  if (begins != stream_begins_ || frame.finish == wire::FinishReason::kCancelled) {
    loop_->Stop();
  }
}

void BenchedEngine::Take(const wire::TokenFrame& frame) {
  if (batch_) {
    TakeBatch(frame);
    return;
  }
  if (frame.id == stream_) {
    TakeStream(frame);
    return;
  }
  if (turn_.tokens.empty() && !frame.tokens.empty()) {
    turn_.ttft_ms = Milliseconds(loop_->Now() - began_);
    turn_.cached_tokens = frame.cached_tokens;
  }
  turn_.tokens.insert(turn_.tokens.end(), frame.tokens.begin(), frame.tokens.end());
  if (frame.finish) {
    error_ = frame.error;
    loop_->Stop();
  }
}

}  // namespace pixii::apps
