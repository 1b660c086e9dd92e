// The program's half of gRPC, over a library that is this test.
#include "frontend/grpc_server.h"

#include <map>

#include "unit/frontend/frontend_fixture.h"
#include "unit/frontend/kserve_messages.h"

namespace pixii::frontend {
namespace {

using testing::FrontendTest;
using testing::InferRequest;
using namespace std::chrono_literals;

constexpr std::string_view kService = "/inference.GRPCInferenceService/";

/// What the library saw of a call.
struct Seen {
  int reads = 0;
  std::vector<std::string> messages;
  std::optional<int> status;
  std::string message;
};

struct FakeLibrary {
  grpc_abi::Events events;
  std::map<std::uint64_t, Seen> calls;
  bool holds_writes = false;
  bool freed = false;
  std::string address;
};

FakeLibrary* fake = nullptr;

std::string Copy(grpc_abi::Bytes bytes) { return {bytes.data, bytes.size}; }

constexpr grpc_abi::Library kLibrary{
    .abi = grpc_abi::kAbi,
    .start = [](const grpc_abi::Options* options, const grpc_abi::Events* events,
                grpc_abi::Server** server, std::uint16_t* port) -> const char* {
      fake->events = *events;
      fake->address = options->address;
      *server = reinterpret_cast<grpc_abi::Server*>(fake);
      *port = 77;
      return options->key.size > 0 ? "no such key" : nullptr;
    },
    .read = [](grpc_abi::Server*, std::uint64_t call) { ++fake->calls[call].reads; },
    .write =
        [](grpc_abi::Server*, std::uint64_t call, grpc_abi::Bytes message) {
          fake->calls[call].messages.push_back(Copy(message));
          if (!fake->holds_writes) {
            fake->events.written(fake->events.self, call);
          }
        },
    .finish =
        [](grpc_abi::Server*, std::uint64_t call, int status, grpc_abi::Bytes message) {
          EXPECT_FALSE(fake->calls[call].status) << "it ends twice";
          fake->calls[call].status = status;
          fake->calls[call].message = Copy(message);
          fake->events.done(fake->events.self, call);
        },
    .close = [](grpc_abi::Server*, std::int64_t) {},
    .free = [](grpc_abi::Server*) { fake->freed = true; },
};

class GrpcServerTest : public FrontendTest {
 protected:
  void SetUp() override { fake = &library; }

  void TearDown() override {
    grpc.reset();
    EXPECT_TRUE(library.freed || !started);
  }

  void StartGrpc() {
    Start();
    auto made = GrpcServer::Start(server.loop(), frontend->handler(),
                                  {.file = nullptr, .functions = &kLibrary}, grpc_options);
    ASSERT_TRUE(made) << made.error().ToString();
    grpc = std::move(*made);
    started = true;
  }

  void Begin(std::uint64_t id, std::string_view method, std::vector<wire::HttpField> fields = {}) {
    const std::string path = std::string(kService) + std::string(method);
    std::vector<grpc_abi::Field> given;
    for (const wire::HttpField& field : fields) {
      given.push_back(
          {{field.name.data(), field.name.size()}, {field.value.data(), field.value.size()}});
    }
    library.events.begin(library.events.self, id, {path.data(), path.size()}, given.data(),
                         given.size());
    EXPECT_TRUE(Until([&] { return library.calls[id].reads > 0 || library.calls[id].status; }));
  }

  void Send(std::uint64_t id, const std::string& message) {
    library.events.message(library.events.self, id, {message.data(), message.size()});
  }

  /// A unary call to its end.
  Seen Call(std::uint64_t id, std::string_view method, const std::string& message,
            std::vector<wire::HttpField> fields = {}) {
    Begin(id, method, std::move(fields));
    if (!library.calls[id].status) {
      Send(id, message);
    }
    EXPECT_TRUE(Until([&] { return library.calls[id].status.has_value(); }));
    return library.calls[id];
  }

