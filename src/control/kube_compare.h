// Whether an object in a Kubernetes API is what somebody wants, though the server completes and
// rewrites what it is given.
//
// Thread: pure functions.
// Source: Kubernetes API concepts, "Default values" ("Field retention"); "Resource units in
// Kubernetes" (quantities are stored in a canonical form).
#pragma once

#include <optional>
#include <string_view>

#include "wire/json.h"

namespace pixii::control {

/// A quantity ("100m", "1Gi", "0.5", "1e3") as a number; nothing if it is none.
std::optional<double> KubeQuantity(std::string_view text);

/// Whether every field of `wanted` stands in `there`. Fields that only `there` has are the server's
/// defaults; what is empty, zero or false counts as left out; lists are compared item by item and
/// are as long; texts that are equal quantities are equal.
bool Covers(const wire::Json& there, const wire::Json& wanted);

/// `there` with the fields of `wanted`; mappings are joined, all else is replaced.
wire::Json Overlay(const wire::Json& there, const wire::Json& wanted);

/// A digest that is equal for equal values, whatever the order of fields.
std::string KubeDigest(const wire::Json& value);

}  // namespace pixii::control
