// Any bytes are a call to a route of ours, or a refusal.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/assert.h"
#include "frontend/error_body.h"
#include "frontend/kserve_proto.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using pixii::frontend::KserveMethod;
  const std::string_view message(reinterpret_cast<const char*>(data), size);
  for (KserveMethod method :
       {KserveMethod::kModelReady, KserveMethod::kModelInfer, KserveMethod::kModelStreamInfer}) {
    const auto call = pixii::frontend::ReadKserveMessage(method, message);
    if (!call) {
      const int status = pixii::frontend::ClientStatus(call.error());
      PX_ASSERT(status >= 400 && status < 500);
      PX_ASSERT(pixii::frontend::GrpcStatusOf(status) != 0);
      continue;
    }
    PX_ASSERT(call->request.path.starts_with("/v2/models/"));
    PX_ASSERT(call->request.path.find_first_of(" ?#\r\n") == std::string::npos);
    if (method != KserveMethod::kModelReady) {
      const auto body = pixii::wire::ParseJson(call->request.body);
      PX_ASSERT(body && body->is_object());
      PX_ASSERT(call->streams == (body->Find("text_input") != nullptr));
      const std::string piece = pixii::frontend::KservePiece(*call, *body);
      PX_ASSERT(!piece.empty());
    }
  }
  return 0;
}
