#include "router/policy_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "config/option.h"
#include "config/parse.h"
#include "config/yaml_adapter.h"

namespace pixii::router {

namespace {

using config::YamlKind;
using config::YamlLeaf;

constexpr std::int64_t kTokensMax = 1'000'000'000'000;
constexpr std::int64_t kRequestsMax = 1'000'000'000;
constexpr std::int64_t kQuantumMax = 1'000'000'000;
constexpr std::size_t kModelsMax = 1024;
constexpr double kFractionMax = 1'000'000;

const std::vector<std::string> kBucketKeys = {"min_tokens", "bucket"};
const std::vector<std::string> kClassKeys = {"name",
                                             "policy_family",
                                             "cache_bucket",
                                             "queue_policy",
                                             "quantum",
                                             "prefill_busy_threshold",
                                             "prefill_busy_threshold_frac",
                                             "request_queue_limit_per_worker",
                                             "raw_isl_token_queue_limit_per_worker",
                                             "cached_token_queue_limit_per_worker"};
const std::vector<std::string> kProfileKeys = {"default_policy_family", "uncached_isl_buckets",
                                               "policy_classes"};

using Keys = std::span<const std::string>;

// A profile while it is read, with where its parts stand.
struct Profile {
  std::string path;   // "", or "models.0."
  std::string model;  // of models alone
  std::uint32_t line = 1;
  PolicyConfig config;
};

class PolicyReader final : private config::YamlErrors {
 public:
  explicit PolicyReader(const std::string& file) : YamlErrors(file) {}

  Result<PolicyFile> Read(const std::string& text) {
    PX_TRY(const std::vector<YamlLeaf> leaves,
           config::ReadYamlTree(text, file(), config::YamlLists::kEntries));
    for (const YamlLeaf& leaf : leaves) {
      PX_CHECK_OK(ReadLeaf(leaf));
    }
    PolicyFile out;
    PX_CHECK_OK(Check(root_));
    out.all = std::move(root_.config);
    for (Profile& profile : models_) {
      if (profile.model.empty()) {
        return Wrong(profile.line, profile.path + "model", "is missing");
      }
      PX_CHECK_OK(Check(profile));
      if (!out.models.emplace(profile.model, std::move(profile.config)).second) {
        return Wrong(profile.line, profile.path + "model",
                     fmt::format("\"{}\" stands here twice", profile.model));
      }
    }
    if (out.all.classes.empty() && out.models.empty()) {
      return Fail(Code::kInvalidArgument, fmt::format("{}: policy_classes: there are none", file()),
                  "policy_classes");
    }
    return out;
  }

 private:
  Result<void> Check(const Profile& profile) const {
    const Result<void> checked = CheckPolicyConfig(profile.config);
    return checked ? checked
                   : Wrong(profile.line, profile.path + "policy_classes", checked.error().detail());
  }

  // The number of an entry, which is at most one past those before: they come in order.
  template <class Entry>
  Result<Entry*> EntryOf(const YamlLeaf& leaf, Keys keys, std::vector<Entry>& entries,
                         std::size_t count_max) const {
    std::size_t number = 0;
    const bool is_number =
        keys.size() > 1 &&
        std::from_chars(keys[1].data(), keys[1].data() + keys[1].size(), number).ptr ==
            keys[1].data() + keys[1].size();
    if (!is_number || number > entries.size()) {
      return Wrong(leaf.line, leaf.path, "must be a list of mappings");
    }
    if (number >= count_max) {
      return Wrong(leaf.line, leaf.path,
                   fmt::format("is entry {}; at most {} are allowed", number + 1, count_max));
    }
    if (number == entries.size()) {
      entries.emplace_back();
    }
    return &entries[number];
  }

  Result<std::string> Scalar(const YamlLeaf& leaf, Keys keys) const {
    if (leaf.kind != YamlKind::kScalar || keys.size() != 1) {
      return Wrong(leaf.line, leaf.path, "must be one value");
    }
    if (leaf.value.empty()) {
      return Wrong(leaf.line, leaf.path, "is empty");
    }
    return leaf.value;
  }

  Result<void> Assign(const YamlLeaf& leaf, Keys keys, config::Field field,
                      const char* unit = "") const {
    PX_TRY(const std::string value, Scalar(leaf, keys));
    config::Option option;
    option.name = leaf.path;
    option.field = std::move(field);
    option.unit = unit;
    if (const Result<void> read = config::Assign(option, value); !read) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("{}:{}: {}", file(), leaf.line, read.error().detail()), leaf.path);
    }
    return {};
  }

  Result<std::uint64_t> Count(const YamlLeaf& leaf, Keys keys, config::IntegerRange range,
                              const char* unit) const {
    std::int64_t number = 0;
    PX_CHECK_OK(Assign(leaf, keys, config::IntegerField{&number, range}, unit));
    return static_cast<std::uint64_t>(number);
  }

