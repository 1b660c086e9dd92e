// The `loop` variable: where a for loop stands.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "base/result.h"
#include "text/jinja/runtime.h"
#include "text/jinja/value.h"

namespace pixii::text::jinja {

struct ForStmt;
struct Activation;

class Loop final : public Object {
 public:
  /// `iterator` walks what `iterable` holds, perhaps through the loop's own `if`, and then
  /// `filtered` is true.
  Loop(Value iterable, std::shared_ptr<Iterator> iterator, bool filtered, std::uint32_t depth0)
      : Object(Type::kLoop, iterable.depth() + 3),
        iterable_(std::move(iterable)),
        iterator_(std::move(iterator)),
        filtered_(filtered),
        depth0_(depth0) {}

  /// The next item, which becomes the current one; missing at the end.
  Result<Value> Advance(Runtime& rt);

  Result<Value> Attribute(Runtime& rt, const Value& self, std::string_view name) override;

  /// Drops all items: a loop that has ended keeps nothing alive, whoever still holds it.
  void End();

  /// Marks the loop as recursive: calling it runs `statement` again inside `outer`.
  void SetRecursion(const ForStmt& statement, Activation& outer) {
    statement_ = &statement;
    outer_ = &outer;
  }

  const ForStmt* statement() const { return statement_; }

  Activation* outer() const { return outer_; }

  std::uint32_t depth0() const { return depth0_; }

  std::int64_t index0() const { return index0_; }

  /// Whether `values` differ from the last ones asked about.
  Result<bool> Changed(Runtime& rt, Value values);

 private:
  Result<Value> Peek(Runtime& rt);
  Result<std::int64_t> CountItems(Runtime& rt);

  Value iterable_;
  std::shared_ptr<Iterator> iterator_;
  bool filtered_;
  std::uint32_t depth0_;
  std::int64_t index0_ = -1;
  std::optional<std::int64_t> length_;
  Value before_;
  Value current_;
  Value after_;  // peeked at, not yet visited
  Value last_changed_;
  const ForStmt* statement_ = nullptr;
  Activation* outer_ = nullptr;
};

}  // namespace pixii::text::jinja
