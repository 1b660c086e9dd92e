// KServe's open inference protocol, version 2, over HTTP: text in and out as tensors.
//
// Thread: reading on any, writing on the frontend's loop. Source: KServe's public specification and
// its generate extension.
#pragma once

#include <string>
#include <string_view>

#include "frontend/answer_writer.h"

namespace pixii::frontend {

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
