#include "frontend/kserve_proto.h"

#include <gtest/gtest.h>

#include "unit/frontend/kserve_messages.h"

namespace pixii::frontend {
namespace {

using testing::InferRequest;
using wire::Json;

constexpr auto kInfer = KserveMethod::kModelInfer;
constexpr auto kStream = KserveMethod::kModelStreamInfer;

std::string ParamOf(const InferRequest& request, KserveMethod method = kInfer) {
  auto call = ReadKserveMessage(method, request.Message());
  return call ? "taken" : call.error().param();
}

TEST(KserveProto, MakesARequestOfTensorsAndParameters) {
  InferRequest request{.model = "org/a b", .id = "7", .text = "hi"};
  request.Parameter("max_tokens", 2, 5);
  request.Parameter("ignore_eos", 1, 1);
  request.Parameter("triton_enable_empty_final_response", 1, 1);
  auto call = ReadKserveMessage(kInfer, request.Message());
  ASSERT_TRUE(call) << call.error().ToString();
  EXPECT_EQ(call->request.method, "POST");
  EXPECT_EQ(call->request.path, "/v2/models/org/a%20b/infer");
  EXPECT_EQ(call->request.body,
            R"({"id":"7","inputs":[{"name":"text_input","datatype":"BYTES","shape":[1],)"
            R"("data":["hi"]}],"parameters":{"max_tokens":5,"ignore_eos":true}})");
  request.streaming = true;
  EXPECT_EQ(ParamOf(request), "streaming") << "one answer is not streamed";
  auto stream = ReadKserveMessage(kStream, request.Message());
  ASSERT_TRUE(stream);
  EXPECT_TRUE(stream->streams);
  EXPECT_EQ(stream->request.path, "/v2/models/org/a%20b/generate_stream");
  EXPECT_EQ(wire::ParseJson(stream->request.body)->Find("text_input")->string(), "hi");
}

TEST(KserveProto, TakesRawContents) {
  InferRequest request{.model = "m", .text = "hi", .raw = true, .streaming = true};
  auto call = ReadKserveMessage(kStream, request.Message());
  ASSERT_TRUE(call) << call.error().ToString();
  EXPECT_TRUE(call->raw);
  EXPECT_TRUE(call->streams);
  request.raw_text = "\x09hi";
  EXPECT_EQ(ParamOf(request, kStream), "text_input") << "its length is another";
}

TEST(KserveProto, NamesWhatItCannotTake) {
  EXPECT_EQ(ParamOf({.model = "m", .text = "x"}), "taken");
  EXPECT_EQ(ParamOf({.model = "", .text = "x"}), "model_name");
  EXPECT_EQ(ParamOf({.model = "m", .version = "2", .text = "x"}), "model_version");
  EXPECT_EQ(ParamOf({.model = "m", .text = "x", .name = "image"}), "inputs");
  EXPECT_EQ(ParamOf({.model = "m", .text = "x", .datatype = "FP32"}), "text_input");
  EXPECT_EQ(ParamOf({.model = "m", .text = "x", .shape = {2}}), "text_input");
  EXPECT_EQ(ParamOf({.model = "m", .text = "\xff"}), "text_input");
  EXPECT_EQ(ParamOf({.model = "m", .text = "x", .output = "image"}), "outputs");
  EXPECT_FALSE(ReadKserveMessage(kInfer, "\x0a\x05"));
}

TEST(KserveProto, TakesNothingThatItWouldIgnore) {
  const std::string twice = InferRequest{.model = "m", .text = "x"}.Message() +
                            InferRequest{.model = "m", .text = "y"}.Message();
  EXPECT_EQ(ReadKserveMessage(kInfer, twice).error().param(), "text_input");
  InferRequest sized{.model = "m", .text = "x"};
  sized.tensor_more = InferRequest::Entry(4, "binary_data_size", 2, 5);
  EXPECT_EQ(ParamOf(sized), "inputs.text_input.parameters.binary_data_size");
  InferRequest classified{.model = "m", .text = "x", .output = "text_output"};
  EXPECT_EQ(ParamOf(classified), "taken");
  classified.output_more = InferRequest::Entry(2, "classification", 2, 3);
  EXPECT_EQ(ParamOf(classified), "outputs.text_output.parameters.classification");
  std::string flag;
  wire::AppendProtoVarint(flag, 1, 1);
  std::string tensor;
  wire::AppendProtoBytes(tensor, 1, "text_input");
  wire::AppendProtoBytes(tensor, 2, "BYTES");
  wire::AppendProtoVarint(tensor, 3, 1);
  std::string mixed = flag;
  wire::AppendProtoBytes(mixed, 8, "x");
  wire::AppendProtoBytes(tensor, 5, mixed);
  std::string message;
  wire::AppendProtoBytes(message, 1, "m");
  wire::AppendProtoBytes(message, 5, tensor);
  EXPECT_EQ(ReadKserveMessage(kInfer, message).error().param(), "text_input");
}

TEST(KserveProto, TakesNoMessageThatIsNoProtocolBuffer) {
  for (const auto method :
       {KserveMethod::kServerLive, KserveMethod::kServerReady, KserveMethod::kServerMetadata,
        KserveMethod::kModelReady, kInfer, kStream}) {
    for (std::string_view garbage : {"\x0a\x05", "\xff\xff", "garbage", "\x07"}) {
      const auto call = ReadKserveMessage(method, garbage);
      ASSERT_FALSE(call) << static_cast<int>(method);
      EXPECT_EQ(call.error().param(), "");
      EXPECT_EQ(HttpStatus(call.error().code()), 400);
    }
  }
  std::string later;
  wire::AppendProtoBytes(later, 9, "of a later version");
  EXPECT_TRUE(ReadKserveMessage(KserveMethod::kServerLive, later));
}

TEST(KserveProto, AsksTheRoutesForWhatServersAndModelsAre) {
  std::string named;
  wire::AppendProtoBytes(named, 1, "m");
  EXPECT_EQ(ReadKserveMessage(KserveMethod::kServerLive, "")->request.path, "/v2/health/live");
  EXPECT_EQ(ReadKserveMessage(KserveMethod::kModelReady, named)->request.path,
            "/v2/models/m/ready");
  EXPECT_EQ(ReadKserveMessage(KserveMethod::kModelConfig, named)->request.path, "/v2/models/m");
  EXPECT_FALSE(ReadKserveMessage(KserveMethod::kModelReady, ""));
  EXPECT_EQ(FindKserveMethod("/inference.GRPCInferenceService/ModelInfer"), kInfer);
  EXPECT_FALSE(FindKserveMethod("/inference.GRPCInferenceService/Nothing"));
  EXPECT_FALSE(FindKserveMethod("/other.Service/ModelInfer"));
}

TEST(KserveProto, WritesPiecesThatSayWhichIsTheLast) {
  KserveCall call;
  call.method = kStream;
  call.model = "m";
  const std::string piece = KservePiece(call, *wire::ParseJson(R"({"text_output":"ab"})"));
  EXPECT_NE(piece.find("triton_final_response"), std::string::npos);
  EXPECT_NE(piece.find("ab"), std::string::npos);
  const std::string failure = KserveFailure(call, "why");
  EXPECT_EQ(failure.substr(0, 5), "\x0a\x03why");
}

TEST(KserveProto, MapsEveryStatusOfTheTable) {
  EXPECT_EQ(GrpcStatusOf(200), 0);
  EXPECT_EQ(GrpcStatusOf(400), 3);
  EXPECT_EQ(GrpcStatusOf(401), 16);
  EXPECT_EQ(GrpcStatusOf(404), 5);
  EXPECT_EQ(GrpcStatusOf(415), 3);
  EXPECT_EQ(GrpcStatusOf(429), 8);
  EXPECT_EQ(GrpcStatusOf(500), 13);
  EXPECT_EQ(GrpcStatusOf(503), 14);
  EXPECT_EQ(GrpcStatusOf(504), 4);
  EXPECT_EQ(GrpcStatusOf(529), 8);
}

}  // namespace
}  // namespace pixii::frontend