  FakeLibrary library;
  GrpcOptions grpc_options;
  std::unique_ptr<GrpcServer> grpc;
  bool started = false;
};

TEST_F(GrpcServerTest, AnswersAnInferenceAsTheRouteDoes) {
  StartGrpc();
  Seen seen = Call(1, "ModelInfer", InferRequest{.model = "tiny", .text = "hi"}.Message());
  EXPECT_EQ(seen.status, 0) << seen.message;
  ASSERT_EQ(seen.messages.size(), 1U);
  EXPECT_NE(seen.messages[0].find("Hello!"), std::string::npos);
  EXPECT_NE(seen.messages[0].find("finish_reason"), std::string::npos);
  EXPECT_TRUE(Until([&] { return grpc->call_count() == 0; }));
  EXPECT_EQ(library.address, "127.0.0.1:0");
  EXPECT_EQ(grpc->port(), 77);
  ExpectQuiet();
}

TEST_F(GrpcServerTest, StreamsPiecesAndTakesOneRequestAfterAnother) {
  StartGrpc();
  Begin(1, "ModelStreamInfer");
  Send(1, InferRequest{.model = "tiny", .text = "hi", .streaming = true}.Message());
  ASSERT_TRUE(Until([&] { return library.calls[1].reads == 2; }));
  const std::size_t pieces = library.calls[1].messages.size();
  EXPECT_GE(pieces, 2U);
  Send(1, InferRequest{.model = "other", .text = "hi"}.Message());
  ASSERT_TRUE(Until([&] { return library.calls[1].reads == 3; }));
  EXPECT_EQ(library.calls[1].messages.size(), pieces + 1);
  EXPECT_EQ(library.calls[1].messages.back().front(), '\x0a') << "an error message";
  library.events.end(library.events.self, 1);
  ASSERT_TRUE(Until([&] { return library.calls[1].status.has_value(); }));
  EXPECT_EQ(library.calls[1].status, 0);
  ExpectQuiet();
}

TEST_F(GrpcServerTest, EndsCallsWhoseMessageIsMissingOrCutWithAnError) {
  StartGrpc();
  Begin(1, "ModelInfer");
  library.events.end(library.events.self, 1);
  ASSERT_TRUE(Until([&] { return library.calls[1].status.has_value(); }));
  EXPECT_EQ(library.calls[1].status, 3);
  const std::string whole =
      InferRequest{.model = "tiny", .text = "hi", .streaming = true}.Message();
  EXPECT_EQ(Call(2, "ModelStreamInfer", whole.substr(0, whole.size() - 1)).status, 3);
  EXPECT_EQ(Call(3, "ServerLive", "\xff\xff").status, 3);
  EXPECT_EQ(Call(4, "ServerLive", "").status, 0);
  EXPECT_TRUE(worker.seen.empty() || worker.open.empty());
  ExpectQuiet();
}

TEST_F(GrpcServerTest, CancelsInTheEngineWhatAClientGivesUp) {
  worker.automatic = false;
  StartGrpc();
  Begin(1, "ModelInfer");
  Send(1, InferRequest{.model = "tiny", .text = "hi"}.Message());
  ASSERT_TRUE(Until([&] { return worker.seen.size() == 1; }));
  library.events.cancelled(library.events.self, 1);
  ASSERT_TRUE(Until([&] { return !worker.cancels.empty() && library.calls[1].status; }));
  EXPECT_EQ(library.calls[1].status, 1);
  ExpectQuiet();
}

TEST_F(GrpcServerTest, HoldsBackForAClientThatDoesNotRead) {
  worker.reply = std::string(4000, 'x');
  worker.mutable_card().context_tokens_max = 10'000;
  library.holds_writes = true;
  grpc_options.stream_bytes_max = 512;
  StartGrpc();
  Begin(1, "ModelStreamInfer");
  Send(1, InferRequest{.model = "tiny", .text = "hi", .streaming = true}.Message());
  ASSERT_TRUE(Until([&] { return worker.open.empty() && !worker.seen.empty(); }));
  EXPECT_EQ(library.calls[1].messages.size(), 1U) << "the next waits for the first";
  library.holds_writes = false;
  library.events.written(library.events.self, 1);
  ASSERT_TRUE(Until([&] { return library.calls[1].reads == 2; }));
  std::size_t count = 0;
  for (const std::string& message : library.calls[1].messages) {
    count += static_cast<std::size_t>(std::ranges::count(message, 'x'));
  }
  EXPECT_GE(count, 4000U);
}

TEST_F(GrpcServerTest, GivesErrorsAsStatuses) {
  keys = *ApiKeys::Parse(R"({"keys":[{"key":"first-key"}]})");
  grpc_options.calls_max = 1;
  StartGrpc();
  const std::string message = InferRequest{.model = "tiny", .text = "hi"}.Message();
  EXPECT_EQ(Call(1, "ModelInfer", message).status, 16);
  EXPECT_EQ(Call(2, "ModelInfer", message, {{"authorization", "Bearer first-key"}}).status, 0);
  EXPECT_EQ(Call(3, "Nothing", message).status, 12);
  EXPECT_EQ(Call(4, "ModelInfer", "\x0a\x05", {{"authorization", "Bearer first-key"}}).status, 3);
  Begin(5, "ModelStreamInfer");
  EXPECT_EQ(Call(6, "ModelInfer", message).status, 8) << "one call at a time";
  grpc->BeginDrain(world.now() + rt::Duration(1s));
  ASSERT_TRUE(Until([&] { return library.calls[5].status.has_value(); }));
  EXPECT_EQ(library.calls[5].status, 14) << "between two requests";
  EXPECT_EQ(Call(7, "ModelInfer", message).status, 14) << "it closes";
}

TEST_F(GrpcServerTest, SaysWhatKeepsItFromStarting) {
  Start();
  grpc_options.key = "x";
  auto made = GrpcServer::Start(server.loop(), frontend->handler(),
                                {.file = nullptr, .functions = &kLibrary}, grpc_options);
  ASSERT_FALSE(made);
  EXPECT_NE(made.error().detail().find("no such key"), std::string::npos);
  EXPECT_EQ(LoadGrpcLibrary("/nowhere/libpixii_grpc.so").error().param(), "");
}

}  // namespace
}  // namespace pixii::frontend
