// A shared object loaded at run time. docs/subsystems/rt.md
//
// Thread: opened and closed at start and end, by one thread.
#pragma once

#include <string>

#include "base/result.h"

namespace pixii::rt {

class SharedLibrary final {
 public:
  /// Errors: kNotFound if there is no such file; kUnsupported with what the loader said.
  static Result<SharedLibrary> Open(const std::string& path);

  /// Where a library of this program's own build is: beside it, in the folder above, or in
  /// ../lib/pixii, as it is installed. Errors: kUnsupported with `how_to_build`.
  static Result<std::string> FindBesideProgram(const std::string& name,
                                               const std::string& how_to_build);

  SharedLibrary(SharedLibrary&& other) noexcept;
  SharedLibrary& operator=(SharedLibrary&& other) noexcept;
  /// Nothing of the library may be called afterwards.
  ~SharedLibrary();

  /// Errors: kUnsupported naming path and symbol.
  Result<void*> Symbol(const std::string& name) const;

 private:
  SharedLibrary(void* handle, std::string path);

  void* handle_ = nullptr;
  std::string path_;
};

}  // namespace pixii::rt
