// The encoder families this build runs: from config.json to an EncoderSpec.
//
// Thread: pure functions.
#pragma once

#include <string>

#include "base/result.h"
#include "model/config_reader.h"
#include "model/encoder_spec.h"

namespace pixii::model {

/// Whether the config names an encoder: by `architectures`, else by `model_type`.
Result<bool> IsEncoder(const ConfigReader& config);

/// Pre: IsEncoder. Errors: kUnsupported naming key and value of what cannot be run exactly;
/// kInvalidArgument for values out of range.
Result<EncoderSpec> DescribeEncoder(const ConfigReader& config);

/// Labels of a classifier's config: id2label's size, else num_labels, else 2.
Result<std::int32_t> ReadClassCount(const ConfigReader& config);

/// "BertModel, …": for refusals.
std::string EncoderArchitectures();

/// One function a family, each in its own file; what is common to all is checked by
/// DescribeEncoder.
Result<EncoderSpec> DescribeBert(const ConfigReader& config);
Result<EncoderSpec> DescribeRoberta(const ConfigReader& config);
Result<EncoderSpec> DescribeDistilBert(const ConfigReader& config);

struct EncoderKeys {
  std::string_view hidden_size = "hidden_size";
  std::string_view intermediate_size = "intermediate_size";
  std::string_view layer_count = "num_hidden_layers";
  std::string_view head_count = "num_attention_heads";
  std::string_view activation = "hidden_act";
};

/// Sizes, vocabulary, positions and activation.
Result<EncoderSpec> ReadEncoderSizes(const ConfigReader& config, const EncoderKeys& keys = {});

}  // namespace pixii::model
