#include "base/utf8.h"

#include <cstring>

namespace pixii {

namespace {

unsigned At(std::string_view text, std::size_t i) { return static_cast<unsigned char>(text[i]); }

bool IsContinuation(unsigned byte) { return (byte & 0xC0) == 0x80; }

// Length that a lead byte announces, 0 for bytes that cannot lead.
std::size_t LeadLength(unsigned lead) {
  if (lead < 0x80) {
    return 1;
  }
  if (lead < 0xC2 || lead > 0xF4) {
    return 0;
  }
  return lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

// The second byte has a narrower range after these leads (no overlong forms, surrogates or values
// past U+10FFFF).
bool SecondByteAllowed(unsigned lead, unsigned second) {
  switch (lead) {
    case 0xE0:
      return second >= 0xA0 && second <= 0xBF;
    case 0xED:
      return second >= 0x80 && second <= 0x9F;
    case 0xF0:
      return second >= 0x90 && second <= 0xBF;
    case 0xF4:
      return second >= 0x80 && second <= 0x8F;
    default:
      return IsContinuation(second);
  }
}

}  // namespace

std::size_t Utf8SequenceLength(std::string_view text) {
  if (text.empty()) {
    return 0;
  }
  std::size_t length = LeadLength(At(text, 0));
  if (length <= 1) {
    return length;
  }
  if (text.size() < length || !SecondByteAllowed(At(text, 0), At(text, 1))) {
    return 0;
  }
  for (std::size_t i = 2; i < length; ++i) {
    if (!IsContinuation(At(text, i))) {
      return 0;
    }
  }
  return length;
}

std::size_t Utf8IncompleteTail(std::string_view text) {
  for (std::size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    std::string_view tail = text.substr(text.size() - back);
    unsigned lead = At(tail, 0);
    if (IsContinuation(lead)) {
      continue;
    }
    bool open = LeadLength(lead) > back && (back < 2 || SecondByteAllowed(lead, At(tail, 1)));
    return open ? back : 0;
  }
  return 0;
}

bool IsValidUtf8(std::string_view text) {
  constexpr std::uint64_t kHighBits = 0x8080808080808080;
  while (!text.empty()) {
    if (std::uint64_t bytes; text.size() >= sizeof(bytes)) {
      std::memcpy(&bytes, text.data(), sizeof(bytes));
      if ((bytes & kHighBits) == 0) {
        text.remove_prefix(sizeof(bytes));
        continue;
      }
    }
    std::size_t length = Utf8SequenceLength(text);
    if (length == 0) {
      return false;
    }
    text.remove_prefix(length);
  }
  return true;
}

char32_t DecodeUtf8(std::string_view text) {
  unsigned lead = At(text, 0);
  std::size_t length = LeadLength(lead);
  if (length == 1) {
    return lead;
  }
  char32_t value = lead & (0x7FU >> length);
  for (std::size_t i = 1; i < length; ++i) {
    value = value << 6 | (At(text, i) & 0x3FU);
  }
  return value;
}

void AppendUtf8(std::string& out, char32_t code_point) {
  auto put = [&out](char32_t byte) { out += static_cast<char>(byte); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | code_point >> 6);
    put(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    put(0xE0 | code_point >> 12);
    put(0x80 | (code_point >> 6 & 0x3F));
    put(0x80 | (code_point & 0x3F));
  } else {
    put(0xF0 | code_point >> 18);
    put(0x80 | (code_point >> 12 & 0x3F));
    put(0x80 | (code_point >> 6 & 0x3F));
    put(0x80 | (code_point & 0x3F));
  }
}

}  // namespace pixii
