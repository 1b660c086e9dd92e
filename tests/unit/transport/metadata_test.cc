#include "transport/metadata.h"

#include <gtest/gtest.h>

namespace pixii::transport {
namespace {

TEST(Metadata, ComeBackAsTheyWere) {
  const AgentMetadata metadata{.id = {.high = 1, .low = 0xFEDCBA9876543210},
                               .transports = {{.transport = "shm", .address = "unix:/x"},
                                              {.transport = "tcp", .address = "127.0.0.1:9"}}};
  const Result<AgentMetadata> back = DecodeMetadata(EncodeMetadata(metadata));
  ASSERT_TRUE(back) << back.error().ToString();
  EXPECT_EQ(back->id, metadata.id);
  EXPECT_EQ(back->transports, metadata.transports);
}

TEST(Metadata, CutOrLongerBytesAreRefused) {
  const std::string bytes =
      EncodeMetadata({.id = {}, .transports = {{.transport = "tcp", .address = "127.0.0.1:9"}}});
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const Result<AgentMetadata> cut = DecodeMetadata(std::string_view(bytes).substr(0, size));
    ASSERT_FALSE(cut) << size;
    EXPECT_EQ(cut.error().code(), Code::kDataCorrupt);
  }
  EXPECT_FALSE(DecodeMetadata(bytes + "x"));
}

}  // namespace
}  // namespace pixii::transport
