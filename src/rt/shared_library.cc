#include "rt/shared_library.h"

#include <dlfcn.h>

#include <filesystem>
#include <system_error>
#include <utility>

#include <fmt/format.h>

namespace pixii::rt {

namespace {

std::string LoaderError() {
  const char* said = dlerror();
  return said == nullptr ? "the loader does not say why" : said;
}

}  // namespace

SharedLibrary::SharedLibrary(void* handle, std::string path)
    : handle_(handle), path_(std::move(path)) {}

SharedLibrary::SharedLibrary(SharedLibrary&& other) noexcept
    : handle_(std::exchange(other.handle_, nullptr)), path_(std::move(other.path_)) {}

SharedLibrary& SharedLibrary::operator=(SharedLibrary&& other) noexcept {
  std::swap(handle_, other.handle_);
  std::swap(path_, other.path_);
  return *this;
}

SharedLibrary::~SharedLibrary() {
  if (handle_ != nullptr) {
    dlclose(handle_);
  }
}

Result<std::string> SharedLibrary::FindBesideProgram(const std::string& name,
                                                     const std::string& how_to_build) {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::filesystem::path folder = program.parent_path();
  for (const std::filesystem::path& candidate :
       {folder, folder.parent_path(), folder.parent_path() / "lib/pixii"}) {
    const std::filesystem::path path = candidate / name;
    if (std::filesystem::is_regular_file(path, error)) {
      return path.string();
    }
  }
  return Fail(Code::kUnsupported,
              fmt::format("{} is not beside the program: {}", name, how_to_build));
}

Result<SharedLibrary> SharedLibrary::Open(const std::string& path) {
  std::error_code error;
  // A plain name would be looked for in the system's folders.
  std::filesystem::path full = std::filesystem::absolute(path, error);
  if (error || !std::filesystem::is_regular_file(full, error)) {
    return Fail(Code::kNotFound, fmt::format("there is no shared object {}", path));
  }
  void* handle = dlopen(full.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    return Fail(Code::kUnsupported, fmt::format("{} cannot be loaded: {}", path, LoaderError()));
  }
  return SharedLibrary(handle, path);
}

Result<void*> SharedLibrary::Symbol(const std::string& name) const {
  void* symbol = dlsym(handle_, name.c_str());
  if (symbol == nullptr) {
    return Fail(Code::kUnsupported, fmt::format("{} has no {}: {}", path_, name, LoaderError()));
  }
  return symbol;
}

}  // namespace pixii::rt
