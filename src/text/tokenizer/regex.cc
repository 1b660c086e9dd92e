#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/tokenizer/regex.h"

#include <fmt/format.h>
#include <pcre2.h>

#include "base/utf8.h"
#include "text/tokenizer/regex_dialect.h"

namespace pixii::text {

namespace {

constexpr std::size_t kPatternBytesMax = 65'536;       // bytes of one pattern
constexpr std::uint32_t kBacktracksMax = 200'000'000;  // of one match
constexpr std::size_t kJitStackBytesMax =
    8 * 1024 * 1024;  // of one scan, only where the default is too small

}  // namespace

struct Regex::Program {
  pcre2_code* code = nullptr;

  ~Program() { pcre2_code_free(code); }
};

Regex::Regex(std::unique_ptr<const Program> program) : program_(std::move(program)) {}

Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;
Regex::~Regex() = default;

Result<Regex> Regex::Compile(std::string_view pattern) {
  if (pattern.size() > kPatternBytesMax) {
    return Fail(Code::kTooLarge, fmt::format("pattern of {} bytes, allowed are {}", pattern.size(),
                                             kPatternBytesMax));
  }
  PX_TRY(std::string translated, ToPcre2(pattern));
  auto program = std::make_unique<Program>();
  int error = 0;
  std::size_t offset = 0;
  // Multi-line: Ruby's ^ and $ always match at line ends.
  program->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                                PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                                &error, &offset, nullptr);
  if (program->code == nullptr) {
    PCRE2_UCHAR message[128];
    pcre2_get_error_message(error, message, sizeof(message));
    return Fail(Code::kDataCorrupt, fmt::format("pattern {:.200}: {} (at byte {})", pattern,
                                                reinterpret_cast<const char*>(message), offset));
  }
  pcre2_jit_compile(program->code, PCRE2_JIT_COMPLETE);  // without it the interpreter does the work
  return Regex(std::move(program));
}

struct RegexScan::State {
  pcre2_match_data* data = nullptr;
  pcre2_match_context* context = nullptr;
  pcre2_jit_stack* stack = nullptr;

  ~State() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
};

RegexScan::RegexScan(const Regex& regex) : regex_(&regex), state_(std::make_unique<State>()) {
  state_->data = pcre2_match_data_create_from_pattern(regex.program_->code, nullptr);
  state_->context = pcre2_match_context_create(nullptr);
  pcre2_set_match_limit(state_->context, kBacktracksMax);
}

RegexScan::~RegexScan() = default;

void RegexScan::Reset(std::string_view text) {
  text_ = text;
  at_ = 0;
}

int RegexScan::Match() {
  // The text was validated once; a check per match would be quadratic.
  return pcre2_match(regex_->program_->code, reinterpret_cast<PCRE2_SPTR>(text_.data()),
                     text_.size(), at_, PCRE2_NO_UTF_CHECK, state_->data, state_->context);
}

Result<bool> RegexScan::Next(TextRange& match) {
  if (at_ > text_.size()) {
    return false;
  }
  int found = Match();
  if (found == PCRE2_ERROR_JIT_STACKLIMIT && state_->stack == nullptr) {
    state_->stack = pcre2_jit_stack_create(32 * 1024, kJitStackBytesMax, nullptr);
    pcre2_jit_stack_assign(state_->context, nullptr, state_->stack);
    found = Match();
  }
  if (found == PCRE2_ERROR_NOMATCH) {
    at_ = text_.size() + 1;
    return false;
  }
  if (found < 0) {
    return Fail(Code::kResourceExhausted,
                fmt::format("the tokenizer's pattern needs too much backtracking at byte {} of {} "
                            "(PCRE2 error {})",
                            at_, text_.size(), found));
  }
  const std::size_t* range = pcre2_get_ovector_pointer(state_->data);
  match = {range[0], range[1]};
  at_ = range[1];
  if (range[0] >= range[1]) {  // an empty match: step over one character
    std::size_t step = at_ < text_.size() ? Utf8SequenceLength(text_.substr(at_)) : 1;
    at_ += step == 0 ? 1 : step;
  }
  return true;
}

}  // namespace pixii::text
