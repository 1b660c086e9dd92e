#include "wire/quoted.h"

#include "wire/json.h"

namespace pixii::wire {

std::string Quoted(std::string_view text) {
  std::string out;
  AppendJsonString(out, text.substr(0, kQuotedSizeMax));
  if (text.size() > kQuotedSizeMax) {
    out += "…";
  }
  return out;
}

}  // namespace pixii::wire
