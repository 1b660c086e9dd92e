// Tokens of one text or of several, and which text each belongs to.
//
// Thread: values.
#pragma once

#include <cstdint>
#include <vector>

#include "base/ids.h"

namespace pixii::text {

/// A type is the number that the model's embedding of types has for the token's text.
struct TypedTokens {
  std::vector<TokenId> ids;
  std::vector<std::int32_t> types;  // [ids]
};

}  // namespace pixii::text
