// ModelInferRequest messages for tests, as a client writes them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "wire/protobuf.h"

namespace pixii::frontend::testing {

struct InferRequest {
  std::string model = {};
  std::string version = {};
  std::string id = {};
  std::string text = {};
  std::string name = "text_input";
  std::string datatype = "BYTES";
  std::vector<std::uint64_t> shape = {1};
  std::string output = {};  // the only one asked for; empty: all
  bool raw = false;
  bool streaming = false;
  std::string raw_text = {};     // instead of `text` with its length
  std::string parameters = {};   // fields of the message
  std::string tensor_more = {};  // fields of the text's tensor
  std::string output_more = {};  // fields of the output asked for

  void Parameter(std::string_view key, std::uint32_t kind, std::uint64_t value) {
    parameters += Entry(4, key, kind, value);
  }

  /// One of a map of parameters, which is the field `number`.
  static std::string Entry(std::uint32_t number, std::string_view key, std::uint32_t kind,
                           std::uint64_t value) {
    std::string parameter;
    wire::AppendProtoVarint(parameter, kind, value);
    std::string entry;
    wire::AppendProtoBytes(entry, 1, key);
    wire::AppendProtoBytes(entry, 2, parameter);
    std::string out;
    wire::AppendProtoBytes(out, number, entry);
    return out;
  }

  std::string Message() const {
    std::string out;
    wire::AppendProtoBytes(out, 1, model);
    wire::AppendProtoBytes(out, 2, version);
    wire::AppendProtoBytes(out, 3, id);
    std::string contents;
    wire::AppendProtoBytes(contents, 8, text);
    std::string raws;
    AddTensor(out, name, datatype, contents, tensor_more);
    std::string framed(1, static_cast<char>(text.size()));
    framed += std::string(3, '\0') + text;
    wire::AppendProtoBytes(raws, 7, raw_text.empty() ? framed : raw_text);
    if (streaming) {
      std::string flag;
      wire::AppendProtoBytes(flag, 1, "\x01");  // packed
      AddTensor(out, "streaming", "BOOL", flag);
      wire::AppendProtoBytes(raws, 7, "\x01");
    }
    if (!output.empty()) {
      std::string asked;
      wire::AppendProtoBytes(asked, 1, output);
      asked += output_more;
      wire::AppendProtoBytes(out, 6, asked);
    }
    return out + parameters + (raw ? raws : "");
  }

 private:
  void AddTensor(std::string& out, std::string_view tensor_name, std::string_view type,
                 std::string_view contents, std::string_view more = {}) const {
    std::string tensor(more);
    wire::AppendProtoBytes(tensor, 1, tensor_name);
    wire::AppendProtoBytes(tensor, 2, type);
    for (std::uint64_t size : shape) {
      wire::AppendProtoVarint(tensor, 3, size);
    }
    if (!raw) {
      wire::AppendProtoBytes(tensor, 5, contents);
    }
    wire::AppendProtoBytes(out, 5, tensor);
  }
};

}  // namespace pixii::frontend::testing
