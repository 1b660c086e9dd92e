// Protocol Buffers' encoding, by hand: the few messages of KServe and ext-proc need no generated
// code.
//
// Thread: values. Source: the published encoding guide (varints, tags, length-delimited fields).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace pixii::wire {

/// One field of a message. Groups are refused; what a message does not know, its reader skips.
struct ProtoField {
  enum class Kind : std::uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

  std::uint32_t number = 0;
  Kind kind = Kind::kVarint;
  std::uint64_t value = 0;  // but of kBytes
  std::string_view bytes;   // of kBytes

  bool is_bytes() const { return kind == Kind::kBytes; }

  bool is_varint() const { return kind == Kind::kVarint; }
};

class ProtoReader;

/// Appends the values of a repeated integer field, packed or not, to `out`, at most `count_max` of
/// them. Errors: kInvalidArgument.
Result<void> AppendProtoIntegers(const ProtoField& field, std::size_t count_max,
                                 std::vector<std::uint64_t>& out);

/// Reads a message field by field.
class ProtoReader final {
 public:
  explicit ProtoReader(std::string_view message) : rest_(message) {}

  /// The next field; nothing at the end. Errors: kInvalidArgument for what is no message.
  Result<std::optional<ProtoField>> Next();

 private:
  friend Result<void> AppendProtoIntegers(const ProtoField&, std::size_t,
                                          std::vector<std::uint64_t>&);

  Result<std::uint64_t> Varint();
  Result<std::uint64_t> Fixed(std::size_t size);

  std::string_view rest_;
};

/// Calls `use` with each field, `Result<void>(const ProtoField&)`; the first error ends it.
template <class Use>
Result<void> ForEachField(std::string_view message, const Use& use) {
  ProtoReader reader(message);
  while (true) {
    PX_TRY(const std::optional<ProtoField> field, reader.Next());
    if (!field) {
      return {};
    }
    PX_CHECK_OK(use(*field));
  }
}

void AppendProtoVarint(std::string& out, std::uint32_t number, std::uint64_t value);
void AppendProtoBytes(std::string& out, std::uint32_t number, std::string_view bytes);

}  // namespace pixii::wire
