#include "text/jinja/expression_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <iterator>

namespace pixii::text::jinja {

struct OperatorToken {
  std::string_view text;
  Operator op;
};

namespace {

std::string Describe(const Token& token) {
  switch (token.type) {
    case TokenType::kEnd:
      return "end of template";
    case TokenType::kData:
      return "template data";
    case TokenType::kVariableEnd:
      return "end of print statement";
    case TokenType::kBlockEnd:
      return "end of statement block";
    default:
      return token.text;
  }
}

constexpr std::array<OperatorToken, 6> kComparisons = {{
    {"==", Operator::kEqual},
    {"!=", Operator::kNotEqual},
    {"<", Operator::kLess},
    {"<=", Operator::kLessEqual},
    {">", Operator::kGreater},
    {">=", Operator::kGreaterEqual},
}};

constexpr std::array<OperatorToken, 2> kSums = {{
    {"+", Operator::kAdd},
    {"-", Operator::kSubtract},
}};

constexpr std::array<OperatorToken, 4> kProducts = {{
    {"*", Operator::kMultiply},
    {"/", Operator::kDivide},
    {"//", Operator::kFloorDivide},
    {"%", Operator::kModulo},
}};

constexpr std::array<OperatorToken, 1> kPowers = {{{"**", Operator::kPower}}};

const OperatorToken* FindToken(std::span<const OperatorToken> table, const Token& token) {
  if (token.type != TokenType::kOperator) {
    return nullptr;
  }
  const auto it = std::find_if(table.begin(), table.end(),
                               [&](const OperatorToken& t) { return t.text == token.text; });
  return it == table.end() ? nullptr : &*it;
}

}  // namespace

Result<ExpressionParser::DepthGuard> ExpressionParser::Enter() {
  if (depth_ >= depth_max_) {
    return SyntaxError(
        current().line,
        fmt::format("nested deeper than nesting_depth_max of {} levels", depth_max_));
  }
  ++depth_;
  return DepthGuard(depth_);
}

/// Every finished node passes here: chains such as a + b + c make deep trees without deep recursion
/// of the parser.
Result<ExprPtr> ExpressionParser::Sealed(ExprPtr node) const {
  std::uint32_t depth = 0;
  ForEachChild(*node, [&](const ExprPtr& child) { depth = std::max(depth, child->depth); });
  node->depth = depth + 1;
  if (node->depth > depth_max_) {
    return SyntaxError(
        node->line,
        fmt::format("an expression nested deeper than nesting_depth_max of {} levels", depth_max_));
  }
  return node;
}

bool ExpressionParser::SkipName(std::string_view name) {
  const bool there = IsName(name);
  if (there) {
    Next();
  }
  return there;
}

Result<void> ExpressionParser::ExpectOperator(std::string_view op) {
  if (!IsOperator(op)) {
    return Unexpected(fmt::format("'{}'", op));
  }
  Next();
  return {};
}

Result<std::string> ExpressionParser::ExpectName() {
  if (current().type != TokenType::kName) {
    return Unexpected("name");
  }
  return Take();
}

tl::unexpected<Error> ExpressionParser::Unexpected(std::string_view expected) const {
  return SyntaxError(current().line,
                     fmt::format("expected {}, got '{}'", expected, Describe(current())));
}

bool ExpressionParser::IsAssignable(std::string_view name) {
  constexpr std::string_view kConstants[] = {"true", "false", "none", "True", "False", "None"};
  return std::find(std::begin(kConstants), std::end(kConstants), name) == std::end(kConstants);
}

Result<ExprPtr> ExpressionParser::ParseExpression(bool with_conditional) {
  PX_TRY(const DepthGuard guard, Enter());
  PX_TRY(ExprPtr node, ParseOr());
  while (with_conditional && IsName("if")) {
    auto conditional = std::make_unique<ConditionalExpr>(current().line);
    Next();
    conditional->then = std::move(node);
    PX_TRY(conditional->test, ParseOr());
    if (SkipName("else")) {
      PX_TRY(conditional->otherwise, ParseExpression());
    }
    PX_TRY(node, Sealed(std::move(conditional)));
  }
  return node;
}

Result<ExprPtr> ExpressionParser::ParseItems(ExprKind kind, TokenType type,
                                             std::string_view between, Operand next) {
  PX_TRY(ExprPtr node, (this->*next)());
  if (!Is(type, between)) {
    return node;
  }
  auto all = std::make_unique<ItemsExpr>(kind, current().line);
  all->items.push_back(std::move(node));
  while (Is(type, between)) {
    Next();
    PX_TRY(ExprPtr item, (this->*next)());
    all->items.push_back(std::move(item));
  }
  return Sealed(std::move(all));
}

Result<ExprPtr> ExpressionParser::ParseBinary(std::span<const OperatorToken> operators,
                                              Operand next) {
  PX_TRY(ExprPtr node, (this->*next)());
  while (const OperatorToken* token = FindToken(operators, current())) {
    auto binary = std::make_unique<BinaryExpr>(current().line);
    binary->op = token->op;
    Next();
    binary->left = std::move(node);
    PX_TRY(binary->right, (this->*next)());
    PX_TRY(node, Sealed(std::move(binary)));
  }
  return node;
}

Result<ExprPtr> ExpressionParser::ParseOr() {
  return ParseItems(ExprKind::kOr, TokenType::kName, "or", &ExpressionParser::ParseAnd);
}

Result<ExprPtr> ExpressionParser::ParseAnd() {
  return ParseItems(ExprKind::kAnd, TokenType::kName, "and", &ExpressionParser::ParseNot);
}

Result<ExprPtr> ExpressionParser::ParseNot() {
  if (!IsName("not")) {
    return ParseCompare();
  }
  PX_TRY(const DepthGuard guard, Enter());
  auto node = std::make_unique<UnaryExpr>(ExprKind::kNot, current().line);
  Next();
  PX_TRY(node->operand, ParseNot());
  return Sealed(std::move(node));
}

Result<ExprPtr> ExpressionParser::ParseCompare() {
  PX_TRY(ExprPtr first, ParseSum());
  auto chain = std::make_unique<CompareExpr>(current().line);
  while (true) {
    Operator op = Operator::kIn;
    if (const OperatorToken* token = FindToken(kComparisons, current())) {
      op = token->op;
      Next();
    } else if (SkipName("in")) {
      op = Operator::kIn;
    } else if (IsName("not") && ahead().type == TokenType::kName && ahead().text == "in") {
      op = Operator::kNotIn;
      Next();
      Next();
    } else {
      break;
    }
    PX_TRY(ExprPtr operand, ParseSum());
    chain->rest.emplace_back(op, std::move(operand));
  }
  if (chain->rest.empty()) {
    return first;
  }
  chain->first = std::move(first);
  return Sealed(std::move(chain));
}

Result<ExprPtr> ExpressionParser::ParseSum() {
  return ParseBinary(kSums, &ExpressionParser::ParseConcat);
}

Result<ExprPtr> ExpressionParser::ParseConcat() {
  return ParseItems(ExprKind::kConcat, TokenType::kOperator, "~", &ExpressionParser::ParseProduct);
}

Result<ExprPtr> ExpressionParser::ParseProduct() {
  return ParseBinary(kProducts, &ExpressionParser::ParsePower);
}

Result<ExprPtr> ExpressionParser::ParsePower() {
  return ParseBinary(kPowers, &ExpressionParser::ParseFiltered);
}

Result<ExprPtr> ExpressionParser::ParseFiltered() { return ParseUnary(true); }

Result<ExprPtr> ExpressionParser::ParseUnary(bool with_filters) {
  PX_TRY(const DepthGuard guard, Enter());
  ExprPtr node;
  if (IsOperator("-") || IsOperator("+")) {
    auto unary = std::make_unique<UnaryExpr>(ExprKind::kUnary, current().line);
    unary->op = IsOperator("-") ? Operator::kNegate : Operator::kPlus;
    Next();
    PX_TRY(unary->operand, ParseUnary(false));
    PX_TRY(node, Sealed(std::move(unary)));
  } else {
    PX_TRY(node, ParsePrimary(false));
  }
  PX_TRY(node, ParsePostfix(std::move(node)));
  while (with_filters) {
    if (IsOperator("|")) {
      PX_TRY(node, ParseFilters(std::move(node), false));
    } else if (IsName("is")) {
      PX_TRY(node, ParseTest(std::move(node)));
    } else if (IsOperator("(")) {
      PX_TRY(node, ParseCall(std::move(node)));
    } else {
      break;
    }
  }
  return node;
}

Result<ExprPtr> ExpressionParser::ParsePrimary(bool with_namespace) {
  const std::uint32_t line = current().line;
  switch (current().type) {
    case TokenType::kName: {
      std::string name = Take();
      if (name == "true" || name == "True" || name == "false" || name == "False") {
        return std::make_unique<ConstExpr>(Value(name[0] == 't' || name[0] == 'T'), line);
      }
      if (name == "none" || name == "None") {
        return std::make_unique<ConstExpr>(Value::None(), line);
      }
      if (with_namespace && IsOperator(".")) {
        Next();
        PX_TRY(std::string attribute, ExpectName());
        return std::make_unique<NamespaceRefExpr>(std::move(name),
                                                  Str::Literal(std::move(attribute)), line);
      }
      return std::make_unique<NameExpr>(std::move(name), line);
    }
    case TokenType::kString: {
      std::string text = Take();
      while (current().type == TokenType::kString) {
        text += Take();
      }
      return std::make_unique<ConstExpr>(Value(Str::Literal(std::move(text))), line);
    }
    case TokenType::kInteger:
    case TokenType::kFloat:
      return ParseNumber();
    default:
      break;
  }
  if (IsOperator("(")) {
    Next();
    PX_TRY(ExprPtr node, ParseTuple({.explicit_parentheses = true}));
    PX_CHECK_OK(ExpectOperator(")"));
    return node;
  }
  if (IsOperator("[")) {
    return ParseList();
  }
  if (IsOperator("{")) {
    return ParseDict();
  }
  return SyntaxError(line, fmt::format("unexpected '{}'", Describe(current())));
}

Result<ExprPtr> ExpressionParser::ParseNumber() {
  const std::uint32_t line = current().line;
  const bool is_float = current().type == TokenType::kFloat;
  const std::string text = Take();
  if (is_float) {
    return std::make_unique<ConstExpr>(Value(std::strtod(text.c_str(), nullptr)), line);
  }
  int base = 10;
  std::string_view digits = text;
  if (text.size() > 2 && text[0] == '0' && (text[1] < '0' || text[1] > '9')) {
    const char kind = static_cast<char>(text[1] | 32);
    base = kind == 'x' ? 16 : kind == 'b' ? 2 : 8;
    digits.remove_prefix(2);
  }
  std::int64_t value = 0;
  const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  if (parsed.ec != std::errc() || parsed.ptr != digits.data() + digits.size()) {
    return SyntaxError(line, fmt::format("the integer {} does not fit into 64 bits", text));
  }
  return std::make_unique<ConstExpr>(Value(value), line);
}

bool ExpressionParser::IsTupleEnd(std::string_view end_name) const {
  return current().type == TokenType::kVariableEnd || current().type == TokenType::kBlockEnd ||
         IsOperator(")") || (!end_name.empty() && IsName(end_name));
}

template <class ParseItem>
Result<bool> ExpressionParser::ParseList(ItemsExpr& tuple, std::string_view end_name,
                                         ParseItem&& parse_item) {
  for (bool commas = false;; commas = true) {
    if (!tuple.items.empty()) {
      PX_CHECK_OK(ExpectOperator(","));
    }
    if (IsTupleEnd(end_name)) {
      return commas;
    }
    PX_TRY(ExprPtr item, parse_item());
    tuple.items.push_back(std::move(item));
    if (!IsOperator(",")) {
      return commas;
    }
  }
}

tl::unexpected<Error> ExpressionParser::NoExpression() const {
  return SyntaxError(current().line,
                     fmt::format("Expected an expression, got '{}'", Describe(current())));
}

Result<ExprPtr> ExpressionParser::ParseTuple(const TupleRules& rules) {
  auto tuple = std::make_unique<ItemsExpr>(ExprKind::kTuple, current().line);
  PX_TRY(const bool is_tuple, ParseList(*tuple, rules.end_name,
                                        [&] { return ParseExpression(rules.with_conditional); }));
  if (is_tuple || (tuple->items.empty() && rules.explicit_parentheses)) {
    return Sealed(std::move(tuple));
  }
  if (tuple->items.empty()) {
    return NoExpression();
  }
  return std::move(tuple->items[0]);
}

Result<ExprPtr> ExpressionParser::ParseTarget(const TargetRules& rules) {
  PX_TRY(const DepthGuard guard, Enter());
  auto tuple = std::make_unique<ItemsExpr>(ExprKind::kTuple, current().line);
  PX_TRY(const bool is_tuple,
         ParseList(*tuple, rules.end_name, [&] { return ParsePrimary(rules.with_namespace); }));
  if (tuple->items.empty()) {
    return NoExpression();
  }
  ExprPtr target;
  if (is_tuple) {
    PX_TRY(target, Sealed(std::move(tuple)));
  } else {
    target = std::move(tuple->items[0]);
  }
  PX_CHECK_OK(CheckTarget(*target));
  return target;
}

Result<void> ExpressionParser::CheckTarget(const Expr& target) const {
  if (target.kind == ExprKind::kName || target.kind == ExprKind::kNamespaceRef) {
    return {};
  }
  if (target.kind != ExprKind::kTuple) {
    return SyntaxError(target.line, "can't assign to this expression");
  }
  for (const ExprPtr& item : static_cast<const ItemsExpr&>(target).items) {
    PX_CHECK_OK(CheckTarget(*item));
  }
  return {};
}

Result<ExprPtr> ExpressionParser::ParseList() {
  auto list = std::make_unique<ItemsExpr>(ExprKind::kList, current().line);
  Next();
  while (!IsOperator("]")) {
    if (!list->items.empty()) {
      PX_CHECK_OK(ExpectOperator(","));
      if (IsOperator("]")) {
        break;
      }
    }
    PX_TRY(ExprPtr item, ParseExpression());
    list->items.push_back(std::move(item));
  }
  Next();
  return Sealed(std::move(list));
}

Result<ExprPtr> ExpressionParser::ParseDict() {
  auto dict = std::make_unique<DictExpr>(current().line);
  Next();
  while (!IsOperator("}")) {
    if (!dict->entries.empty()) {
      PX_CHECK_OK(ExpectOperator(","));
      if (IsOperator("}")) {
        break;
      }
    }
    PX_TRY(ExprPtr key, ParseExpression());
    PX_CHECK_OK(ExpectOperator(":"));
    PX_TRY(ExprPtr value, ParseExpression());
    dict->entries.emplace_back(std::move(key), std::move(value));
  }
  Next();
  return Sealed(std::move(dict));
}

Result<ExprPtr> ExpressionParser::ParsePostfix(ExprPtr node) {
  while (true) {
    if (IsOperator(".") || IsOperator("[")) {
      PX_TRY(node, ParseSubscript(std::move(node)));
    } else if (IsOperator("(")) {
      PX_TRY(node, ParseCall(std::move(node)));
    } else {
      return node;
    }
  }
}

Result<ExprPtr> ExpressionParser::ParseSubscript(ExprPtr node) {
  const std::uint32_t line = current().line;
  const bool dotted = IsOperator(".");
  Next();
  if (dotted && current().type == TokenType::kName) {
    auto get = std::make_unique<GetattrExpr>(line);
    get->object = std::move(node);
    get->name = Str::Literal(Take());
    return Sealed(std::move(get));
  }
  auto get = std::make_unique<GetitemExpr>(line);
  get->object = std::move(node);
  if (dotted) {
    if (current().type != TokenType::kInteger) {
      return SyntaxError(current().line, "expected name or number");
    }
    PX_TRY(get->index, ParseNumber());
    return Sealed(std::move(get));
  }
  std::vector<ExprPtr> indices;
  while (!IsOperator("]")) {
    if (!indices.empty()) {
      PX_CHECK_OK(ExpectOperator(","));
    }
    PX_TRY(ExprPtr index, ParseSubscribed());
    indices.push_back(std::move(index));
  }
  Next();
  if (indices.size() == 1) {
    get->index = std::move(indices[0]);
  } else {
    auto tuple = std::make_unique<ItemsExpr>(ExprKind::kTuple, line);
    tuple->items = std::move(indices);
    for (const ExprPtr& item : tuple->items) {
      if (item->kind == ExprKind::kSlice) {
        return SyntaxError(line, "a slice among several subscripts");
      }
    }
    PX_TRY(get->index, Sealed(std::move(tuple)));
  }
  return Sealed(std::move(get));
}

Result<ExprPtr> ExpressionParser::ParseSubscribed() {
  const auto at_end = [&] { return IsOperator("]") || IsOperator(",") || IsOperator(":"); };
  auto slice = std::make_unique<SliceExpr>(current().line);
  if (!IsOperator(":")) {
    PX_TRY(ExprPtr first, ParseExpression());
    if (!IsOperator(":")) {
      return first;
    }
    slice->start = std::move(first);
  }
  Next();
  if (!at_end()) {
    PX_TRY(slice->stop, ParseExpression());
  }
  if (IsOperator(":")) {
    Next();
    if (!at_end()) {
      PX_TRY(slice->step, ParseExpression());
    }
  }
  return Sealed(std::move(slice));
}

Result<ExprPtr> ExpressionParser::ParseCall(ExprPtr node) {
  auto call = std::make_unique<CallExpr>(current().line);
  call->callee = std::move(node);
  PX_TRY(call->arguments, ParseArguments());
  return Sealed(std::move(call));
}

Result<Arguments> ExpressionParser::ParseArguments() {
  const std::uint32_t line = current().line;
  Arguments out;
  PX_CHECK_OK(ExpectOperator("("));
  const auto invalid = [&] {
    return SyntaxError(line, "invalid syntax for function call expression");
  };
  bool comma = false;
  while (!IsOperator(")")) {
    if (comma) {
      PX_CHECK_OK(ExpectOperator(","));
      if (IsOperator(")")) {
        break;
      }
    }
    comma = true;
    if (IsOperator("*")) {
      if (out.more_positional != nullptr || out.more_named != nullptr) {
        return invalid();
      }
      Next();
      PX_TRY(out.more_positional, ParseExpression());
    } else if (IsOperator("**")) {
      if (out.more_named != nullptr) {
        return invalid();
      }
      Next();
      PX_TRY(out.more_named, ParseExpression());
    } else if (current().type == TokenType::kName && ahead().type == TokenType::kOperator &&
               ahead().text == "=") {
      if (out.more_named != nullptr) {
        return invalid();
      }
      Str name = Str::Literal(Take());
      Next();
      for (const auto& other : out.named) {
        if (other.first.view() == name.view()) {
          return SyntaxError(line, fmt::format("keyword argument repeated: {}", name.view()));
        }
      }
      PX_TRY(ExprPtr value, ParseExpression());
      out.named.emplace_back(std::move(name), std::move(value));
    } else {
      if (out.more_positional != nullptr || out.more_named != nullptr || !out.named.empty()) {
        return invalid();
      }
      PX_TRY(ExprPtr value, ParseExpression());
      out.positional.push_back(std::move(value));
    }
  }
  Next();
  return out;
}

Result<std::string> ExpressionParser::DottedName() {
  PX_TRY(std::string name, ExpectName());
  while (IsOperator(".")) {
    Next();
    PX_TRY(const std::string part, ExpectName());
    name += "." + part;
  }
  return name;
}

Result<ExprPtr> ExpressionParser::ParseFilters(ExprPtr object, bool inline_start) {
  while (IsOperator("|") || inline_start) {
    if (!inline_start) {
      Next();
    }
    inline_start = false;
    auto filter = std::make_unique<ApplyExpr>(ExprKind::kFilter, current().line);
    filter->object = std::move(object);
    PX_TRY(filter->name, DottedName());
    if (IsOperator("(")) {
      PX_TRY(filter->arguments, ParseArguments());
    }
    PX_TRY(object, Sealed(std::move(filter)));
  }
  return object;
}

Result<ExprPtr> ExpressionParser::ParseTest(ExprPtr node) {
  const std::uint32_t line = current().line;
  Next();
  const bool negated = SkipName("not");
  auto test = std::make_unique<ApplyExpr>(ExprKind::kTest, line);
  test->object = std::move(node);
  PX_TRY(test->name, DottedName());
  const TokenType type = current().type;
  const bool starts_argument = type == TokenType::kName || type == TokenType::kString ||
                               type == TokenType::kInteger || type == TokenType::kFloat ||
                               IsOperator("[") || IsOperator("{");
  if (IsOperator("(")) {
    PX_TRY(test->arguments, ParseArguments());
  } else if (starts_argument && !IsName("else") && !IsName("or") && !IsName("and")) {
    if (IsName("is")) {
      return SyntaxError(line, "You cannot chain multiple tests with is");
    }
    PX_TRY(ExprPtr argument, ParsePrimary(false));
    PX_TRY(argument, ParsePostfix(std::move(argument)));
    test->arguments.positional.push_back(std::move(argument));
  }
  PX_TRY(ExprPtr sealed, Sealed(std::move(test)));
  if (!negated) {
    return sealed;
  }
  auto inverted = std::make_unique<UnaryExpr>(ExprKind::kNot, line);
  inverted->operand = std::move(sealed);
  return Sealed(std::move(inverted));
}

}  // namespace pixii::text::jinja
