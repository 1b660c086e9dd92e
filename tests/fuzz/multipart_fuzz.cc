// A form is its parts, within the limits, or a refusal; a batch file is lines or errors.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>

#include "base/assert.h"
#include "frontend/batch_input.h"
#include "wire/json.h"
#include "wire/multipart.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::string_view type = text.substr(0, text.find('\n'));
  const std::string_view body = text.substr(std::min(type.size() + 1, text.size()));
  const auto check = [&](const auto& parts) {
    if (parts) {
      PX_ASSERT(parts->size() <= 16);
      for (const pixii::wire::FormPart& part : *parts) {
        PX_ASSERT(!part.name.empty());
        PX_ASSERT(part.content.empty() ||
                  (part.content.data() >= body.data() &&
                   part.content.data() + part.content.size() <= body.data() + body.size()));
      }
    }
  };
  check(pixii::wire::ParseMultipart(type, body));
  check(pixii::wire::ParseMultipart("multipart/form-data; boundary=B", body));

  const pixii::frontend::BatchInput input =
      pixii::frontend::ReadBatchInput(text, "/v1/completions");
  PX_ASSERT(!input.lines.empty() || !input.errors.empty());
  std::set<std::string_view> ids;
  for (const pixii::frontend::BatchLine& line : input.lines) {
    PX_ASSERT(ids.insert(line.custom_id).second);
    PX_ASSERT(pixii::wire::ParseJson(pixii::frontend::BatchLineBody(line))->is_object());
  }
  return 0;
}
