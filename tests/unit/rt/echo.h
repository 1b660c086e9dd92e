// Clients and servers that send random bytes back and forth, over any net.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "rt/net.h"
#include "rt/random.h"

namespace pixii::rt {

inline std::string Pattern(Random& random, std::size_t size) {
  std::string out(size, '\0');
  for (char& c : out) {
    c = static_cast<char>(random.Next());
  }
  return out;
}

/// Echoes one connection in pieces of random size until the peer ends; then it belongs to `ended`:
/// closing it might cut off what says in TLS that it ended.
inline Task<void> EchoOne(std::unique_ptr<Stream> stream, Random random,
                          std::vector<std::unique_ptr<Stream>>& ended) {
  std::string buffer(70'000, '\0');
  while (true) {
    const std::size_t size = 1 + random.Below(random.Chance(0.5) ? 16 : buffer.size());
    const std::span<char> out(buffer.data(), size);
    Result<std::size_t> count = co_await stream->Read(out, kNever);
    if (!count || *count == 0) {
      break;
    }
    const std::string_view bytes(buffer.data(), *count);
    Result<void> written = co_await stream->Write(bytes, kNever);
    if (!written) {
      break;
    }
  }
  stream->ShutdownWrite();
  ended.push_back(std::move(stream));
}

inline Task<void> EchoServer(Loop& loop, Listener& listener, Random random) {
  std::vector<std::unique_ptr<Stream>> ended;
  while (true) {
    Result<std::unique_ptr<Stream>> stream = co_await listener.Accept();
    if (!stream) {
      EXPECT_EQ(stream.error().code(), Code::kCancelled);
      break;
    }
    loop.Spawn(EchoOne(std::move(*stream), random.Fork(), ended));
  }
}

inline Task<void> WriteInPieces(Stream& stream, std::string_view bytes, Random random) {
  while (!bytes.empty()) {
    const std::size_t size = std::min<std::size_t>(bytes.size(), 1 + random.Below(100'000));
    const std::string_view piece = bytes.substr(0, size);
    Result<void> written = co_await stream.Write(piece, kNever);
    EXPECT_TRUE(written);
    bytes.remove_prefix(size);
  }
  stream.ShutdownWrite();
}

inline Task<std::string> ReadAll(Stream& stream) {
  std::string out;
  std::string buffer(30'000, '\0');
  while (true) {
    const std::span<char> space(buffer);
    Result<std::size_t> count = co_await stream.Read(space, kNever);
    EXPECT_TRUE(count);
    if (!count || *count == 0) {
      break;
    }
    out.append(buffer, 0, *count);
  }
  co_return out;
}

inline Task<void> EchoClient(Loop& loop, Net& net, Address server, std::string sent, Random random,
                             int& done) {
  const Time deadline = loop.Now() + 10s;
  Result<std::unique_ptr<Stream>> stream = co_await net.Connect(server, deadline);
  EXPECT_TRUE(stream) << stream.error().ToString();
  if (!stream) {
    co_return;
  }
  loop.Spawn(WriteInPieces(**stream, sent, random));
  const std::string received = co_await ReadAll(**stream);
  EXPECT_EQ(received.size(), sent.size());
  EXPECT_TRUE(received == sent);
  ++done;
}

/// Writes as much as is taken without waiting.
inline std::size_t WriteNow(Stream& stream, std::string_view bytes) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    Result<std::size_t> count = stream.TryWrite(bytes.substr(done));
    EXPECT_TRUE(count) << count.error().ToString();
    if (!count || *count == 0) {
      break;
    }
    done += *count;
  }
  return done;
}

}  // namespace pixii::rt