  Result<void> ReadLeaf(const YamlLeaf& leaf) {
    const std::vector<std::string> keys = config::KeysOf(leaf);
    if (keys[0] != "models") {
      return ReadProfile(leaf, keys, root_, false);
    }
    PX_TRY(Profile * profile, EntryOf(leaf, keys, models_, kModelsMax));
    if (keys.size() < 3) {
      return Wrong(leaf.line, leaf.path, "must have a model and its policy_classes");
    }
    if (profile->path.empty()) {
      profile->path = fmt::format("models.{}.", keys[1]);
      profile->line = leaf.line;
    }
    return ReadProfile(leaf, Keys(keys).subspan(2), *profile, true);
  }

  Result<void> ReadProfile(const YamlLeaf& leaf, Keys keys, Profile& profile, bool of_model) {
    PolicyConfig& config = profile.config;
    if (keys[0] == "default_policy_family") {
      PX_TRY(config.default_family, Scalar(leaf, keys));
      return {};
    }
    if (keys[0] == "uncached_isl_buckets") {
      PX_TRY(CacheBucket * bucket, EntryOf(leaf, keys, config.buckets, kPolicyClassCountMax));
      return ReadBucket(leaf, keys.subspan(2), *bucket);
    }
    if (keys[0] == "policy_classes") {
      PX_TRY(PolicyClass * one, EntryOf(leaf, keys, config.classes, kPolicyClassCountMax));
      return ReadClass(leaf, keys.subspan(2), *one);
    }
    if (of_model && keys[0] == "model") {
      PX_TRY(profile.model, Scalar(leaf, keys));
      return {};
    }
    std::vector<std::string> known = kProfileKeys;
    known.emplace_back(of_model ? "model" : "models");
    return Unknown(leaf, keys[0], known);
  }

  Result<void> ReadBucket(const YamlLeaf& leaf, Keys keys, CacheBucket& bucket) const {
    if (keys.empty()) {
      return Wrong(leaf.line, leaf.path, "must be a mapping");
    }
    if (keys[0] == "min_tokens") {
      PX_TRY(bucket.tokens_min, Count(leaf, keys, {0, kTokensMax}, "tokens"));
    } else if (keys[0] == "bucket") {
      PX_TRY(bucket.name, Scalar(leaf, keys));
    } else {
      return Unknown(leaf, keys[0], kBucketKeys);
    }
    return {};
  }

  Result<void> ReadClass(const YamlLeaf& leaf, Keys keys, PolicyClass& one) const {
    if (keys.empty()) {
      return Wrong(leaf.line, leaf.path, "must be a mapping");
    }
    const std::string& key = keys[0];
    if (key == "name") {
      PX_TRY(one.name, Scalar(leaf, keys));
    } else if (key == "policy_family") {
      PX_TRY(one.family, Scalar(leaf, keys));
    } else if (key == "cache_bucket") {
      PX_TRY(one.cache_bucket, Scalar(leaf, keys));
    } else if (key == "queue_policy") {
      std::string word;
      PX_CHECK_OK(Assign(leaf, keys, config::WordField{&word, {{"fcfs", "lcfs", "wspt"}}}));
      one.queue_policy = word == "lcfs"   ? QueuePolicy::kLcfs
                         : word == "wspt" ? QueuePolicy::kWspt
                                          : QueuePolicy::kFcfs;
    } else if (key == "quantum") {
      PX_TRY(one.quantum, Count(leaf, keys, {1, kQuantumMax}, "tokens"));
    } else if (key == "prefill_busy_threshold") {
      PX_TRY(one.prefill_busy_tokens, Count(leaf, keys, {0, kTokensMax}, "tokens"));
    } else if (key == "prefill_busy_threshold_frac") {
      double fraction = 0;
      PX_CHECK_OK(Assign(leaf, keys, config::RealField{&fraction, {0, kFractionMax}}));
      one.prefill_busy_fraction = fraction;
    } else if (key == "request_queue_limit_per_worker") {
      PX_TRY(one.requests_per_worker, Count(leaf, keys, {1, kRequestsMax}, "requests"));
    } else if (key == "raw_isl_token_queue_limit_per_worker") {
      PX_TRY(one.tokens_per_worker, Count(leaf, keys, {1, kTokensMax}, "tokens"));
    } else if (key == "cached_token_queue_limit_per_worker") {
      PX_TRY(one.cached_tokens_per_worker, Count(leaf, keys, {1, kTokensMax}, "tokens"));
    } else {
      return Unknown(leaf, key, kClassKeys);
    }
    return {};
  }

  Profile root_;
  std::vector<Profile> models_;
};

}  // namespace

const PolicyConfig& PolicyFile::For(std::string_view model) const {
  const auto found = models.find(model);
  return found != models.end() ? found->second : all;
}

Result<PolicyFile> ReadPolicyFile(const std::string& text, const std::string& file) {
  return PolicyReader(file).Read(text);
}

}  // namespace pixii::router
