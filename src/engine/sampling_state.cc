#include "engine/sampling_state.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include <fmt/format.h>

#include "wire/messages/generate.h"

namespace pixii::engine {

namespace {

constexpr char kVersion = 1;
constexpr std::size_t kHeadBytes = 6;  // version, mean, count

void AppendLittle(std::uint32_t value, int bytes, std::string& out) {
  for (int i = 0; i < bytes; ++i) {
    out += static_cast<char>(value >> (8 * i) & 0xFFU);
  }
}

std::uint32_t ReadLittle(std::string_view bytes) {
  std::uint32_t value = 0;
  for (std::size_t i = bytes.size(); i-- > 0;) {
    value = value << 8 | static_cast<unsigned char>(bytes[i]);
  }
  return value;
}

tl::unexpected<Error> Bad(std::string detail) {
  return Fail(Code::kInvalidArgument, "states: " + std::move(detail), "states");
}

}  // namespace

std::size_t SamplingState::encoded_size() const {
  std::size_t size = kHeadBytes;
  bool empty = !has_mean;
  for (const std::string& state : processors) {
    size += 2 + state.size();
    empty = empty && state.empty();
  }
  return empty ? 0 : size;
}

std::string SamplingState::Encode() const {
  std::string out;
  if (encoded_size() == 0) {
    return out;
  }
  out.reserve(encoded_size());
  out += kVersion;
  AppendLittle(std::bit_cast<std::uint32_t>(mirostat_mean), 4, out);
  out += static_cast<char>(processors.size());
  for (const std::string& state : processors) {
    AppendLittle(static_cast<std::uint32_t>(state.size()), 2, out);
    out += state;
  }
  return out;
}

Result<void> SamplingState::Decode(std::string_view bytes) {
  if (bytes.empty()) {
    return {};
  }
  if (bytes.size() > wire::kStateBytesMax || bytes.size() < kHeadBytes || bytes[0] != kVersion) {
    return Bad(fmt::format("{} bytes that no engine of this version wrote", bytes.size()));
  }
  auto mean = std::bit_cast<float>(ReadLittle(bytes.substr(1, 4)));
  if (!std::isfinite(mean)) {
    return Bad("the mean is not finite");
  }
  std::size_t count = static_cast<unsigned char>(bytes[5]);
  if (count != processors.size()) {
    return Bad(fmt::format("{} processors' state for a request with {}", count, processors.size()));
  }
  mirostat_mean = has_mean ? mean : mirostat_mean;
  bytes.remove_prefix(kHeadBytes);
  for (std::string& state : processors) {
    if (bytes.size() < 2 || bytes.size() - 2 < ReadLittle(bytes.substr(0, 2))) {
      return Bad("it ends inside a processor's state");
    }
    std::size_t size = ReadLittle(bytes.substr(0, 2));
    state = bytes.substr(2, size);
    bytes.remove_prefix(2 + size);
  }
  return bytes.empty() ? Result<void>() : Bad(fmt::format("{} bytes too many", bytes.size()));
}

}  // namespace pixii::engine
