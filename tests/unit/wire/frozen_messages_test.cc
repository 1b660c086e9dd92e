// Bytes of released versions are read by every later build: tests/wire/vN/.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "support/golden.h"
#include "unit/wire/message_filler.h"
#include "wire/messages/codec.h"

namespace pixii::wire {
namespace {

template <class Message>
constexpr std::string_view kNameOf = "";
template <>
constexpr std::string_view kNameOf<GenerateRequest> = "generate_request";
template <>
constexpr std::string_view kNameOf<TokenFrame> = "token_frame";
template <>
constexpr std::string_view kNameOf<CancelRequest> = "cancel_request";
template <>
constexpr std::string_view kNameOf<ModelCard> = "model_card";
template <>
constexpr std::string_view kNameOf<AdapterCard> = "adapter_card";
template <>
constexpr std::string_view kNameOf<LoadAdapterRequest> = "load_adapter_request";
template <>
constexpr std::string_view kNameOf<WorkerReport> = "worker_report";
template <>
constexpr std::string_view kNameOf<KvEvent> = "kv_event";
template <>
constexpr std::string_view kNameOf<KvEventsRequest> = "kv_events_request";
template <>
constexpr std::string_view kNameOf<KvEventBatch> = "kv_event_batch";
template <>
constexpr std::string_view kNameOf<MemoryRequest> = "memory_request";
template <>
constexpr std::string_view kNameOf<AdapterName> = "adapter_name";
template <>
constexpr std::string_view kNameOf<ModelFiles> = "model_files";
template <>
constexpr std::string_view kNameOf<MuxHello> = "mux_hello";
template <>
constexpr std::string_view kNameOf<MuxCall> = "mux_call";
template <>
constexpr std::string_view kNameOf<RouteBatch> = "route_batch";
template <>
constexpr std::string_view kNameOf<RouteAnswers> = "route_answers";
template <>
constexpr std::string_view kNameOf<ReplicaMessage> = "replica_message";
template <>
constexpr std::string_view kNameOf<HandoverRecord> = "handover_record";
template <>
constexpr std::string_view kNameOf<HandoverNote> = "handover_note";
template <>
constexpr std::string_view kNameOf<FeatureRecord> = "feature_record";

template <class Message>
std::string PathOf() {
  return testing::SourceDir() + "/tests/wire/v1/" + std::string(kNameOf<Message>) + ".msgpack";
}

template <class Message>
class FrozenMessages : public ::testing::Test {};

TYPED_TEST_SUITE(FrozenMessages, Messages);

// A field that was renamed, retyped or taken away would be missing from what is written again.
TYPED_TEST(FrozenMessages, EveryFieldOfVersion1IsStillRead) {
  const std::string frozen = testing::ReadFileOrFail(PathOf<TypeParam>());
  ASSERT_FALSE(frozen.empty());
  const Result<TypeParam> message = Decode<TypeParam>(frozen);
  ASSERT_TRUE(message) << message.error().ToString();
  EXPECT_EQ(Encode(*message), frozen);
}

// For the files of a new version; those that exist stay as they are.
TYPED_TEST(FrozenMessages, DISABLED_AreWrittenOnce) {
  if (!std::filesystem::exists(PathOf<TypeParam>())) {
    TypeParam message{};
    Filler().Fill(message);
    std::ofstream(PathOf<TypeParam>(), std::ios::binary) << Encode(message);
  }
}

}  // namespace
}  // namespace pixii::wire
