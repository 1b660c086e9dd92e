#include "rt/message_socket.h"

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <string>

#include "rt/memory_file.h"

namespace pixii::rt {
namespace {

std::span<const std::byte> AsBytes(const std::string& text) {
  return std::as_bytes(std::span(text));
}

TEST(MessageSocket, MessagesArriveWholeAndInOrder) {
  auto [one, two] = MessageSocket::Pair().value();
  ASSERT_TRUE(one.Send(AsBytes("first"), nullptr));
  ASSERT_TRUE(one.Send(AsBytes("2nd"), nullptr));
  std::array<std::byte, 16> room{};
  EXPECT_EQ(two.Receive(room, std::nullopt)->size_bytes, 5U);
  EXPECT_EQ(two.Receive(room, std::nullopt)->size_bytes, 3U);
  EXPECT_EQ(static_cast<char>(room[0]), '2');
}

TEST(MessageSocket, OneThatIsTooLongSaysHowLongItWas) {
  auto [one, two] = MessageSocket::Pair().value();
  ASSERT_TRUE(one.Send(AsBytes("0123456789"), nullptr));
  std::array<std::byte, 4> room{};
  EXPECT_EQ(two.Receive(room, std::nullopt)->size_bytes, 10U);
}

TEST(MessageSocket, MemoryGoesAlong) {
  auto [one, two] = MessageSocket::Pair().value();
  const MemoryFile memory = MemoryFile::Create(100, Sharing::kOthersWrite).value();
  ASSERT_TRUE(one.Send(AsBytes("x"), &memory.fd()));
  std::array<std::byte, 4> room{};
  MessageSocket::Received received = two.Receive(room, std::nullopt).value();
  ASSERT_TRUE(received.passed);
  const MemoryFile mapped =
      MemoryFile::Map(std::move(received.passed), 100, Sharing::kOthersWrite).value();
  mapped.bytes()[42] = std::byte{7};
  EXPECT_EQ(memory.bytes()[42], std::byte{7});
}

TEST(MessageSocket, WaitingEndsWithTheLimitOrTheOtherEnd) {
  auto [one, two] = MessageSocket::Pair().value();
  std::array<std::byte, 4> room{};
  EXPECT_EQ(two.Receive(room, std::chrono::milliseconds(1)).error().code(),
            Code::kDeadlineExceeded);
  one.Close();
  EXPECT_EQ(two.Receive(room, std::chrono::hours(1)).error().code(), Code::kDisconnected);
  EXPECT_EQ(two.Receive(room, std::nullopt).error().code(), Code::kDisconnected);
  EXPECT_EQ(two.Send(AsBytes("x"), nullptr).error().code(), Code::kDisconnected);
}

}  // namespace
}  // namespace pixii::rt
