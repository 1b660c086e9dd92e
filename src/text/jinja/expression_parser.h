// The expression half of the parser.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "text/jinja/ast.h"
#include "text/jinja/lexer.h"

namespace pixii::text::jinja {

struct OperatorToken;

class ExpressionParser {
 public:
  ExpressionParser(std::vector<Token> tokens, std::uint32_t depth_max)
      : tokens_(std::move(tokens)), depth_max_(depth_max) {}

 protected:
  /// Counts a level of nesting while it lives.
  class DepthGuard final {
   public:
    explicit DepthGuard(std::uint32_t& depth) : depth_(&depth) {}

    DepthGuard(DepthGuard&& other) noexcept : depth_(std::exchange(other.depth_, nullptr)) {}

    DepthGuard& operator=(DepthGuard&&) = delete;

    ~DepthGuard() {
      if (depth_ != nullptr) {
        --*depth_;
      }
    }

   private:
    std::uint32_t* depth_;
  };

  struct TupleRules {
    bool with_conditional = true;
    std::string_view end_name = {};  // a name that ends the tuple, such as "in"
    bool explicit_parentheses = false;
  };

  struct TargetRules {
    bool with_namespace = false;
    std::string_view end_name = {};
  };

  Result<DepthGuard> Enter();

  const Token& current() const { return tokens_[at_]; }

  const Token& ahead() const { return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_]; }

  void Next() { at_ += at_ + 1 < tokens_.size() ? 1 : 0; }

  /// The current token's text, moved out.
  std::string Take() {
    std::string text = std::move(tokens_[at_].text);
    Next();
    return text;
  }

  bool Is(TokenType type, std::string_view text) const {
    return current().type == type && current().text == text;
  }

  bool IsName(std::string_view name) const { return Is(TokenType::kName, name); }

  bool IsOperator(std::string_view op) const { return Is(TokenType::kOperator, op); }

  bool SkipName(std::string_view name);
  Result<void> ExpectOperator(std::string_view op);
  Result<std::string> ExpectName();
  tl::unexpected<Error> Unexpected(std::string_view expected) const;

  static bool IsAssignable(std::string_view name);

  Result<ExprPtr> ParseExpression(bool with_conditional = true);
  Result<ExprPtr> ParseTuple(const TupleRules& rules);
  Result<ExprPtr> ParseTarget(const TargetRules& rules);
  /// |a|b(c) around `object`, which may be null; `inline_start`: the first filter has no bar.
  Result<ExprPtr> ParseFilters(ExprPtr object, bool inline_start);

 private:
  using Operand = Result<ExprPtr> (ExpressionParser::*)();

  Result<ExprPtr> Sealed(ExprPtr node) const;
  /// next, or next between next …, as one node of all.
  Result<ExprPtr> ParseItems(ExprKind kind, TokenType type, std::string_view between, Operand next);
  /// next, or next op next …, the left ones first.
  Result<ExprPtr> ParseBinary(std::span<const OperatorToken> operators, Operand next);
  Result<ExprPtr> ParseOr();
  Result<ExprPtr> ParseAnd();
  Result<ExprPtr> ParseNot();
  Result<ExprPtr> ParseCompare();
  Result<ExprPtr> ParseSum();
  Result<ExprPtr> ParseConcat();
  Result<ExprPtr> ParseProduct();
  Result<ExprPtr> ParsePower();
  Result<ExprPtr> ParseFiltered();
  Result<ExprPtr> ParseUnary(bool with_filters);
  Result<ExprPtr> ParsePrimary(bool with_namespace);
  Result<ExprPtr> ParseNumber();
  Result<ExprPtr> ParseList();
  Result<ExprPtr> ParseDict();
  Result<ExprPtr> ParsePostfix(ExprPtr node);
  Result<ExprPtr> ParseSubscript(ExprPtr node);
  Result<ExprPtr> ParseSubscribed();
  Result<ExprPtr> ParseCall(ExprPtr node);
  Result<ExprPtr> ParseTest(ExprPtr node);
  Result<Arguments> ParseArguments();
  Result<std::string> DottedName();
  bool IsTupleEnd(std::string_view end_name) const;
  /// Items with commas between and perhaps behind; true if there was a comma.
  template <class ParseItem>
  Result<bool> ParseList(ItemsExpr& tuple, std::string_view end_name, ParseItem&& parse_item);
  tl::unexpected<Error> NoExpression() const;
  Result<void> CheckTarget(const Expr& target) const;

  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  std::uint32_t depth_ = 0;
  std::uint32_t depth_max_;
};

}  // namespace pixii::text::jinja
