#include "frontend/fleet/encode_flight.h"

#include <algorithm>
#include <utility>

namespace pixii::frontend {

namespace {

bool IsWanted(const wire::MediaItem& item) {
  return item.features.empty() && item.encoded.empty() && item.count > 0;
}

}  // namespace

bool EncodeFlight::Wants(const wire::GenerateRequest& request) {
  return request.handover.empty() && !request.fetch_only && !request.pool &&
         std::ranges::any_of(request.media, IsWanted);
}

EncodeFlight::EncodeFlight(wire::GenerateRequest request)
    : request_(std::move(request)), cancelled_(request_.choice_count) {
  for (std::size_t item = 0; item < request_.media.size(); ++item) {
    const bool is_new = std::ranges::none_of(pictures_, [&](const Picture& other) {
      return request_.media[other.item].digest == request_.media[item].digest;
    });
    if (is_new && IsWanted(request_.media[item])) {
      pictures_.push_back({.item = item, .settled = false, .record = {}});
    }
  }
}

const std::string& EncodeFlight::digest(std::size_t picture) const {
  return request_.media[pictures_[picture].item].digest;
}

wire::GenerateRequest EncodeFlight::Ask(std::size_t picture) const {
  wire::GenerateRequest out;
  out.model = request_.model;
  out.encode_only = true;
  out.priority = request_.priority;
  out.tenant = request_.tenant;
  out.deadline_left_ns = request_.deadline_left_ns;
  out.stop.max_tokens = 1;
  wire::MediaItem& item = out.media.emplace_back(request_.media[pictures_[picture].item]);
  item.begin = 0;
  out.prompt.resize(item.count);
  wire::PutMediaTokens(out.media, out.prompt);
  return out;
}

EncodeFlight::Next EncodeFlight::OnFrame(std::size_t picture, const wire::TokenFrame& frame) {
  Picture& one = pictures_[picture];
  if (!frame.handover.empty()) {
    one.settled = true;
    one.record = frame.handover;
  } else if (frame.error) {
    return OnRefused(picture, *frame.error);
  } else if (frame.finish) {  // what was kept is not any more
    one.settled = true;
    one.record.clear();
  }
  return Settle();
}

EncodeFlight::Next EncodeFlight::OnRefused(std::size_t picture, const Error& error) {
  pictures_[picture].settled = true;
  pictures_[picture].record.clear();
  if (error.code() == Code::kRequestPoisoned) {
    failure_ = error;
    return Next::kFail;
  }
  return Settle();
}

EncodeFlight::Next EncodeFlight::Settle() const {
  const bool all = std::ranges::all_of(pictures_, [](const Picture& one) { return one.settled; });
  return all ? Next::kForward : Next::kWait;
}

wire::GenerateRequest EncodeFlight::Take() {
  for (const Picture& picture : pictures_) {
    const std::string digest = request_.media[picture.item].digest;
    for (wire::MediaItem& item : request_.media) {
      if (item.digest == digest) {
        item.encoded = picture.record;
      }
    }
  }
  return std::move(request_);
}

bool EncodeFlight::OnCancel(std::optional<std::uint32_t> choice) {
  for (std::size_t i = 0; i < cancelled_.size(); ++i) {
    cancelled_[i] = cancelled_[i] || !choice || *choice == i;
  }
  return std::ranges::all_of(cancelled_, [](bool one) { return one; });
}

std::vector<std::uint32_t> EncodeFlight::cancelled_choices() const {
  std::vector<std::uint32_t> out;
  for (std::uint32_t i = 0; i < cancelled_.size(); ++i) {
    if (cancelled_[i]) {
      out.push_back(i);
    }
  }
  return out;
}

std::vector<wire::TokenFrame> EncodeFlight::EndAll(wire::FinishReason finish,
                                                   const std::optional<Error>& error) const {
  std::vector<wire::TokenFrame> out(cancelled_.size());
  for (std::uint32_t choice = 0; choice < out.size(); ++choice) {
    out[choice].choice = choice;
    out[choice].finish = cancelled_[choice] ? wire::FinishReason::kCancelled : finish;
    if (!cancelled_[choice]) {
      out[choice].error = error;
    }
  }
  return out;
}

std::size_t EncodeFlight::missed_count() const {
  return static_cast<std::size_t>(
      std::ranges::count_if(pictures_, [](const Picture& one) { return one.record.empty(); }));
}

}  // namespace pixii::frontend
