// Whatever a store answers: it is read or refused, in pieces as in one.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "wire/resp.h"

namespace {

using pixii::wire::RespReader;
using pixii::wire::RespValue;

/// The replies before the first that is none; whether there was one that is none.
bool ReadAll(std::string_view bytes, std::size_t piece, std::vector<RespValue>& out) {
  RespReader reader(1 << 12);
  for (std::size_t at = 0; at < bytes.size(); at += piece) {
    reader.Feed(bytes.substr(at, piece));
    while (true) {
      pixii::Result<std::optional<RespValue>> value = reader.Next();
      if (!value) {
        return false;
      }
      if (!*value) {
        break;
      }
      out.push_back(std::move(**value));
    }
  }
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  std::vector<RespValue> whole;
  std::vector<RespValue> pieces;
  const bool good = ReadAll(bytes, bytes.size() + 1, whole);
  PX_ASSERT(ReadAll(bytes, 1, pieces) == good && pieces == whole);
  return 0;
}
