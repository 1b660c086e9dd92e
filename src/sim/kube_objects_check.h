// What a Kubernetes API server demands of objects and selectors.
//
// Thread: pure functions. Source: Kubernetes documentation, "Object names and IDs", "Labels and
// selectors", ConfigMap and Lease API reference.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "wire/json.h"

namespace pixii::kube {

/// The member at the end of a path of names, or null; and its text, empty if it is none.
const wire::Json* At(const wire::Json& json, std::initializer_list<std::string_view> path);
std::string Text(const wire::Json& json, std::initializer_list<std::string_view> path);

/// Sets metadata.`name`.
void SetMeta(wire::Json& object, std::string_view name, wire::Json value);

/// Members in alphabetical order, everywhere: equal objects have equal texts.
wire::Json Sorted(const wire::Json& json);

/// RFC 7386.
wire::Json MergePatch(const wire::Json& target, const wire::Json& patch);

/// What is wrong with an object of `kind`, as a sentence; nothing if it may be stored.
std::optional<std::string> Invalid(const wire::Json& object, std::string_view kind);

/// Sets what a server sets where a client says nothing ("Default values"; Deployment, Pod and
/// Service reference).
void AddDefaults(wire::Json& object, std::string_view kind);

/// What may not change of an object of `kind` and did; nothing if it may be stored.
std::optional<std::string> Immutable(const wire::Json& before, const wire::Json& object,
                                     std::string_view kind);

/// Whether the labels of `object` match "a=b,c!=d,e,!f"; nothing if that is no selector.
std::optional<bool> Matches(const wire::Json& object, std::string_view selector);

}  // namespace pixii::kube
