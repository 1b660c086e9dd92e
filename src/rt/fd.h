// A file descriptor with one owner.
#pragma once

#include <unistd.h>

#include <utility>

namespace pixii::rt {

class Fd final {
 public:
  Fd() = default;

  explicit Fd(int fd) : fd_(fd) {}

  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) {
      Close();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }

  ~Fd() { Close(); }

  int get() const { return fd_; }

  explicit operator bool() const { return fd_ >= 0; }

  void Close() {
    if (fd_ >= 0) {
      ::close(std::exchange(fd_, -1));
    }
  }

 private:
  int fd_ = -1;
};

}  // namespace pixii::rt
