// Errors are values: Result<T> is T or an Error; Error is a code, a sentence for an operator and
// the field at fault.
//
// Thread: values; an Error shares its immutable text, so copies are cheap and safe across threads.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace pixii {

enum class Code : std::uint16_t {
#define PX_ERROR(name, http, retryable, sentence) name,
#include "base/error_codes.def"
#undef PX_ERROR
};

/// Name of `code` as in the table, without the k: "InvalidArgument".
std::string_view CodeName(Code code);
/// HTTP status of `code`.
int HttpStatus(Code code);
/// Whether the same request may succeed later or elsewhere.
bool IsRetryable(Code code);

class [[nodiscard]] Error final {
 public:
  /// `detail`: what was tried, with which value, what to do; lower case, no full stop.
  Error(Code code, std::string detail);
  /// `param` names the request field, flag or key at fault, as the user wrote it.
  Error(Code code, std::string detail, std::string param);

  Code code() const { return code_; }

  const std::string& detail() const { return text_->detail; }

  const std::string& param() const { return text_->param; }

  /// "InvalidArgument: detail".
  std::string ToString() const;

 private:
  struct Text {
    std::string detail;
    std::string param;
  };

  Code code_;
  std::shared_ptr<const Text> text_;
};

template <class T>
struct [[nodiscard]] Result : tl::expected<T, Error> {
  using tl::expected<T, Error>::expected;
};

/// `return Fail(Code::kNotFound, "...")` from any function that returns a Result.
inline tl::unexpected<Error> Fail(Code code, std::string detail, std::string param = {}) {
  return tl::unexpected<Error>(Error(code, std::move(detail), std::move(param)));
}

inline tl::unexpected<Error> Fail(Error error) { return tl::unexpected<Error>(std::move(error)); }

}  // namespace pixii

#define PX_CAT_(a, b) a##b
#define PX_CAT(a, b) PX_CAT_(a, b)

/// PX_TRY(auto x, F()); binds the value or returns the error of the enclosing function.
#define PX_TRY(decl, expr) PX_TRY_(decl, expr, PX_CAT(px_result_, __LINE__), return)
/// The same in a coroutine; `expr` may contain co_await.
#define PX_CO_TRY(decl, expr) PX_TRY_(decl, expr, PX_CAT(px_result_, __LINE__), co_return)
#define PX_TRY_(decl, expr, tmp, ret)                             \
  auto tmp = (expr);                                              \
  if (!tmp) {                                                     \
    ret ::tl::unexpected<::pixii::Error>(std::move(tmp).error()); \
  }                                                               \
  decl = std::move(*tmp)

/// PX_CHECK_OK(F()); for Result<void>.
#define PX_CHECK_OK(expr) PX_CHECK_OK_(expr, PX_CAT(px_result_, __LINE__), return)
#define PX_CO_CHECK_OK(expr) PX_CHECK_OK_(expr, PX_CAT(px_result_, __LINE__), co_return)
#define PX_CHECK_OK_(expr, tmp, ret)                              \
  auto tmp = (expr);                                              \
  if (!tmp) {                                                     \
    ret ::tl::unexpected<::pixii::Error>(std::move(tmp).error()); \
  }                                                               \
  static_assert(true)
