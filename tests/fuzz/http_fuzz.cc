// A request's framing must not depend on how its bytes were cut; what is accepted keeps every limit
// and rule.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/assert.h"
#include "wire/http.h"

namespace {

using pixii::wire::HttpLimits;
using pixii::wire::HttpRequest;
using pixii::wire::HttpRequestParser;

const HttpLimits kLimits{.target_bytes_max = 64,
                         .head_bytes_max = 512,
                         .field_count_max = 8,
                         .chunk_head_bytes_max = 64,
                         .body_bytes_max = 256};

struct Outcome {
  int status = 0;
  std::vector<HttpRequest> requests;
};

Outcome Parse(std::string_view bytes, std::size_t piece) {
  Outcome out;
  HttpRequestParser parser(kLimits);
  std::string unread;
  while (!bytes.empty()) {
    unread.append(bytes.substr(0, piece));
    bytes.remove_prefix(bytes.size() < piece ? bytes.size() : piece);
    while (true) {
      auto used = parser.Feed(unread);
      if (!used) {
        out.status = used.error().status;
        return out;
      }
      PX_ASSERT(*used <= unread.size());
      unread.erase(0, *used);
      if (!parser.complete()) {
        break;
      }
      out.requests.push_back(parser.Take());
    }
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  Outcome whole = Parse(bytes, size + 1);
  Outcome bytewise = Parse(bytes, 1);
  // Pieces may find an error earlier or later in the input, but the requests before it are the
  // same.
  PX_ASSERT(whole.requests.size() == bytewise.requests.size());
  for (std::size_t i = 0; i < whole.requests.size(); ++i) {
    const HttpRequest& request = whole.requests[i];
    PX_ASSERT(request.method == bytewise.requests[i].method &&
              request.path == bytewise.requests[i].path);
    PX_ASSERT(request.body == bytewise.requests[i].body);
    PX_ASSERT(request.body.size() <= kLimits.body_bytes_max);
    PX_ASSERT(request.path.size() + request.query.size() <= kLimits.target_bytes_max);
    PX_ASSERT(request.fields.size() <= kLimits.field_count_max);
    PX_ASSERT(request.minor_version == 0 || request.Field("host").has_value());
    PX_ASSERT(!(request.Field("content-length") && request.Field("transfer-encoding")));
    for (const auto& field : request.fields) {
      PX_ASSERT(field.value.find_first_of(std::string_view("\r\n\0", 3)) == std::string::npos);
    }
  }
  return 0;
}
