#include "frontend/fleet/model_versions.h"

#include <gtest/gtest.h>

namespace pixii::frontend {
namespace {

using control::Instance;
using control::InstanceId;
using control::WorkerRole;

Instance Worker(std::uint64_t id, std::string name, std::string fingerprint,
                std::int64_t started_ms) {
  Instance out;
  out.id = InstanceId{id};
  out.card.name = std::move(name);
  out.card.fingerprint = std::move(fingerprint);
  out.started_ms = started_ms;
  return out;
}

class ModelVersionsTest : public ::testing::Test {
 protected:
  VersionChoice Choose() const {
    return versions.Choose([&](const VersionKey& key) {
      const auto found = states.find(key);
      return found != states.end() ? found->second
                                   : VersionState{.ready = true, .trouble = {}, .workers = 1};
    });
  }

  std::string Serving(const std::string& name) const {
    const VersionChoice choice = Choose();
    const auto found = choice.serving.find(name);
    return found != choice.serving.end() ? found->second.fingerprint : "";
  }

  ModelVersions versions;
  std::map<VersionKey, VersionState> states;
};

TEST_F(ModelVersionsTest, SeveralModelsServeBesideEachOther) {
  versions.SetInstance(Worker(1, "a", "x", 10));
  versions.SetInstance(Worker(2, "b", "x", 5));
  EXPECT_EQ(Serving("a"), "x");
  EXPECT_EQ(Serving("b"), "x");
  versions.RemoveInstance(InstanceId{1});
  EXPECT_EQ(Serving("a"), "");
  EXPECT_TRUE(Choose().pending.empty());
  EXPECT_EQ(Serving("b"), "x");
}

TEST_F(ModelVersionsTest, TheNewerVersionWinsAsSoonAsItCanServe) {
  versions.SetInstance(Worker(1, "a", "new", 10));
  versions.SetInstance(Worker(2, "a", "old", 5));
  EXPECT_EQ(Serving("a"), "new");
  states[{"a", "new"}] = {.ready = false, .trouble = {}, .workers = 1};
  EXPECT_EQ(Serving("a"), "old");
  states[{"a", "new"}] = {.ready = true, .trouble = {}, .workers = 0};
  EXPECT_EQ(Serving("a"), "old");
  states[{"a", "old"}] = {.ready = true, .trouble = {}, .workers = 0};
  EXPECT_EQ(Serving("a"), "new") << "nobody can be sent anything: the newest says so";
}

TEST_F(ModelVersionsTest, AWorkerOfTheOldVersionThatStartedAnewMakesItNoNewer) {
  versions.SetInstance(Worker(1, "a", "old", 5));
  versions.SetInstance(Worker(2, "a", "new", 10));
  versions.SetInstance(Worker(3, "a", "old", 20));
  versions.RemoveInstance(InstanceId{1});
  EXPECT_EQ(Serving("a"), "new");
  versions.RemoveInstance(InstanceId{2});
  EXPECT_EQ(Serving("a"), "old");
}

TEST_F(ModelVersionsTest, AWorkerThatTurnsToAnotherVersionLeavesTheFirst) {
  versions.SetInstance(Worker(1, "a", "x", 5));
  versions.SetInstance(Worker(1, "a", "y", 5));
  EXPECT_FALSE(versions.Knows({"a", "x"}));
  EXPECT_EQ(Serving("a"), "y");
  versions.RemoveInstance(InstanceId{7});  // nobody knows it
  EXPECT_EQ(Serving("a"), "y");
}

TEST_F(ModelVersionsTest, TheSameWeightsInOtherBlocksAreAnotherVersion) {
  Instance other = Worker(2, "a", "x", 10);
  other.card.block_tokens = 32;
  versions.SetInstance(Worker(1, "a", "x", 5));
  versions.SetInstance(other);
  EXPECT_EQ(Choose().serving.at("a").block_tokens, 32U) << "the newer one";
  versions.RemoveInstance(InstanceId{1});
  EXPECT_EQ(Choose().serving.at("a").block_tokens, 32U);
  versions.SetInstance(Worker(3, "a", "x", 15));
  versions.RemoveInstance(InstanceId{2});
  EXPECT_EQ(Choose().serving.at("a").block_tokens, 0U);
}

TEST_F(ModelVersionsTest, WhatCannotServeYetSaysWhy) {
  versions.SetInstance(Worker(1, "a", "x", 5));
  states[{"a", "x"}] = {.ready = false, .trouble = "its tokenizer is broken", .workers = 1};
  EXPECT_EQ(Choose().pending.at("a"), "its tokenizer is broken");
  states[{"a", "x"}].trouble.clear();
  EXPECT_NE(Choose().pending.at("a"), "");
  states[{"a", "x"}].ready = true;
  EXPECT_TRUE(Choose().pending.empty());
}

// spec/trtllm-backend.md A12.9: with only the prefill worker the model is not served, with both it
// is.
TEST_F(ModelVersionsTest, AModelServesOnceOneOfItsNeedsIsWhole) {
  Instance prefill = Worker(1, "a", "x", 5);
  prefill.role = WorkerRole::kPrefill;
  prefill.needs = {{WorkerRole::kDecode}};
  Instance decode = Worker(2, "a", "x", 5);
  decode.role = WorkerRole::kDecode;
  decode.needs = {{WorkerRole::kPrefill, WorkerRole::kEncode}, {WorkerRole::kPrefill}};
  versions.SetInstance(prefill);
  EXPECT_EQ(Serving("a"), "");
  EXPECT_TRUE(Choose().pending.contains("a"));
  versions.SetInstance(decode);
  EXPECT_EQ(Serving("a"), "x");
  versions.RemoveInstance(prefill.id);
  EXPECT_EQ(Serving("a"), "");
  EXPECT_NE(Choose().pending.at("a").find("prefill"), std::string::npos)
      << Choose().pending.at("a");
  versions.SetInstance(Worker(3, "a", "x", 9));  // aggregated: it needs nobody
  EXPECT_EQ(Serving("a"), "x");
}

}  // namespace
}  // namespace pixii::frontend
