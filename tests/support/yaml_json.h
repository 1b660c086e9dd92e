// YAML files as JSON, for manifests.
#pragma once

#include <string>
#include <vector>

#include "wire/json.h"

namespace pixii::test {

/// The documents of a file; plain scalars are numbers and booleans where they read as such. Throws
/// what yaml-cpp throws.
std::vector<wire::Json> ReadYamlFile(const std::string& path);

/// A file of deploy/kubernetes, by its name there.
std::vector<wire::Json> ReadManifest(const std::string& name);

}  // namespace pixii::test
