// Whatever bytes say they are a message of any kind: it is read and written as it was read, or
// refused.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/assert.h"
#include "wire/messages/codec.h"
#include "wire/messages/fields.h"
#include "wire/msgpack.h"

namespace {

using namespace pixii::wire;  // NOLINT(google-build-using-namespace): all of its messages

template <class Message>
void Check(std::string_view bytes) {
  const pixii::Result<Message> message = Decode<Message>(bytes);
  if (message) {
    const std::string again = Encode(*message);
    const pixii::Result<Message> back = Decode<Message>(again);
    PX_ASSERT(back);
    PX_ASSERT(Encode(*back) == again);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  Check<GenerateRequest>(bytes);
  Check<TokenFrame>(bytes);
  Check<CancelRequest>(bytes);
  Check<ModelCard>(bytes);
  Check<LoadAdapterRequest>(bytes);
  Check<WorkerReport>(bytes);
  Check<KvEventsRequest>(bytes);
  Check<KvEventBatch>(bytes);
  Check<MemoryRequest>(bytes);
  Check<RouteBatch>(bytes);
  Check<RouteAnswers>(bytes);
  Check<ReplicaMessage>(bytes);
  Check<MuxHello>(bytes);
  Check<MuxCall>(bytes);
  if (const auto error = DecodeError(bytes)) {
    PX_ASSERT(EncodeError(*DecodeError(EncodeError(*error))) == EncodeError(*error));
  }
  MsgpackReader reader(bytes);
  while (!reader.at_end()) {
    const std::size_t left = reader.size_bytes_left();
    if (!reader.Skip()) {
      break;
    }
    PX_ASSERT(reader.size_bytes_left() < left);
  }
  return 0;
}
