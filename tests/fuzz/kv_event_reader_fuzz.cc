// Whatever an event plane brings: of what the worker itself vouches for each event is heard once
// and in order, and what cannot be counts for nothing.
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "control/kv_event_reader.h"
#include "wire/messages/codec.h"

namespace {

using pixii::control::KvEventReader;
using pixii::wire::KvEvent;
using pixii::wire::KvEventBatch;

constexpr std::uint64_t kEpoch = 1;
constexpr std::size_t kMessageSizeMax = 256;

KvEventBatch Dump(std::uint64_t next_id) {
  KvEventBatch batch;
  batch.epoch = kEpoch;
  batch.next_id = next_id;
  batch.dump = batch.dump_begins = batch.dump_ends = true;
  return batch;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  KvEventReader reader;
  std::vector<KvEvent> heard;
  PX_ASSERT(reader.OnAnswer(Dump(3), heard));
  heard.clear();
  const pixii::rt::Time now{std::chrono::seconds(1)};
  std::uint64_t next = 3;
  while (!rest.empty()) {
    const std::size_t length = static_cast<unsigned char>(rest.front()) % kMessageSizeMax;
    rest.remove_prefix(1);
    const std::string_view message = rest.substr(0, length);
    rest.remove_prefix(message.size());
    pixii::Result<KvEventBatch> batch = pixii::wire::Decode<KvEventBatch>(message);
    if (!batch) {
      continue;
    }
    const bool ours = batch->epoch == kEpoch && !batch->dump;
    const bool good = reader.OnPlane(std::move(*batch), now, heard);
    PX_ASSERT(heard.empty() || (good && ours));
    for (const KvEvent& event : heard) {
      PX_ASSERT(event.id == next++);
      PX_ASSERT(event.rank < KvEventReader::kRankCountMax);
    }
    heard.clear();
    PX_ASSERT(reader.Request().epoch == kEpoch && reader.Request().from_id == next);
  }
  return 0;
}
