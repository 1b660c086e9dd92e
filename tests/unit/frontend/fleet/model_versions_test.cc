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
      const auto found = states.find({key.name, key.fingerprint});
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
  std::map<std::pair<std::string, std::string>, VersionState> states;
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
  EXPECT_FALSE(versions.Knows(VersionOf(Worker(1, "a", "x", 5))));
  EXPECT_EQ(Serving("a"), "y");
  versions.RemoveInstance(InstanceId{7});  // nobody knows it
  EXPECT_EQ(Serving("a"), "y");
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

// A worker of the weights "x", with other settings where `change` says so.
template <class Change>
Instance Different(std::uint64_t id, std::int64_t started_ms, Change change) {
  Instance out = Worker(id, "a", "x", started_ms);
  out.card.block_tokens = 16;
  out.card.context_tokens_max = 2048;
  out.card.batch_sequences_max =
      static_cast<std::uint32_t>(id);               // no contradiction: how much it has
  out.card.numerics_id = "n" + std::to_string(id);  // nor this: answers say so
  out.texts = "t";
  change(out);
  return out;
}

TEST_F(ModelVersionsTest, WorkersThatContradictTheOthersAreKeptApart) {
  const auto same = [](Instance&) {};
  const auto conflicts = [&](auto change) {
    versions = {};
    versions.SetInstance(Different(1, 10, change));  // it was there first
    versions.SetInstance(Different(2, 20, same));
    versions.SetInstance(Different(3, 30, same));
    return Choose().conflicts;
  };
  EXPECT_TRUE(conflicts(same).empty());
  const std::pair<void (*)(Instance&), std::string> cases[] = {
      {[](Instance& one) { one.card.block_tokens = 32; }, "kv_cache_block_size is \"32\""},
      {[](Instance& one) { one.card.eos_token_ids = {1, 2}; }, "eos_token_ids is \"1 2\""},
      {[](Instance& one) { one.texts = "u"; }, "texts is \"u\", where most workers have \"t\""},
      {[](Instance& one) { one.card.logits_processors = {"p"}; }, "logits_processors"},
      {[](Instance& one) { one.card.vocab_size = 7; }, "vocab_size"},
  };
  for (const auto& [change, said] : cases) {
    SCOPED_TRACE(said);
    const auto found = conflicts(change);
    ASSERT_EQ(found.size(), 1U);
    EXPECT_NE(found.at(InstanceId{1}).find(said), std::string::npos) << found.at(InstanceId{1});
    EXPECT_EQ(Choose().serving.at("a").settings, SettingsOf(Different(2, 20, same)));
  }
}

TEST_F(ModelVersionsTest, WhatMostWorkersHaveServesAndOfEqualsTheOlder) {
  const auto other = [](Instance& one) { one.card.block_tokens = 32; };
  const auto same = [](Instance&) {};
  const auto blocks = [&] { return Choose().serving.at("a").settings.front().second; };
  versions.SetInstance(Different(1, 10, same));
  versions.SetInstance(Different(2, 20, other));
  EXPECT_EQ(blocks(), "16") << "the older of two";
  versions.SetInstance(Different(3, 30, other));
  EXPECT_EQ(blocks(), "32");
  EXPECT_EQ(Choose().conflicts.size(), 1U);
  Instance drains = Different(2, 20, other);
  drains.draining = true;
  versions.SetInstance(drains);
  EXPECT_EQ(blocks(), "16") << "who takes nothing new has no voice";
  versions.RemoveInstance(InstanceId{1});
  EXPECT_EQ(blocks(), "32");
  EXPECT_TRUE(Choose().conflicts.empty());
}

TEST_F(ModelVersionsTest, WorkersOfOtherRolesMayHaveOtherBlocks) {
  Instance prefill = Different(1, 5, [](Instance& one) { one.card.block_tokens = 64; });
  prefill.role = WorkerRole::kPrefill;
  Instance decode = Different(2, 5, [](Instance&) {});
  decode.role = WorkerRole::kDecode;
  decode.needs = {{WorkerRole::kPrefill}};
  versions.SetInstance(prefill);
  versions.SetInstance(decode);
  EXPECT_EQ(Serving("a"), "x");
  EXPECT_TRUE(Choose().conflicts.empty());
}

TEST_F(ModelVersionsTest, PrefillWorkersComputeForThoseOfTheirWeightsAndTextsWhateverTheirBlocks) {
  const VersionKey key = VersionOf(Different(1, 5, [](Instance&) {}));
  const auto other = [](const auto& change) { return VersionOf(Different(2, 5, change)); };
  EXPECT_TRUE(ComputesFor(key, key));
  EXPECT_TRUE(ComputesFor(other([](Instance& one) { one.card.block_tokens = 64; }), key));
  EXPECT_FALSE(ComputesFor(other([](Instance& one) { one.card.fingerprint = "y"; }), key));
  EXPECT_FALSE(ComputesFor(other([](Instance& one) { one.card.name = "b"; }), key));
  EXPECT_FALSE(ComputesFor(other([](Instance& one) { one.texts = "others"; }), key));
}

}  // namespace
}  // namespace pixii::frontend
