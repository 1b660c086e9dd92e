#include "frontend/beam_search.h"

#include <algorithm>
#include <cmath>
#include <tuple>

namespace pixii::frontend {

BeamSearch::BeamSearch(BeamOptions options) : options_(std::move(options)), live_(1) {}

void BeamSearch::Advance(std::span<const BeamOffer> offers) {
  std::vector<Child> children;
  for (std::uint32_t parent = 0; parent < live_.size(); ++parent) {
    for (std::uint32_t rank = 0; rank < offers[parent].top.size(); ++rank) {
      auto [token, logprob] = offers[parent].top[rank];
      if (std::isfinite(logprob)) {  // an excluded token has minus infinity
        children.push_back({live_[parent].sum + double{logprob}, parent, rank, token});
      }
    }
  }
  std::ranges::sort(children, {}, [](const Child& child) {
    return std::tuple(-child.sum, child.parent, child.token);
  });
  std::size_t length = live_.front().tokens.size();
  std::vector<Beam> next;
  for (const Child& child : children) {
    if (next.size() == options_.width) {
      break;
    }
    bool ends = std::ranges::find(options_.end_ids, child.token) != options_.end_ids.end();
    if (!ends) {
      next.push_back(Grown(child, offers[child.parent]));
    } else if (length >= options_.min_tokens) {
      Beam beam = live_[child.parent];
      beam.sum = child.sum;
      beam.end_token = child.token;
      Finish(std::move(beam));
    }
  }
  live_ = std::move(next);
  if (length + 1 >= options_.max_tokens) {
    for (Beam& beam : live_) {
      Finish(std::move(beam));
    }
    live_.clear();
  } else if (!CanImprove()) {
    live_.clear();
  }
}

Beam BeamSearch::Grown(const Child& child, const BeamOffer& offer) const {
  Beam beam = live_[child.parent];
  beam.tokens.push_back(child.token);
  beam.sum = child.sum;
  beam.state = offer.state;
  if (options_.top_logprobs >= 0) {
    wire::TokenLogprob& entry = beam.logprobs.emplace_back();
    entry.logprob = offer.top[child.rank].second;
    auto count = std::min(static_cast<std::size_t>(options_.top_logprobs), offer.top.size());
    entry.top.assign(offer.top.begin(), offer.top.begin() + static_cast<std::ptrdiff_t>(count));
  }
  return beam;
}

double BeamSearch::Score(const Beam& beam) const {
  return beam.sum / std::pow(static_cast<double>(std::max<std::size_t>(1, beam.tokens.size())),
                             options_.length_penalty);
}

// Among equals the earlier one stays first.
void BeamSearch::Finish(Beam beam) {
  double score = Score(beam);
  auto place =
      std::ranges::find_if(finished_, [&](const auto& entry) { return entry.first < score; });
  finished_.insert(place, {score, std::move(beam)});
  if (finished_.size() > options_.width) {
    finished_.pop_back();
  }
}

// Sums only fall, so a live beam's score is bounded by its sum over the length that flatters it
// most.
bool BeamSearch::CanImprove() const {
  if (live_.empty()) {
    return false;
  }
  if (finished_.size() < options_.width) {
    return true;
  }
  if (options_.early_stopping) {
    return false;
  }
  double length = options_.length_penalty > 0 ? options_.max_tokens
                                              : static_cast<double>(live_.front().tokens.size());
  return live_.front().sum / std::pow(length, options_.length_penalty) > finished_.back().first;
}

std::vector<Beam> BeamSearch::TakeBest(std::size_t count) {
  std::vector<Beam> out;
  for (auto& [score, beam] : finished_) {
    if (out.size() < count) {
      out.push_back(std::move(beam));
    }
  }
  finished_.clear();
  return out;
}

}  // namespace pixii::frontend
