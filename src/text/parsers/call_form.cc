#include "text/parsers/call_form.h"

#include <algorithm>
#include <type_traits>
#include <utility>

namespace pixii::text::parsers {

namespace {

const std::string kGap(1, kFormGap);

std::string First(const std::vector<std::string>& list) {
  return list.empty() ? std::string() : list[0];
}

// Where each call begins with what begins the first.
void OpenEach(CallForm& form) {
  form.opens_each = true;
  form.between = kGap + form.opener;
}

// "key" :
std::string Key(const std::string& key) { return "\"" + key + "\"" + kGap + ":"; }

CallForm Form(const JsonCallFormat& format) {
  CallForm out{.opener = First(format.openers)};
  out.bare = format.bare;
  out.other_openers = {format.openers.begin() + 1, format.openers.end()};
  out.closer = format.closed && !format.closers.empty() ? kGap + format.closers[0] : std::string();
  // Vocabularies that have the newer way's separator as a token were trained on that way.
  if (format.arguments_marker.starts_with(kTokenMark)) {
    out.after_name = format.arguments_marker;
    OpenEach(out);
    return out;
  }
  out.quoted_names = true;
  out.before_name = "{" + kGap;
  if (!format.number_key.empty()) {
    out.before_name +=
        Key(format.number_key) + kGap + "\"" + kFormDigits + "\"" + kGap + "," + kGap;
  }
  if (format.name_as_key) {
    out.before_name += "\"";
    out.after_name = "\"" + kGap + ":";
  } else {
    out.before_name += Key(format.name_key) + kGap + "\"";
    out.after_name = "\"" + kGap + "," + kGap + Key(format.arguments_key);
  }
  out.after_arguments = kGap + "}";
  out.begin = kGap;
  if (format.list) {
    out.begin += "[" + kGap;
    out.between = kGap + "," + kGap;
    out.end = kGap + "]";
  } else if (!format.separator.empty()) {
    out.between = kGap + format.separator + kGap;
  } else {
    out.after_arguments += std::exchange(out.closer, {});
    OpenEach(out);
    out.between += kGap;
  }
  return out;
}

CallForm Form(const NamedJsonFormat& format) {
  CallForm out;
  const bool section = !format.section_openers.empty();
  out.opener = section ? format.section_openers[0] : format.call_opener;
  out.other_openers = format.section_openers;
  if (section) {
    out.begin = kGap;
    out.before_name = format.call_opener;
    out.between = kGap;
    out.end = kGap + First(format.section_closers);
    out.other_openers.erase(out.other_openers.begin());
    out.other_openers.push_back(format.call_opener);
  } else {
    OpenEach(out);
  }
  out.before_name += format.kind + format.name_opener;
  out.after_name = (format.numbered ? std::string(":") + kFormDigits : std::string()) +
                   First(format.name_closers);
  const std::string behind = format.fence + format.call_closer;
  out.after_arguments = behind.empty() ? std::string() : kGap + behind;
  out.content_name = format.content_name;
  return out;
}

CallForm Form(const XmlCallFormat& format) {
  CallForm out{.opener = First(format.openers)};
  out.notation = wire::ScriptNotation::kElements;
  if (!format.call_opener.empty()) {
    out.other_openers = {format.call_opener};
  }
  out.before_name = format.call_opener;
  const std::string closer = First(format.closers);
  if (format.shares_block) {
    out.begin = kGap;
    out.between = kGap;
    out.end = kGap + closer;
  } else {
    out.begin = format.call_opener.empty() ? std::string() : kGap;
    out.after_arguments = format.call_closer.empty() ? std::string() : kGap + closer;
    OpenEach(out);
    out.between += out.begin;
  }
  out.after_name = format.call_name_closer.empty() ? "\n" : format.call_name_closer;
  out.elements = {.parameter_opener = format.parameter_opener,
                  .name_closer = format.name_closer,
                  .attributes = format.attributes,
                  .kinds = format.tells_kind,
                  .value_opener = format.value_opener,
                  .value_closer = format.value_closer,
                  .framed = format.framed,
                  .end = format.call_closer.empty() ? closer : format.call_closer,
                  .quote = {}};
  return out;
}

CallForm Form(const LiteralCallFormat& format) {
  CallForm out{.opener = First(format.openers)};
  out.bare = format.bare;
  if (format.notation == LiteralCallFormat::Notation::kGemma) {
    out.notation = wire::ScriptNotation::kBareKeys;
    out.before_name = "call:";
    out.after_name = "{";
    out.after_arguments = First(format.closers);
    out.elements.quote = format.quote;
    OpenEach(out);
    return out;
  }
  out.notation = wire::ScriptNotation::kPython;
  out.begin = kGap + "[";
  out.after_name = "(";
  out.between = kGap + "," + kGap;
  out.end = kGap + "]";
  out.closer = kGap + First(format.closers);
  return out;
}

CallForm Form(const HarmonyFormat& format) { return FormOf(format); }

}  // namespace

CallForm FormOf(const CallFormat& format) {
  return std::visit([](const auto& given) { return Form(given); }, format);
}

CallForm FormOf(const HarmonyFormat& format) {
  CallForm out{.opener = format.channel + "commentary to=functions."};
  out.after_name = " " + format.constrain + "json" + format.message;
  out.closer = format.call;
  out.bare = true;  // the end of a call is the end of the answer, too
  return out;
}

bool CanName(const CallForm& form, std::string_view name) {
  if (form.quoted_names) {
    return true;
  }
  const bool plain = std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
  });
  const bool python = form.notation == wire::ScriptNotation::kPython;
  const bool letter =
      !name.empty() && !(name[0] >= '0' && name[0] <= '9') && name[0] != '-' && name[0] != '.';
  return plain && name != form.content_name && (!python || letter);
}

}  // namespace pixii::text::parsers
