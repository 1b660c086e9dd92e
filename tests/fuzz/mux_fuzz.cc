// A peer that sends anything: events keep their order and their bounds, or the connection breaks,
// once.
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "base/assert.h"
#include "control/mux.h"
#include "wire/mux_frame.h"

namespace {

using pixii::control::Mux;
using pixii::control::MuxEvent;
using pixii::control::StreamId;

constexpr std::uint32_t kStreamsMax = 8;

class Owner {
 public:
  explicit Owner(Mux::Side side)
      : mux_({.name = "fuzz",
              .window_bytes = 4096,
              .message_bytes_max = 1 << 16,
              .streams_max = kStreamsMax},
             side, now_) {}

  void Run(std::string_view bytes, std::size_t piece) {
    while (!bytes.empty()) {
      const std::string_view some = bytes.substr(0, piece);
      bytes.remove_prefix(some.size());
      mux_.Receive(some, now_);
      for (MuxEvent& event : mux_.TakeEvents()) {
        React(event);
      }
      std::string out;
      mux_.TakeOutput(out, 1 << 16);
      PX_ASSERT(out.size() <= (1 << 16) + Mux::kAnswerBytesMax + (1 << 16));
      now_ += std::chrono::milliseconds(1);
      mux_.Tick(now_);
    }
  }

 private:
  void React(MuxEvent& event) {
    PX_ASSERT(!broken_);
    switch (event.kind) {
      case MuxEvent::Kind::kReady:
        if (auto stream = mux_.Call("m", {}, std::string(20'000, 'c'))) {
          open_.emplace(*stream, true);
        }
        return;
      case MuxEvent::Kind::kCalled:
        PX_ASSERT(open_.emplace(event.stream, false).second);
        PX_ASSERT(mux_.stream_count() <= kStreamsMax + 1);
        return;
      case MuxEvent::Kind::kMessage: {
        const auto found = open_.find(event.stream);
        PX_ASSERT(found != open_.end() || event.text.size() <= (1 << 16));
        (void)mux_.Send(event.stream, event.text);
        if (event.text.size() % 3 != 0) {
          mux_.Consumed(event.stream, event.text.size());
        }
        if (event.text.size() % 5 == 1 && found != open_.end() && !found->second) {
          mux_.End(event.stream, pixii::Error(pixii::Code::kInternal, event.text));
        }
        return;
      }
      case MuxEvent::Kind::kEnded:
        PX_ASSERT(open_.at(event.stream));
        open_.erase(event.stream);
        return;
      case MuxEvent::Kind::kCancelled:
        PX_ASSERT(!open_.at(event.stream));
        open_.erase(event.stream);
        return;
      case MuxEvent::Kind::kBroken:
        broken_ = true;
        PX_ASSERT(mux_.is_broken() && mux_.stream_count() == 0);
        return;
      case MuxEvent::Kind::kDrained:
      case MuxEvent::Kind::kGoingAway:
        return;
    }
  }

  pixii::rt::Time now_{};
  Mux mux_;
  std::map<StreamId, bool> open_;  // whether it is ours; until it is heard of as gone
  bool broken_ = false;
};

// The bytes as frames whose checksums hold: behind them little else would be reached.
std::string Sealed(std::string_view bytes) {
  constexpr std::size_t kPlainHeaderBytes = 12;
  std::string out;
  while (bytes.size() >= kPlainHeaderBytes) {
    const auto at = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
    const std::size_t size = at(0) | at(1) << 8U;
    pixii::wire::MuxHeader header{.kind = static_cast<pixii::wire::MuxKind>(at(3) & 0x7FU),
                                  .more = (at(3) & 0x80U) != 0};
    for (std::size_t i = kPlainHeaderBytes; i-- > 4;) {
      header.stream = header.stream << 8U | at(i);
    }
    bytes.remove_prefix(kPlainHeaderBytes);
    const std::string_view payload = bytes.substr(0, size);
    bytes.remove_prefix(payload.size());
    pixii::wire::AppendMuxFrame(out, header, payload);
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  Owner(Mux::Side::kAccepted).Run(bytes, 1 << 16);
  Owner(Mux::Side::kConnected).Run(bytes, 13);
  const std::string sealed = Sealed(bytes);
  Owner(Mux::Side::kAccepted).Run(sealed, 1 << 16);
  Owner(Mux::Side::kConnected).Run(sealed, 21);
  return 0;
}
