#include "rt/terminal.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>

namespace pixii::rt {

namespace {

constexpr char kEndOfInput = 4;

}  // namespace

TerminalSize ReadTerminalSize() {
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) {
    return {};
  }
  return {.columns = size.ws_col, .rows = size.ws_row};
}

TerminalKeys::TerminalKeys() {
  termios now{};
  if (::tcgetattr(STDIN_FILENO, &now) == 0) {
    before_ = now;
    // Ctrl-C is a key, too: the terminal would stay as it is now if it ended the process.
    now.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO | ISIG);
    ::tcsetattr(STDIN_FILENO, TCSANOW, &now);
  }
  std::fputs("\x1b[?1049h\x1b[?25l", stdout);
  std::fflush(stdout);
}

TerminalKeys::~TerminalKeys() {
  if (before_) {
    ::tcsetattr(STDIN_FILENO, TCSANOW, &*before_);
  }
  std::fputs("\x1b[?25h\x1b[?1049l", stdout);
  std::fflush(stdout);
}

std::optional<char> TerminalKeys::Wait(std::chrono::milliseconds patience) {
  pollfd input{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
  if (::poll(&input, 1, static_cast<int>(patience.count())) <= 0) {
    return std::nullopt;
  }
  char key = 0;
  return ::read(STDIN_FILENO, &key, 1) == 1 ? key : kEndOfInput;
}

}  // namespace pixii::rt
