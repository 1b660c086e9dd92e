#include "model/quoted.h"

#include "wire/json.h"

namespace pixii::model {

std::string Quoted(std::string_view text) {
  std::string out;
  wire::AppendJsonString(out, text.substr(0, kQuotedSizeMax));
  if (text.size() > kQuotedSizeMax) {
    out += "…";
  }
  return out;
}

}  // namespace pixii::model
