// Any stream of bytes from a gateway is a conversation with its promises kept, or is ended.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/assert.h"
#include "frontend/epp/ext_proc_stream.h"

// Messages are behind their lengths, a byte each.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace pixii::frontend;
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  ExtProcStream stream({.body_bytes_max = 256, .piece_bytes_max = 16});
  int asked = 0;
  bool ended = false;
  while (!rest.empty()) {
    const auto length = static_cast<unsigned char>(rest.front());
    rest.remove_prefix(1);
    const std::string_view message = rest.substr(0, length);
    rest.remove_prefix(message.size());
    ExtProcStep step = stream.OnMessage(message);
    PX_ASSERT(!ended || (step.replies.empty() && step.ask == ExtProcStep::Ask::kNothing));
    if (step.ask != ExtProcStep::Ask::kNothing) {
      PX_ASSERT(++asked == 1);
      PX_ASSERT(stream.request().body.size() <= 256);
      step = stream.OnRouted({.endpoint = "1.2.3.4:5", .set = {}}, std::nullopt);
      PX_ASSERT(!step.replies.empty());
    }
    ended = ended || step.finish.has_value();
  }
  return 0;
}
