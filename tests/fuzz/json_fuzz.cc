// What parses prints, and what was printed parses to the same.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/assert.h"
#include "wire/json.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  auto value = pixii::wire::ParseJson(text, {.depth_max = 64, .values_max = 10'000});
  if (value) {
    std::string printed = value->Dump();
    auto again = pixii::wire::ParseJson(printed);
    PX_ASSERT(again && *again == *value && again->Dump() == printed);
    (void)value->AsInt();
    (void)value->AsDouble();
  }
  std::string quoted;
  pixii::wire::AppendJsonString(quoted, text);
  auto string = pixii::wire::ParseJson(quoted);
  PX_ASSERT(string && string->is_string());
  return 0;
}
