// Reads the JSON arguments of a logits processor; every refusal names the argument and the limit.
//
// Thread: a value for one call.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "wire/json.h"

namespace pixii::engine {

struct NumberRange {
  double low = 0;
  double high = 0;
};

class ArgumentReader final {
 public:
  /// Pre: `object` is an object and outlives the reader.
  explicit ArgumentReader(const wire::Json& object) : object_(object) {}

  /// The argument itself, null if it is absent or null.
  const wire::Json* Take(std::string_view name);

  /// Each leaves `out` as it is where the argument is absent. Errors: kInvalidArgument.
  Result<void> Number(std::string_view name, const NumberRange& range, double& out);
  Result<void> Integer(std::string_view name, const NumberRange& range, std::uint32_t& out);
  Result<void> Bool(std::string_view name, bool& out);
  Result<void> Text(std::string_view name, std::string& out);
  /// Token ids below `vocab_size`, at most kTokensMax.
  Result<void> Tokens(std::string_view name, std::uint32_t vocab_size, std::vector<TokenId>& out);
  /// Lists of them, none empty.
  Result<void> TokenLists(std::string_view name, std::uint32_t vocab_size,
                          std::vector<std::vector<TokenId>>& out);
  /// Errors: kInvalidArgument naming an argument that nothing read.
  Result<void> Finish() const;

  static constexpr std::size_t kTokensMax = 65'536;

 private:
  static Result<std::vector<TokenId>> ReadTokens(std::string_view name, const wire::Json& list,
                                                 std::uint32_t vocab_size);

  const wire::Json& object_;
  std::vector<std::string_view> read_;
};

}  // namespace pixii::engine
