#include "text/jinja/parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <initializer_list>
#include <optional>
#include <utility>

#include "base/utf8.h"
#include "text/jinja/expression_parser.h"
#include "text/jinja/lexer.h"
#include "text/jinja/scope.h"

namespace pixii::text::jinja {

namespace {

class Parser : private ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;

  /// Statements up to a tag that begins with one of `ends` (whose name becomes the current token),
  /// or to the end of the source if `ends` is empty.
  Result<Block> Statements(std::initializer_list<std::string_view> ends,
                           std::string_view opened_by) {
    PX_TRY(const DepthGuard guard, Enter());
    Block body;
    std::unique_ptr<OutputStmt> output;
    const auto flush = [&] {
      if (output != nullptr) {
        body.push_back(std::move(output));
      }
    };
    while (current().type != TokenType::kEnd) {
      if (current().type == TokenType::kBlockBegin) {
        flush();
        Next();
        if (std::any_of(ends.begin(), ends.end(),
                        [&](std::string_view end) { return IsName(end); })) {
          return body;
        }
        PX_TRY(StmtPtr statement, Statement());
        body.push_back(std::move(statement));
        PX_CHECK_OK(ExpectBlockEnd());
        continue;
      }
      if (output == nullptr) {
        output = std::make_unique<OutputStmt>(current().line);
      }
      if (current().type == TokenType::kData) {
        const std::uint32_t line = current().line;
        output->pieces.push_back(std::make_unique<ConstExpr>(Value(Str::Literal(Take())), line));
        continue;
      }
      Next();  // {{
      PX_TRY(ExprPtr value, ParseTuple({}));
      output->pieces.push_back(std::move(value));
      if (current().type != TokenType::kVariableEnd) {
        return Unexpected("end of print statement");
      }
      Next();
    }
    if (ends.size() != 0) {
      return Unexpected(fmt::format("the end of '{}'", opened_by));
    }
    flush();
    return body;
  }

 private:
  Result<void> ExpectBlockEnd() {
    if (current().type != TokenType::kBlockEnd) {
      return Unexpected("end of statement block");
    }
    Next();
    return {};
  }

  /// The body after a statement's head: %} statements {% end.
  Result<Block> Body(std::initializer_list<std::string_view> ends, std::string_view opened_by) {
    if (IsOperator(":")) {
      Next();
    }
    PX_CHECK_OK(ExpectBlockEnd());
    return Statements(ends, opened_by);
  }

  Result<StmtPtr> Statement() {
    if (current().type != TokenType::kName) {
      return SyntaxError(current().line, "tag name expected");
    }
    const std::string name = current().text;
    const std::uint32_t line = current().line;
    Next();
    if (name == "for") {
      return For(line);
    }
    if (name == "if") {
      return If(line);
    }
    if (name == "set") {
      return Set(line);
    }
    if (name == "macro") {
      return Macro(line);
    }
    if (name == "call") {
      return CallBlock(line);
    }
    if (name == "filter") {
      return FilterBlock(line);
    }
    if (name == "with") {
      return With(line);
    }
    if (name == "generation") {
      auto statement = std::make_unique<WithStmt>(StmtKind::kGeneration, line);
      PX_TRY(statement->body, Body({"endgeneration"}, name));
      Next();
      return statement;
    }
    if (name == "print") {
      auto statement = std::make_unique<OutputStmt>(line);
      PX_TRY(ExprPtr value, ParseTuple({}));
      statement->pieces.push_back(std::move(value));
      return statement;
    }
    if (name == "break" || name == "continue") {
      return std::make_unique<BareStmt>(name == "break" ? StmtKind::kBreak : StmtKind::kContinue,
                                        line);
    }
    constexpr std::string_view kRefused[] = {"include", "import", "from",
                                             "extends", "block",  "autoescape"};
    if (std::find(std::begin(kRefused), std::end(kRefused), name) != std::end(kRefused)) {
      return Fail(Code::kUnsupported,
                  fmt::format("chat template line {}: the tag '{}' is not supported", line, name),
                  "chat_template");
    }
    return SyntaxError(line, fmt::format("Encountered unknown tag '{}'.", name));
  }

  Result<StmtPtr> For(std::uint32_t line) {
    auto statement = std::make_unique<ForStmt>(line);
    PX_TRY(statement->target, ParseTarget({.with_namespace = false, .end_name = "in"}));
    if (!SkipName("in")) {
      return Unexpected("'in'");
    }
    PX_TRY(statement->iterable, ParseTuple({.with_conditional = false, .end_name = "recursive"}));
    if (SkipName("if")) {
      PX_TRY(statement->test, ParseExpression());
    }
    statement->recursive = SkipName("recursive");
    PX_TRY(statement->body, Body({"endfor", "else"}, "for"));
    const bool has_else = IsName("else");
    Next();
    if (has_else) {
      PX_TRY(statement->otherwise, Body({"endfor"}, "for"));
      Next();
    }
    return statement;
  }

