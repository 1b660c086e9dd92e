// What a gateway says, written by hand after the published numbers.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "wire/http.h"
#include "wire/protobuf.h"

namespace pixii::frontend::testing {

inline std::string BytesField(std::uint32_t number, std::string_view bytes) {
  std::string out;
  wire::AppendProtoBytes(out, number, bytes);
  return out;
}

inline std::string NumberField(std::uint32_t number, std::uint64_t value) {
  std::string out;
  wire::AppendProtoVarint(out, number, value);
  return out;
}

/// An entry of a map.
inline std::string Pair(std::string_view key, std::string_view value) {
  return BytesField(1, key) + BytesField(2, value);
}

/// 2: of a request; 3: of an answer.
inline std::string HeadersMessage(std::uint32_t number, const std::vector<wire::HttpField>& headers,
                                  bool last = false) {
  std::string map;
  for (const wire::HttpField& header : headers) {
    map += BytesField(1, BytesField(1, header.name) + BytesField(3, header.value));
  }
  return BytesField(number, BytesField(1, map) + (last ? NumberField(3, 1) : ""));
}

/// 4: of a request; 5: of an answer.
inline std::string BodyMessage(std::uint32_t number, std::string_view piece, bool last) {
  return BytesField(number, BytesField(1, piece) + (last ? NumberField(2, 1) : ""));
}

/// 6: of a request; 7: of an answer.
inline std::string TrailersMessage(std::uint32_t number) { return BytesField(number, ""); }

/// How bodies go, as numbers of BodyMode.
inline std::string Modes(std::uint64_t request, std::uint64_t answer) {
  return BytesField(11, NumberField(1, request) + NumberField(2, answer));
}

}  // namespace pixii::frontend::testing
