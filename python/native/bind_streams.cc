#include "bind_streams.h"

#include <unistd.h>

#include <chrono>
#include <vector>

#include "requests.h"

namespace py = pybind11;

namespace pixii::python {

std::function<void()> WakeBy(int descriptor) {
  return [descriptor] {
    if (descriptor < 0) {
      return;
    }
    const std::uint64_t one = 1;
    // A full one was written already, and who reads it takes everything.
    [[maybe_unused]] const ssize_t written = ::write(descriptor, &one, sizeof one);
  };
}

py::list TakeAnswers(const std::shared_ptr<Streams>& given, std::uint64_t key, double seconds,
                     std::size_t prompt_tokens) {
  const std::shared_ptr<Streams> streams = given;  // whoever has them may close meanwhile
  std::vector<Piece> pieces;
  {
    const py::gil_scoped_release released;
    pieces = streams->Take(StreamKey{key}, std::chrono::duration_cast<rt::Duration>(
                                               std::chrono::duration<double>(seconds)));
  }
  if (PyErr_CheckSignals() != 0) {
    throw py::error_already_set();
  }
  py::list out;
  for (const Piece& piece : pieces) {
    out.append(AnswerDict(piece, prompt_tokens));
  }
  return out;
}

}  // namespace pixii::python
