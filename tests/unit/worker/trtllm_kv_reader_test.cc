#include "worker/trtllm_kv_reader.h"

#include <gtest/gtest.h>

#include <fmt/format.h>

#include <string>
#include <vector>

#include "wire/public_hash.h"

namespace pixii::worker {
namespace {

class TrtllmKvReaderTest : public testing::Test {
 protected:
  std::vector<wire::KvEvent> Read(const std::string& body) {
    std::vector<wire::KvEvent> out;
    const Result<void> read = reader_.Read(body, out);
    EXPECT_TRUE(read) << read.error().ToString();
    return out;
  }

  static std::string Event(int id, const std::string& data, int window = 4096) {
    return fmt::format(R"({{"event_id":{},"window_size":{},"data":{}}})", id, window, data);
  }

  static std::string Stored(const std::string& parent, const std::string& hash,
                            const std::string& tokens) {
    return fmt::format(
        R"({{"type":"stored","parent_hash":{},"blocks":[{{"type":"stored_block","block_hash":{},
            "tokens":{},"cache_level":0}}]}})",
        parent, hash, tokens);
  }

  TrtllmKvReader reader_{2};
};

TEST_F(TrtllmKvReaderTest, BlocksAreToldOfWithPublicHashes) {
  const auto events =
      Read("[" + Event(0, R"({"type":"created"})") + "," +
           Event(1, Stored("null", "18446744073709551615",
                           R"([{"type":"unique_token","token_id":5},{"token_id":6}])")) +
           "," + Event(2, Stored("18446744073709551615", "7", "[8,9]")) + "]");
  ASSERT_EQ(events.size(), 2U);
  const TokenId first[] = {5, 6};
  EXPECT_EQ(events[0].blocks[0].block_hash, ~std::uint64_t{0});
  EXPECT_EQ(events[0].blocks[0].tokens_hash, wire::PublicBlockHash(first, wire::kPublicHashSeed));
  EXPECT_EQ(events[1].parent, ~std::uint64_t{0});
}

TEST_F(TrtllmKvReaderTest, PartsOfBlocksAreNot) {
  EXPECT_TRUE(Read("[" + Event(0, Stored("null", "1", "[5]")) + "," +
                   Event(1, R"({"type":"removed","block_hashes":[1]})") + "]")
                  .empty());
}

TEST_F(TrtllmKvReaderTest, ABlockThatGoesToTheHostIsThere) {
  const auto events = Read("[" + Event(0, Stored("null", "1", "[5,6]")) + "," +
                           Event(1, R"({"type":"updated","block_hash":1,
                        "cache_level":{"type":"event_diff","new_value":1,"old_value":0}})") +
                           "," + Event(2, R"({"type":"removed","block_hashes":[1]})") + "]");
  ASSERT_EQ(events.size(), 4U);
  EXPECT_EQ(events[1].kind, wire::KvEvent::Kind::kRemoved);
  EXPECT_EQ(events[1].tier, wire::KvTier::kDevice);
  EXPECT_EQ(events[2].kind, wire::KvEvent::Kind::kStored);
  EXPECT_EQ(events[2].tier, wire::KvTier::kHost);
  EXPECT_EQ(events[3].tier, wire::KvTier::kHost);
}

TEST_F(TrtllmKvReaderTest, AGapMakesVoidWhatWasTold) {
  Read("[" + Event(0, Stored("null", "1", "[5,6]")) + "]");
  const auto events = Read("[" + Event(5, Stored("null", "2", "[5,6]")) + "]");
  ASSERT_EQ(events.size(), 2U);
  EXPECT_EQ(events[0].kind, wire::KvEvent::Kind::kCleared);
  EXPECT_EQ(reader_.gap_count(), 1U);
}

TEST_F(TrtllmKvReaderTest, TheLongestWindowDecides) {
  Read("[" + Event(0, R"({"type":"created"})", 128) + "," +
       Event(1, R"({"type":"created"})", 4096) + "]");
  const auto events = Read("[" + Event(2, Stored("null", "1", "[5,6]"), 128) + "," +
                           Event(3, Stored("null", "2", "[7,8]"), 4096) + "]");
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].blocks[0].block_hash, 2U);
}

TEST_F(TrtllmKvReaderTest, NonsenseMakesVoidWhatWasTold) {
  Read("[" + Event(0, Stored("null", "1", "[5,6]")) + "]");
  for (const char* body :
       {"{}", "[{}]", "nonsense", R"([{"event_id":1,"window_size":4096,"data":{"type":"stored"}}])",
        R"([{"event_id":1,"attention_dp_rank":-1,"data":{"type":"removed"}}])"}) {
    std::vector<wire::KvEvent> out;
    EXPECT_FALSE(reader_.Read(body, out)) << body;
    ASSERT_FALSE(out.empty());
    EXPECT_EQ(out.back().kind, wire::KvEvent::Kind::kCleared);
  }
}

}  // namespace
}  // namespace pixii::worker
