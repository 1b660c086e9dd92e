// Messages as bytes: MessagePack maps by the names of wire/messages/fields.h.
//
// Thread: values. docs/formats/messages.md
// What a reader does not know it skips, what is absent keeps its default; so versions N - 1, N and
// N + 1 read each other.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace pixii::wire {

/// For every message of wire/messages/fields.h. Fields that have their default are left out.
template <class Message>
std::string Encode(const Message& message);

/// Errors: kInvalidArgument naming the field, also for bytes behind the message.
template <class Message>
Result<Message> Decode(std::string_view bytes);

/// An error alone, as it stands in messages; its code by name. A code that is unknown here:
/// kInternal.
std::string EncodeError(const Error& error);
Result<Error> DecodeError(std::string_view bytes);

}  // namespace pixii::wire
