// The tests, or a child of theirs that decodes, or one that does what a decoder must not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include "media/decoder_child.h"
#include "media/decoder_messages.h"
#include "rt/message_socket.h"

namespace {

// Takes one job, and then does `name`.
int Misbehave(const std::string& name) {
  pixii::rt::MessageSocket socket{pixii::rt::Fd(0)};
  pixii::media::DecodeJob job;
  if (!socket.Receive(std::as_writable_bytes(std::span(&job, 1)), std::nullopt)) {
    return 0;
  }
  if (name == "killed") {
    std::raise(SIGKILL);
  } else if (name == "crash") {
    std::raise(SIGSEGV);
  } else if (name == "spin") {
    for (volatile int turn = 0;; turn = turn + 1) {
    }
  } else if (name == "hang") {
    (void)socket.Receive(std::as_writable_bytes(std::span(&job, 1)), std::nullopt);
  } else if (name == "garbage") {
    (void)socket.Send(std::as_bytes(std::span("nonsense")), nullptr);
    (void)socket.Receive(std::as_writable_bytes(std::span(&job, 1)), std::nullopt);
  } else if (name == "lie") {
    pixii::media::DecodeAnswer answer{.failed = true, .code = 9'999, .detail_bytes = 1U << 30};
    answer.detail[0] = '\n';
    (void)socket.Send(std::as_bytes(std::span(&answer, 1)), nullptr);
  }
  return 3;
}

}  // namespace

int main(int count, char** words) {
  const std::vector<std::string> arguments(words + 1, words + count);
  if (!arguments.empty() && arguments[0] == pixii::media::kDecoderCommand) {
    return pixii::media::RunDecoderChild(std::span(arguments).subspan(1));
  }
  if (arguments.size() > 1 && arguments[0] == "misbehave") {
    return Misbehave(arguments[1]);
  }
  // The first of those that share a folder dies of its job, the others do theirs.
  if (arguments.size() > 2 && arguments[0] == "killed once") {
    return std::filesystem::create_directory(arguments[1])
               ? Misbehave("killed")
               : pixii::media::RunDecoderChild(std::span(arguments).subspan(2));
  }
  testing::InitGoogleMock(&count, words);
  return RUN_ALL_TESTS();
}
