// The terminal that a command talks to: its size, and keys as they are pressed.
//
// Thread: one.
#pragma once

#include <termios.h>

#include <chrono>
#include <cstdint>
#include <optional>

namespace pixii::rt {

struct TerminalSize {
  std::uint32_t columns = 80;
  std::uint32_t rows = 24;
};

/// Of standard output; the usual one if that is no terminal.
TerminalSize ReadTerminalSize();

/// Keys come at once and are not shown, as long as this lives; the alternate screen is shown.
class TerminalKeys final {
 public:
  TerminalKeys();
  TerminalKeys(const TerminalKeys&) = delete;
  TerminalKeys& operator=(const TerminalKeys&) = delete;
  ~TerminalKeys();

  /// Nothing: none was pressed for so long. 4 at the end of the input, 3 for Ctrl-C.
  std::optional<char> Wait(std::chrono::milliseconds patience);

 private:
  std::optional<termios> before_;  // nothing: standard input is no terminal
};

}  // namespace pixii::rt
