// What a CustomResourceDefinition's schema says of an object, without a server.
//
// Thread: pure functions.
// Source: Kubernetes documentation, "Extend the Kubernetes API with CustomResourceDefinitions":
// structural schemas, validation, pruning, defaulting, x-kubernetes-preserve-unknown-fields,
// x-kubernetes-int-or-string, x-kubernetes-list-type. Not known here: CEL rules, formats, $ref
// (which structural schemas may not have), allOf and its like.
#pragma once

#include <string>
#include <vector>

#include "wire/json.h"

namespace pixii::kube {

/// Where `schema` is not structural, or says what is not known here; nothing if it is fine.
std::vector<std::string> NotStructural(const wire::Json& schema);

/// What of `value` the schema refuses, with the path of each: "spec.replicas: must be at least 0".
/// Fields that it does not know are no fault: see UnknownFields.
std::vector<std::string> SchemaFaults(const wire::Json& schema, const wire::Json& value);

/// Fields that a server would drop.
std::vector<std::string> UnknownFields(const wire::Json& schema, const wire::Json& value);

/// `value` without unknown fields and with defaults.
wire::Json Completed(const wire::Json& schema, const wire::Json& value);

}  // namespace pixii::kube
