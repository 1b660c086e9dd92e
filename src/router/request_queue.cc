#include "router/request_queue.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace pixii::router {

namespace {

std::vector<PolicyClass> ClassesOf(const RequestQueue::Options& options) {
  if (!options.config.classes.empty()) {
    return options.config.classes;
  }
  PolicyClass only;
  only.name = "default";
  only.queue_policy = options.policy;
  return {only};
}

std::vector<std::uint64_t> QuantaOf(const std::vector<PolicyClass>& classes) {
  std::vector<std::uint64_t> out;
  std::ranges::transform(classes, std::back_inserter(out), &PolicyClass::quantum);
  return out;
}

// The smaller, the earlier.
double KeyOf(QueuePolicy policy, const Waiting& waiting) {
  const double jump_s = std::max(waiting.request.priority_jump_s, 0.0);
  const double arrived_s =
      std::chrono::duration<double>(waiting.arrived.time_since_epoch()).count();
  switch (policy) {
    case QueuePolicy::kFcfs:
      return arrived_s - jump_s;
    case QueuePolicy::kLcfs:
      return -arrived_s - jump_s;
    case QueuePolicy::kWspt:
      return -(1 + jump_s) / static_cast<double>(waiting.cost());
  }
  return 0;
}

}  // namespace

Result<void> CheckPolicyConfig(const PolicyConfig& config) {
  const auto fail = [](std::string what) {
    return Fail(Code::kInvalidArgument, std::move(what), "router-policy-config");
  };
  if (config.classes.empty()) {
    return config.buckets.empty() ? Result<void>() : fail("buckets without policy classes");
  }
  if (config.classes.size() > kPolicyClassCountMax) {
    return fail(
        fmt::format("{} policy classes; at most {}", config.classes.size(), kPolicyClassCountMax));
  }
  for (std::size_t i = 0; i < config.buckets.size(); ++i) {
    const std::uint64_t floor = config.buckets[i].tokens_min;
    if (i == 0 ? floor != 0 : floor <= config.buckets[i - 1].tokens_min) {
      return fail(
          fmt::format("bucket {} begins at {} tokens; the first begins at 0 and each next "
                      "one later",
                      config.buckets[i].name, floor));
    }
  }
  std::set<std::string> names;
  std::set<std::string> families;
  std::set<std::pair<std::string, std::string>> cells;
  for (const PolicyClass& one : config.classes) {
    if (one.name.empty() || !names.insert(one.name).second) {
      return fail(fmt::format("policy class \"{}\": each has a name of its own", one.name));
    }
    if (one.family.empty() != one.cache_bucket.empty()) {
      return fail(
          fmt::format("policy class {} has only one of policy_family and cache_bucket", one.name));
    }
    if (one.quantum == 0) {
      return fail(fmt::format("policy class {}: quantum must be 1 or more", one.name));
    }
    if (!one.family.empty()) {
      families.insert(one.family);
      if (!cells.insert({one.family, one.cache_bucket}).second) {
        return fail(fmt::format("two policy classes for family {} and bucket {}", one.family,
                                one.cache_bucket));
      }
    }
  }
  if (!families.contains(config.default_family)) {
    return fail(
        fmt::format("no policy class is of the default family \"{}\"", config.default_family));
  }
  std::size_t expected = 0;
  for (const std::string& family : families) {
    for (const CacheBucket& bucket : config.buckets) {
      ++expected;
      if (!cells.contains({family, bucket.name})) {
        return fail(
            fmt::format("no policy class for family {} and bucket {}", family, bucket.name));
      }
    }
  }
  return cells.size() == expected ? Result<void>()
                                  : fail("a policy class names a bucket that does not exist");
}

RequestQueue::RequestQueue(Options options)
    : options_(std::move(options)), turns_(QuantaOf(ClassesOf(options_))) {
  for (PolicyClass& one : ClassesOf(options_)) {
    classes_.push_back({.options = std::move(one), .order = {}});
  }
}

