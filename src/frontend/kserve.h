// KServe's open inference protocol, version 2, over HTTP: text in and out as tensors.
//
// Thread: reading on any, writing on the frontend's loop. Source: KServe's public specification and
// its generate extension.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "frontend/answer_writer.h"

namespace pixii::frontend {

/// Adds an output that a request asks for. Errors: kInvalidArgument naming `at`: the model has no
/// such output, or it is asked for already.
Result<void> AddKserveOutput(const std::string& name, const std::string& at,
                             std::vector<std::string>& out);

/// Parameters of a tensor, an object or null: there are none, but what is false may stand there.
/// Errors: kInvalidArgument, kUnsupported naming the parameter under `at`.
Result<void> CheckTensorParameters(const wire::Json& parameters, const std::string& at);

/// A model's metadata: the tensors it takes and gives.
std::string KserveMetadata(std::string_view model);

/// The body of /v2/models/{model}/infer: text_input BYTES [1], streaming BOOL [1] (false), and
/// fields of /v1/completions as parameters. Errors: with the tensor or parameter as param.
Result<SurfaceRequest> ReadKserveInfer(const wire::Json& body, std::string_view model);

/// The body of …/generate and …/generate_stream: text_input, and fields of /v1/completions as
/// parameters or beside it.
Result<SurfaceRequest> ReadKserveGenerate(const wire::Json& body, std::string_view model,
                                          bool stream);

}  // namespace pixii::frontend
