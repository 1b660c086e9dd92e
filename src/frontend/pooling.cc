#include "frontend/pooling.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "frontend/error_body.h"

namespace pixii::frontend {

namespace {

/// Texts of one request at the engine at a time, in batches: the next step's are always there, and
/// a long list leaves room in the queue for others.
constexpr std::uint32_t kBatchesAhead = 2;

}  // namespace

Pooling::Pooling(GenerationHost& host, Exchange& exchange, PoolingPlan plan,
                 wire::GenerateRequest prototype, PoolingWriter writer)
    : host_(host),
      exchange_(&exchange),
      plan_(std::move(plan)),
      prototype_(std::move(prototype)),
      writer_(std::move(writer)) {
  record_.surface = plan_.request.surface;
  record_.started = host_.Now();
  record_.prompt_tokens = plan_.prompt_tokens;
  results_.resize(plan_.texts.size());
}

void Pooling::Start() {
  exchange_->Watch(this);
  SendMore();
}

void Pooling::SendMore() {
  if (sending_) {
    return;  // a link that answers at once
  }
  sending_ = true;
  std::uint32_t window = kBatchesAhead * std::max(1U, host_.link().card().batch_sequences_max);
  while (exchange_ != nullptr && ids_.size() < plan_.texts.size() && open_count_ < window) {
    auto index = static_cast<std::uint32_t>(ids_.size());
    ids_.push_back(host_.NextRequestId());
    open_.push_back(true);
    ++open_count_;
    Result<void> sent = Send(index);
    if (sent) {
      continue;
    }
    ids_.pop_back();
    open_.pop_back();
    --open_count_;
    if (sent.error().code() == Code::kResourceExhausted && open_count_ > 0) {
      break;  // a place comes free when one of ours ends
    }
    End(sent.error());
  }
  sending_ = false;
  MaybeDone();
}

Result<void> Pooling::Send(std::uint32_t index) {
  PoolText& text = plan_.texts[index];
  wire::GenerateRequest request = prototype_;
  request.id = ids_[index];
  request.prompt = text.ids;
  request.pool = wire::PoolParams{.token_types = text.types,
                                  .skip_tokens = text.skip_tokens,
                                  .logit_tokens = plan_.logit_tokens};
  return host_.link().Generate(std::move(request), [this, index](wire::TokenFrame frame) {
    OnFrame(index, std::move(frame));
  });
}

void Pooling::OnFrame(std::uint32_t index, wire::TokenFrame frame) {
  if (!frame.finish || !open_[index]) {
    return;  // a worker that breaks the rules harms nobody
  }
  open_[index] = false;
  --open_count_;
  if (exchange_ != nullptr) {
    Take(index, frame);
  }
  SendMore();
}

void Pooling::Take(std::uint32_t index, wire::TokenFrame& frame) {
  if (frame.finish == wire::FinishReason::kError ||
      frame.finish == wire::FinishReason::kCancelled) {
    End(frame.error.value_or(Error(Code::kCancelled, "the worker gave the request up")));
    return;
  }
  auto finite = [](float value) { return std::isfinite(value); };
  if (frame.pooled.size() != plan_.feature_count || !std::ranges::all_of(frame.pooled, finite)) {
    End(Error(Code::kModelFault, "the model gave no result that can be used"));
    return;
  }
  host_.OnPooled();
  record_.cached_tokens += std::min<std::uint64_t>(frame.cached_tokens, record_.prompt_tokens);
  results_[index] = std::move(frame.pooled);
  if (++result_count_ == results_.size()) {
    Complete();
  }
}

void Pooling::Complete() {
  Exchange* exchange = std::exchange(exchange_, nullptr);
  Answered(std::nullopt);
  exchange->Respond({.body = writer_(plan_, results_), .fields = plan_.fields});
}

void Pooling::End(const Error& error) {
  Exchange* exchange = std::exchange(exchange_, nullptr);
  if (exchange == nullptr) {
    return;
  }
  Answered(error);
  Response response =
      ErrorResponse(error, host_.retry_after_seconds(), Dialect::kOpenAi, host_.overload_status());
  response.fields.insert(response.fields.end(), plan_.fields.begin(), plan_.fields.end());
  exchange->Respond(std::move(response));
  CancelOpen();
  MaybeDone();
}

void Pooling::OnClientGone() {
  exchange_ = nullptr;
  Answered(Error(Code::kCancelled, "the client hung up"));
  CancelOpen();
  MaybeDone();
}

void Pooling::Answered(std::optional<Error> error) {
  record_.error = std::move(error);
  host_.OnAnswered(record_);
}

void Pooling::CancelOpen() {
  for (std::size_t i = 0; i < ids_.size(); ++i) {
    if (open_[i]) {
      host_.link().Cancel({ids_[i], std::nullopt});
    }
  }
}

void Pooling::MaybeDone() {
  if (!sending_ && !done_ && exchange_ == nullptr && open_count_ == 0) {
    done_ = true;
    host_.OnDone(*this);
  }
}

}  // namespace pixii::frontend
