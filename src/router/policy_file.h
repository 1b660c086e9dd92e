// Policy classes of the queue as a file says them.
//
// Thread: values. docs/formats/router_policy.md
// Source: names of spec/dynamo-core.md B.6, 12.3.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "base/result.h"
#include "router/options.h"

namespace pixii::router {

/// Classes of all models, and of single ones, which then have no others.
struct PolicyFile {
  PolicyConfig all;
  std::map<std::string, PolicyConfig, std::less<>> models;

  bool empty() const { return all.classes.empty() && models.empty(); }

  /// Of one model.
  const PolicyConfig& For(std::string_view model) const;
};

/// Errors: kInvalidArgument with "FILE:LINE: key: what is wrong", kTooLarge.
Result<PolicyFile> ReadPolicyFile(const std::string& text, const std::string& file);

}  // namespace pixii::router
