// Whatever a publisher of KV events sends, as bytes of a connection and as a batch: it is taken or
// refused, and what is taken can be written and read again.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/assert.h"
#include "wire/engine_kv_translator.h"
#include "wire/zmq_kv_event.h"
#include "wire/zmtp.h"

namespace {

using namespace pixii::wire;  // NOLINT(google-build-using-namespace): all of its verbs

void CheckBatch(std::string_view bytes) {
  const pixii::Result<EngineKvBatch> batch = DecodeEngineKvBatch(bytes);
  if (!batch) {
    return;
  }
  EngineKvTranslator translator({.block_tokens = 4, .salted_blocks_max = 8});
  std::vector<KvEvent> told;
  for (const EngineKvEvent& event : batch->events) {
    translator.Translate(event, batch->rank.value_or(0), told);
  }
  PX_ASSERT(told.size() <= batch->events.size());
  for (const EngineKvForm form : {EngineKvForm::kArrays, EngineKvForm::kMaps}) {
    const std::string again = EncodeEngineKvBatch(*batch, form);
    const pixii::Result<EngineKvBatch> back = DecodeEngineKvBatch(again);
    PX_ASSERT(back && back->events.size() == batch->events.size());
    PX_ASSERT(EncodeEngineKvBatch(*back, form) == again);
  }
}

// Whole, and byte by byte behind a handshake: the same messages.
void CheckConnection(ZmtpSocket own, std::string_view bytes) {
  ZmtpConnection whole(own);
  ZmtpConnection pieces(own);
  const bool taken = whole.Feed(bytes).has_value();
  bool taken_in_pieces = true;
  for (std::size_t i = 0; i < bytes.size() && taken_in_pieces; ++i) {
    taken_in_pieces = pieces.Feed(bytes.substr(i, 1)).has_value();
  }
  PX_ASSERT(taken == taken_in_pieces);
  if (taken) {
    PX_ASSERT(whole.ready() == pieces.ready());
    PX_ASSERT(whole.TakeMessages() == pieces.TakeMessages());
    PX_ASSERT(whole.TakeOutput() == pieces.TakeOutput());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  CheckBatch(bytes);
  CheckConnection(ZmtpSocket::kSubscriber, bytes);
  CheckConnection(ZmtpSocket::kPublisher, bytes);
  std::string behind(ZmtpConnection(ZmtpSocket::kDealer).TakeOutput());
  CheckConnection(ZmtpSocket::kRouter, behind.append(bytes));
  return 0;
}
