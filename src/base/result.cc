#include "base/result.h"

#include "base/assert.h"

namespace pixii {

namespace {

struct CodeRow {
  std::string_view name;
  int http;
  bool retryable;
};

constexpr CodeRow kRows[] = {
#define PX_ERROR(name, http, retryable, sentence) \
  {std::string_view(#name).substr(1), http, retryable},
#include "base/error_codes.def"
#undef PX_ERROR
};

const CodeRow& Row(Code code) {
  auto index = static_cast<std::size_t>(code);
  PX_ASSERT(index < std::size(kRows));
  return kRows[index];
}

}  // namespace

std::string_view CodeName(Code code) { return Row(code).name; }

int HttpStatus(Code code) { return Row(code).http; }

bool IsRetryable(Code code) { return Row(code).retryable; }

Error::Error(Code code, std::string detail) : Error(code, std::move(detail), {}) {}

Error::Error(Code code, std::string detail, std::string param)
    : code_(code), text_(std::make_shared<const Text>(Text{std::move(detail), std::move(param)})) {}

std::string Error::ToString() const {
  std::string out(CodeName(code_));
  out += ": ";
  out += text_->detail;
  return out;
}

}  // namespace pixii