std::size_t RequestQueue::ClassOf(std::string_view named, std::uint64_t uncached_tokens) const {
  if (options_.config.classes.empty()) {
    return 0;
  }
  std::string_view family = options_.config.default_family;
  for (std::size_t i = 0; i < classes_.size(); ++i) {
    const PolicyClass& one = classes_[i].options;
    if (one.family.empty() && one.name == named) {
      return i;
    }
    family = !named.empty() && one.family == named ? named : family;
  }
  std::string_view bucket;
  for (const CacheBucket& one : options_.config.buckets) {
    bucket = one.tokens_min <= uncached_tokens ? std::string_view(one.name) : bucket;
  }
  const auto found = std::ranges::find_if(classes_, [&](const Class& one) {
    return one.options.family == family && one.options.cache_bucket == bucket;
  });
  return found == classes_.end() ? 0 : static_cast<std::size_t>(found - classes_.begin());
}

Result<void> RequestQueue::Push(std::unique_ptr<Waiting> waiting, std::size_t index,
                                std::size_t worker_count) {
  Class& one = classes_[index];

  struct Limit {
    std::string_view what;
    std::optional<std::uint64_t> per_worker;
    std::uint64_t used;
    std::uint64_t ClassCounts::* refused;
  };

  // Before it is added: who crosses a limit is taken, the next one is not.
  for (const Limit& limit :
       {Limit{"requests", one.options.requests_per_worker, one.order.size(),
              &ClassCounts::refused_by_requests},
        Limit{"prompt tokens", one.options.tokens_per_worker, one.counts.prompt_tokens,
              &ClassCounts::refused_by_prompt_tokens},
        Limit{"cached tokens", one.options.cached_tokens_per_worker, one.counts.cached_tokens,
              &ClassCounts::refused_by_cached_tokens}}) {
    if (limit.per_worker && limit.used >= *limit.per_worker * worker_count) {
      ++(one.counts.*limit.refused);
      return Fail(Code::kResourceExhausted,
                  fmt::format("policy class {} has {} {} waiting; its limit is {} ({} for each of "
                              "{} workers)",
                              one.options.name, limit.used, limit.what,
                              *limit.per_worker * worker_count, *limit.per_worker, worker_count));
    }
  }
  if (places_.size() >= options_.requests_max) {
    ++one.counts.refused_by_queue;
    return Fail(Code::kResourceExhausted,
                fmt::format("{} requests wait for a worker already", places_.size()));
  }
  const Place place{waiting->request.strict_priority, KeyOf(one.options.queue_policy, *waiting),
                    ++last_number_};
  one.counts.prompt_tokens += waiting->prompt_tokens;
  one.counts.cached_tokens += waiting->cached_tokens;
  prompt_tokens_ += waiting->prompt_tokens;
  pinned_count_ += waiting->request.pinned ? 1 : 0;
  places_.emplace(waiting->request.id, std::pair(index, place));
  one.order.emplace(place, std::move(waiting));
  return {};
}

ClassCounts RequestQueue::counts(std::size_t index) const {
  ClassCounts out = classes_[index].counts;
  out.requests = classes_[index].order.size();
  return out;
}

std::unique_ptr<Waiting> RequestQueue::Take(std::size_t index, Order::iterator at) {
  Class& one = classes_[index];
  std::unique_ptr<Waiting> out = std::move(at->second);
  one.order.erase(at);
  one.counts.prompt_tokens -= out->prompt_tokens;
  one.counts.cached_tokens -= out->cached_tokens;
  prompt_tokens_ -= out->prompt_tokens;
  pinned_count_ -= out->request.pinned ? 1 : 0;
  places_.erase(out->request.id);
  return out;
}

std::unique_ptr<Waiting> RequestQueue::Remove(RequestId id) {
  const auto found = places_.find(id);
  if (found == places_.end()) {
    return nullptr;
  }
  const auto [index, place] = found->second;
  return Take(index, classes_[index].order.find(place));
}

}  // namespace pixii::router
