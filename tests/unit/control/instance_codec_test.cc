#include "control/instance_codec.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>

#include "wire/json.h"
#include "wire/messages/codec.h"

namespace pixii::control {
namespace {

Instance Example() {
  Instance instance;
  instance.id = InstanceId{0x694d98147d54be25};
  instance.ns = "vllm-agg";
  instance.address = "10.0.0.7:4711";
  instance.role = WorkerRole::kDecode;
  instance.needs = {{WorkerRole::kPrefill}, {WorkerRole::kAggregated, WorkerRole::kEncode}};
  instance.rank_first = 4;
  instance.rank_count = 2;
  instance.taints = {"slow"};
  instance.generation = 3;
  instance.card.name = "a \"model\"";
  instance.card.fingerprint = "abc";
  instance.card.block_tokens = 16;
  instance.card.block_count = 1234;
  instance.card.batch_sequences_max = 8;
  instance.card.batch_tokens_max = 2048;
  instance.card.context_tokens_max = 4096;
  instance.card.eos_token_ids = {2, 7};
  instance.card.task = wire::ModelTask::kEmbed;
  instance.card.logits_processors = {"ban"};
  instance.card.vision = wire::VisionCard{
      .image_token = 7, .fit = wire::MediaFit::kSmart, .pixels_max = std::uint64_t{1} << 40};
  instance.card.vision->film =
      wire::FilmCard{.frames_per_second = 1.25, .with_ends = true, .end_token = 9};
  instance.card.adapters = {
      {.name = "x", .source = "/x", .version = "v", .id = ~std::uint64_t{0}, .size_bytes = 9}};
  return instance;
}

void ExpectEqual(const Instance& a, const Instance& b) {
  EXPECT_EQ(a.id, b.id);
  EXPECT_EQ(a.ns, b.ns);
  EXPECT_EQ(a.component, b.component);
  EXPECT_EQ(a.endpoint, b.endpoint);
  EXPECT_EQ(a.address, b.address);
  EXPECT_EQ(a.role, b.role);
  EXPECT_EQ(a.needs, b.needs);
  EXPECT_EQ(a.rank_first, b.rank_first);
  EXPECT_EQ(a.rank_count, b.rank_count);
  EXPECT_EQ(a.taints, b.taints);
  EXPECT_EQ(a.draining, b.draining);
  EXPECT_EQ(a.generation, b.generation);
  EXPECT_EQ(wire::Encode(a.card), wire::Encode(b.card));
}

std::vector<SeenInstance> Read(const std::map<std::string, std::string>& instances,
                               const std::map<std::string, std::string>& cards,
                               std::string* unreadable = nullptr) {
  return InstanceReader().Read(instances, cards, [&](const std::string& key, const Error& error) {
    if (unreadable != nullptr) {
      *unreadable += key + ": " + error.detail() + "\n";
    }
  });
}

TEST(InstanceCodecTest, KeysAreLaidOutAsDynamosAre) {
  EXPECT_EQ(InstanceKey(Example()), "v1/instances/vllm-agg/backend/generate/694d98147d54be25");
  EXPECT_EQ(CardKey(Example()), "v1/mdc/vllm-agg/backend/generate/694d98147d54be25");
  EXPECT_EQ(InstancePrefix("vllm-agg"), "v1/instances/vllm-agg/");
  EXPECT_EQ(InstancePrefix(""), "v1/instances/");
  EXPECT_EQ(CardPrefix("a"), "v1/mdc/a/");
}

TEST(InstanceCodecTest, WhatIsWrittenIsRead) {
  for (const Instance& instance : {Example(), [] {
                                     Instance plain;
                                     plain.id = InstanceId{1};
                                     plain.address = "unix:/tmp/x";
                                     plain.draining = true;
                                     return plain;
                                   }()}) {
    const auto read = DecodeInstance(EncodeInstance(instance), EncodeCard(instance));
    ASSERT_TRUE(read) << read.error().detail();
    ExpectEqual(instance, *read);
  }
}

TEST(InstanceCodecTest, TheCardSaysTheExactLimitsByDynamosNames) {
  const auto card = wire::ParseJson(EncodeCard(Example()));
  ASSERT_TRUE(card);
  EXPECT_EQ(card->Find("kv_cache_block_size")->AsInt(), 16);
  EXPECT_EQ(card->Find("display_name")->string(), "a \"model\"");
  const wire::Json* limits = card->Find("runtime_config");
  ASSERT_NE(limits, nullptr);
  EXPECT_EQ(limits->Find("total_kv_blocks")->AsInt(), 1234);
  EXPECT_EQ(limits->Find("max_num_seqs")->AsInt(), 8);
  EXPECT_EQ(limits->Find("max_num_batched_tokens")->AsInt(), 2048);
  EXPECT_EQ(limits->Find("data_parallel_size")->AsInt(), 2);
  EXPECT_EQ(limits->Find("data_parallel_start_rank")->AsInt(), 4);
}

TEST(InstanceCodecTest, MembersOfLaterVersionsAreSkipped) {
  auto instance = wire::ParseJson(EncodeInstance(Example()));
  auto card = wire::ParseJson(EncodeCard(Example()));
  ASSERT_TRUE(instance && card);
  instance->Set("of_later", wire::Json(wire::Json::Array{wire::Json(1)}));
  card->Set("of_later", "x");
  const auto read = DecodeInstance(instance->Dump(), card->Dump());
  ASSERT_TRUE(read) << read.error().detail();
  ExpectEqual(Example(), *read);
}

TEST(InstanceCodecTest, WhatCannotBeReadNamesTheMember) {
  const auto error = [](std::string_view member, wire::Json value, bool in_card) {
    auto instance = wire::ParseJson(EncodeInstance(Example()));
    auto card = wire::ParseJson(EncodeCard(Example()));
    (in_card ? *card : *instance).Set(member, std::move(value));
    const auto read = DecodeInstance(instance->Dump(), card->Dump());
    return read ? std::string("read") : read.error().detail();
  };
  EXPECT_EQ(error("instance_id", "x", false), "instance_id: it is not a number");
  EXPECT_EQ(error("data_parallel_size", wire::Json(-1), false),
            "data_parallel_size: it is not a whole number of that size");
  EXPECT_EQ(error("data_parallel_size", wire::Json(0), false), "an instance has at least one rank");
  EXPECT_EQ(error("role", "cook", false), "role 'cook' is not known here");
  EXPECT_EQ(error("needs", wire::Json(wire::Json::Array{wire::Json(1)}), false),
            "needs: it is not an array of arrays");
  EXPECT_EQ(error("namespace", "a/b", false),
            "namespace 'a/b' is not 1 to 64 letters, digits, '-', '_' and '.'");
  EXPECT_EQ(error("transport", wire::Json(wire::Json::Object{}), false),
            "an instance has an address");
  EXPECT_EQ(
      error("pixii", wire::Json(wire::Json::Object{{"eos_token_ids", wire::Json("x")}}), true),
      "pixii: eos_token_ids: it is not an array");
  EXPECT_EQ(error("generation", wire::Json(4), true), "generation: the card has another");
  EXPECT_FALSE(DecodeInstance("[]", "{}"));
  EXPECT_FALSE(DecodeInstance("", ""));
}

TEST(InstanceCodecTest, AnInstanceIsCompleteWithTheCardOfItsGeneration) {
  Instance instance = Example();
  const std::map<std::string, std::string> instances = {
      {InstanceKey(instance), EncodeInstance(instance)}};
  auto seen = Read(instances, {});
  ASSERT_EQ(seen.size(), 1U);
  EXPECT_EQ(seen[0].id, instance.id);
  EXPECT_FALSE(seen[0].instance);

  seen = Read(instances, {{CardKey(instance), EncodeCard(instance)}});
  ASSERT_TRUE(seen[0].instance);
  ExpectEqual(instance, *seen[0].instance);

  Instance later = instance;
  later.generation = 4;
  seen = Read(instances, {{CardKey(instance), EncodeCard(later)}});
  EXPECT_FALSE(seen[0].instance);
}

TEST(InstanceCodecTest, ForeignKeysAreSkippedAndBrokenValuesAreTold) {
  const Instance instance = Example();
  std::string unreadable;
  auto seen = Read({{"v1/instances/a/b/c/nothex", "{}"},
                    {"v1/instances/a/b/c/0", "{}"},
                    {"v1/instances/a/b/1", "{}"},
                    {"v1/other/a/b/c/1", "{}"},
                    {"v1/instances/a/b/c/1", EncodeInstance(instance)},
                    {"v1/instances/a/b/c/2", "{"}},
                   {}, &unreadable);
  ASSERT_EQ(seen.size(), 2U);
  EXPECT_FALSE(seen[0].instance);
  EXPECT_FALSE(seen[1].instance);
  EXPECT_NE(unreadable.find("v1/instances/a/b/c/1: its value names another key"),
            std::string::npos);
  EXPECT_NE(unreadable.find("v1/instances/a/b/c/2: "), std::string::npos);
}

// What it remembers of the view before must not be seen in what it says of the next one.
TEST(InstanceCodecTest, AReaderOfManyViewsSaysOfEachWhatANewOneWould) {
  std::mt19937_64 random(7);
  InstanceReader reader;
  std::map<std::string, std::string> instances;
  std::map<std::string, std::string> cards;
  std::size_t whole = 0;
  std::size_t unreadable = 0;
  for (int round = 0; round < 2000; ++round) {
    Instance one = Example();
    one.id = InstanceId{1 + random() % 6};
    one.generation = random() % 3;
    one.draining = random() % 2 == 0;
    one.address = "10.0.0." + std::to_string(random() % 3) + ":1";
    const std::uint64_t what = random() % 10;
    if (what < 4) {
      instances[InstanceKey(one)] = EncodeInstance(one);
      cards[CardKey(one)] = EncodeCard(one);
    } else if (what < 8) {
      (what < 6 ? instances[InstanceKey(one)] : cards[CardKey(one)]) = random() % 4 == 0 ? "{"
                                                                       : what < 6
                                                                           ? EncodeInstance(one)
                                                                           : EncodeCard(one);
    } else {
      what == 8 ? instances.erase(InstanceKey(one)) : cards.erase(CardKey(one));
    }
    std::string said;
    const auto seen = reader.Read(instances, cards, [&](const auto& key, const Error& error) {
      said += key + ": " + error.detail() + "\n";
    });
    std::string expected_said;
    const auto expected = Read(instances, cards, &expected_said);
    EXPECT_EQ(said, expected_said);
    unreadable += said.empty() ? 0 : 1;
    ASSERT_EQ(seen.size(), expected.size());
    for (std::size_t i = 0; i < seen.size(); ++i) {
      EXPECT_EQ(seen[i].id, expected[i].id);
      ASSERT_EQ(seen[i].instance.has_value(), expected[i].instance.has_value())
          << "round " << round;
      if (seen[i].instance) {
        ++whole;
        ExpectEqual(*expected[i].instance, *seen[i].instance);
      }
    }
  }
  EXPECT_GT(whole, 1000U);
  EXPECT_GT(unreadable, 100U);
}

}  // namespace
}  // namespace pixii::control
