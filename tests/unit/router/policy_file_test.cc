#include "router/policy_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace pixii::router {
namespace {

const std::string kGood = R"(default_policy_family: chat
uncached_isl_buckets:
  - {min_tokens: 0, bucket: warm}
  - {min_tokens: 2048, bucket: cold}
policy_classes:
  - name: chat-warm
    policy_family: chat
    cache_bucket: warm
    quantum: 512
    queue_policy: wspt
    prefill_busy_threshold_frac: 0.5
  - name: chat-cold
    policy_family: chat
    cache_bucket: cold
    quantum: 128
    queue_policy: lcfs
    prefill_busy_threshold: 4096
    request_queue_limit_per_worker: 8
    raw_isl_token_queue_limit_per_worker: 1000
    cached_token_queue_limit_per_worker: 70
  - name: probe
models:
  - model: Qwen2.5-7B
    default_policy_family: all
    uncached_isl_buckets: [{min_tokens: 0, bucket: any}]
    policy_classes:
      - {name: one, policy_family: all, cache_bucket: any}
)";

TEST(PolicyFile, SaysEveryClassAndModelsOfTheirOwn) {
  const Result<PolicyFile> file = ReadPolicyFile(kGood, "p.yaml");
  ASSERT_TRUE(file) << file.error().detail();
  const PolicyConfig& config = file->For("any other");
  EXPECT_EQ(config.default_family, "chat");
  ASSERT_EQ(config.buckets.size(), 2U);
  EXPECT_EQ(config.buckets[1].tokens_min, 2048U);
  EXPECT_EQ(config.buckets[1].name, "cold");
  ASSERT_EQ(config.classes.size(), 3U);
  EXPECT_EQ(config.classes[0].queue_policy, QueuePolicy::kWspt);
  EXPECT_EQ(config.classes[0].prefill_busy_fraction, 0.5);
  EXPECT_EQ(config.classes[0].quantum, 512U);
  const PolicyClass& cold = config.classes[1];
  EXPECT_EQ(cold.name, "chat-cold");
  EXPECT_EQ(cold.family, "chat");
  EXPECT_EQ(cold.cache_bucket, "cold");
  EXPECT_EQ(cold.queue_policy, QueuePolicy::kLcfs);
  EXPECT_EQ(cold.prefill_busy_tokens, 4096U);
  EXPECT_EQ(cold.requests_per_worker, 8U);
  EXPECT_EQ(cold.tokens_per_worker, 1000U);
  EXPECT_EQ(cold.cached_tokens_per_worker, 70U);
  EXPECT_FALSE(cold.prefill_busy_fraction);
  EXPECT_TRUE(config.classes[2].family.empty()) << "addressed by its name alone";
  ASSERT_EQ(file->For("Qwen2.5-7B").classes.size(), 1U) << "its own and no others";
  EXPECT_EQ(file->For("Qwen2.5-7B").classes[0].name, "one");
}

struct BadCase {
  std::string what;
  std::string by;
  std::string said;
};

TEST(PolicyFile, NamesLineKeyValueAndLimitOfWhatIsWrong) {
  const BadCase cases[] = {
      {"quantum: 512", "quantum: 0", "p.yaml:9: policy_classes.0.quantum"},
      {"quantum: 512", "quantum: many", "many"},
      {"quantum: 512", "quantum: 1000000001", "1 .. 1000000000"},
      {"queue_policy: wspt", "queue_policy: sjf", "fcfs, lcfs, wspt"},
      {"frac: 0.5", "frac: -1", "-1"},
      {"quantum: 128", "quanta: 128", "did you mean \"quantum\"?"},
      {"min_tokens: 2048", "min_tokens: 0", "bucket cold begins at 0 tokens"},
      {"cache_bucket: cold", "cache_bucket: warm", "two policy classes for family chat"},
      {"    cache_bucket: cold\n", "", "has only one of policy_family and cache_bucket"},
      {"cache_bucket: cold", "cache_bucket: ice", "no policy class for family chat"},
      {"default_policy_family: chat", "default_policy_family: talk", "default family \"talk\""},
      {"name: probe", "name: chat-cold", "each has a name of its own"},
      {"name: probe", "name: {a: b}", "policy_classes.2.name.a: must be one value"},
      {"model: Qwen2.5-7B", "model: ''", "models.0.model: is empty"},
      {"  - model: Qwen2.5-7B\n    default", "  - default", "models.0.model: is missing"},
      {"policy_classes:\n  - name: chat-warm", "policy_classes: 7\nx:\n  - name: chat-warm",
       "policy_classes: must be a list of mappings"},
      {"models:", "model:", "did you mean \"models\"?"},
  };
  for (const BadCase& one : cases) {
    SCOPED_TRACE(one.by);
    std::string text = kGood;
    const std::size_t at = text.find(one.what);
    ASSERT_NE(at, std::string::npos);
    text.replace(at, one.what.size(), one.by);
    const Result<PolicyFile> file = ReadPolicyFile(text, "p.yaml");
    ASSERT_FALSE(file);
    EXPECT_EQ(file.error().code(), Code::kInvalidArgument);
    EXPECT_THAT(file.error().detail(), testing::HasSubstr(one.said));
    EXPECT_THAT(file.error().detail(), testing::StartsWith("p.yaml:"));
  }
  EXPECT_FALSE(ReadPolicyFile("", "p.yaml")) << "a file that says nothing is a mistake";
}

TEST(PolicyFile, HasBoundsForClassesAndModels) {
  std::string text =
      "default_policy_family: a\nuncached_isl_buckets: [{min_tokens: 0, bucket: b}]\n"
      "policy_classes:\n  - {name: c, policy_family: a, cache_bucket: b}\n";
  for (std::size_t i = 1; i <= kPolicyClassCountMax; ++i) {
    text += "  - {name: c" + std::to_string(i) + "}\n";
  }
  const Result<PolicyFile> file = ReadPolicyFile(text, "p.yaml");
  ASSERT_FALSE(file);
  EXPECT_THAT(file.error().detail(), testing::HasSubstr("at most 64"));
}

}  // namespace
}  // namespace pixii::router