  Result<StmtPtr> If(std::uint32_t line) {
    auto statement = std::make_unique<IfStmt>(line);
    while (true) {
      PX_TRY(ExprPtr test, ParseTuple({.with_conditional = false}));
      PX_TRY(Block body, Body({"elif", "else", "endif"}, "if"));
      statement->branches.emplace_back(std::move(test), std::move(body));
      const bool is_elif = IsName("elif");
      const bool is_else = IsName("else");
      Next();
      if (is_elif) {
        continue;
      }
      if (is_else) {
        PX_TRY(statement->otherwise, Body({"endif"}, "if"));
        Next();
      }
      return statement;
    }
  }

  Result<StmtPtr> Set(std::uint32_t line) {
    PX_TRY(ExprPtr target, ParseTarget({.with_namespace = true}));
    if (IsOperator("=")) {
      Next();
      auto statement = std::make_unique<SetStmt>(line);
      statement->target = std::move(target);
      PX_TRY(statement->value, ParseTuple({}));
      return statement;
    }
    auto statement = std::make_unique<SetBlockStmt>(line);
    statement->target = std::move(target);
    if (IsOperator("|")) {
      PX_TRY(statement->filter, ParseFilters(nullptr, false));
    }
    PX_TRY(statement->body, Body({"endset"}, "set"));
    Next();
    return statement;
  }

  Result<void> Signature(MacroDefinition& macro) {
    PX_CHECK_OK(ExpectOperator("("));
    bool optional_seen = false;
    while (!IsOperator(")")) {
      if (!macro.parameters.empty()) {
        PX_CHECK_OK(ExpectOperator(","));
      }
      MacroDefinition::Parameter parameter;
      PX_TRY(parameter.name, ExpectName());
      if (!IsAssignable(parameter.name)) {
        return SyntaxError(current().line, "can't assign to 'const'");
      }
      if (IsOperator("=")) {
        Next();
        PX_TRY(parameter.fallback, ParseExpression());
        optional_seen = true;
      } else if (optional_seen) {
        return SyntaxError(current().line, "non-default argument follows default argument");
      }
      for (const auto& other : macro.parameters) {
        if (other.name == parameter.name) {
          return SyntaxError(current().line,
                             fmt::format("duplicate argument '{}'", parameter.name));
        }
      }
      macro.parameters.push_back(std::move(parameter));
    }
    Next();
    return {};
  }

  Result<StmtPtr> Macro(std::uint32_t line) {
    auto statement = std::make_unique<MacroStmt>(line);
    PX_TRY(statement->macro.name, ExpectName());
    if (!IsAssignable(statement->macro.name)) {
      return SyntaxError(line, "can't assign to 'const'");
    }
    PX_CHECK_OK(Signature(statement->macro));
    PX_TRY(statement->macro.body, Body({"endmacro"}, "macro"));
    Next();
    return statement;
  }

  Result<StmtPtr> CallBlock(std::uint32_t line) {
    auto statement = std::make_unique<CallBlockStmt>(line);
    statement->macro.name = "caller";
    if (IsOperator("(")) {
      PX_CHECK_OK(Signature(statement->macro));
    }
    PX_TRY(statement->call, ParseExpression());
    if (statement->call->kind != ExprKind::kCall) {
      return SyntaxError(line, "expected call");
    }
    PX_TRY(statement->macro.body, Body({"endcall"}, "call"));
    Next();
    return statement;
  }

  Result<StmtPtr> FilterBlock(std::uint32_t line) {
    auto statement = std::make_unique<FilterBlockStmt>(line);
    PX_TRY(statement->filter, ParseFilters(nullptr, true));
    PX_TRY(statement->body, Body({"endfilter"}, "filter"));
    Next();
    return statement;
  }

  Result<StmtPtr> With(std::uint32_t line) {
    auto statement = std::make_unique<WithStmt>(StmtKind::kWith, line);
    while (current().type != TokenType::kBlockEnd) {
      if (!statement->targets.empty()) {
        PX_CHECK_OK(ExpectOperator(","));
      }
      PX_TRY(ExprPtr target, ParseTarget({.with_namespace = false}));
      PX_CHECK_OK(ExpectOperator("="));
      PX_TRY(ExprPtr value, ParseExpression());
      statement->targets.emplace_back(std::move(target), std::move(value));
    }
    PX_TRY(statement->body, Body({"endwith"}, "with"));
    Next();
    return statement;
  }
};

}  // namespace

Result<Template> ParseTemplate(std::string_view source, const Limits& limits) {
  if (source.size() > limits.source_bytes_max) {
    return Fail(Code::kInvalidArgument,
                fmt::format("chat template of {} bytes is over source_bytes_max of {} bytes",
                            source.size(), limits.source_bytes_max),
                "chat_template");
  }
  if (!IsValidUtf8(source)) {
    return Fail(Code::kInvalidArgument, "chat template is not valid UTF-8", "chat_template");
  }
  PX_TRY(std::vector<Token> tokens, Tokenize(source));
  Parser parser(std::move(tokens), limits.nesting_depth_max);
  Template tree;
  PX_TRY(tree.body, parser.Statements({}, ""));
  PX_CHECK_OK(ResolveNames(tree));
  return tree;
}

}  // namespace pixii::text::jinja
