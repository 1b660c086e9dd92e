// `pixii image render`: the Containerfile, from its template and the options of the build.
#include "apps/image_render.h"

#include <fmt/format.h>

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rt/file.h"
#include "text/jinja/chat_template.h"
#include "wire/json.h"

namespace pixii::apps {
namespace {

constexpr std::uint64_t kFileBytesMax = 1 << 20;
constexpr std::uint32_t kFileMode = 0644;
constexpr const char* kTemplateName = "Containerfile.jinja";

struct ImageFlags {
  std::string target = "all";
  std::string cuda;
  std::string platform = "linux/amd64";
  std::vector<std::string> build_args;
  std::string templates;
  std::string output;
  bool check = false;
};

std::vector<config::Option> RowsOf(ImageFlags& flags) {
  std::vector<config::Option> rows(7);
  rows[0].name = "target";
  rows[0].field = config::WordField{&flags.target, {{"all", "runtime", "dev", "local-dev"}}};
  rows[0].help = "the stage the image ends with; all: every one, for --target of the engine";
  rows[1].name = "cuda";
  rows[1].field = config::WordField{&flags.cuda, {{"", "none", "12", "13"}}};
  rows[1].help = "which CUDA the image has; empty: what build.args says";
  rows[2].name = "platform";
  rows[2].field = config::WordField{&flags.platform, {{"linux/amd64", "linux/arm64"}}};
  rows[2].help = "what the image runs on";
  rows[3].name = "build-arg";
  rows[3].field = config::ListField{&flags.build_args, {}};
  rows[3].help = "NAME=VALUE in place of a line of build.args";
  rows[4].name = "templates";
  rows[4].field = config::TextField{&flags.templates, {}};
  rows[4].help = "folder of Containerfile.jinja and build.args; empty: the installed one";
  rows[5].name = "output";
  rows[5].field = config::TextField{&flags.output, {}};
  rows[5].help = "writes this file instead of the standard output";
  rows[6].name = "check";
  rows[6].field = config::BoolField{&flags.check};
  rows[6].help =
      "compares with --output, or with Containerfile beside the template, and fails if it is stale";
  return rows;
}

Result<std::string> TemplateFolder(const ImageFlags& flags) {
  if (!flags.templates.empty()) {
    return flags.templates;
  }
  PX_TRY(const std::string program, rt::RealPath("/proc/self/exe"));
  const std::string folder = program.substr(0, program.rfind('/'));
  // Installed, or build/PRESET/pixii of a source tree.
  for (const char* beside : {"/../share/pixii/container", "/../../deploy/container"}) {
    PX_TRY(const std::optional<rt::FileInfo> found,
           rt::StatFile(folder + beside + "/" + kTemplateName));
    if (found) {
      return folder + beside;
    }
  }
  return Fail(Code::kNotFound,
              fmt::format("templates: no {} beside the program; give --templates", kTemplateName),
              "templates");
}

/// "NAME=VALUE", in two.
Result<std::pair<std::string, std::string>> Assignment(const std::string& text, const char* where) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) {
    return Fail(Code::kInvalidArgument, fmt::format("{}: \"{}\" is not NAME=VALUE", where, text),
                where);
  }
  return std::pair(text.substr(0, equals), text.substr(equals + 1));
}

Result<std::map<std::string, std::string>> BuildArgs(const std::string& folder,
                                                     const ImageFlags& flags) {
  PX_TRY(const std::string text, rt::ReadFile(folder + "/build.args", kFileBytesMax));
  std::map<std::string, std::string> args;
  std::vector<std::string> names;
  for (std::size_t begin = 0; begin < text.size();) {
    std::size_t end = text.find('\n', begin);
    end = end == std::string::npos ? text.size() : end;
    const std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    if (line.empty() || line.front() == '#') {
      continue;
    }
    PX_TRY(auto pair, Assignment(line, "build.args"));
    names.push_back(pair.first);
    args.insert(std::move(pair));
  }
  for (const std::string& given : flags.build_args) {
    PX_TRY(auto pair, Assignment(given, "build-arg"));
    if (!args.contains(pair.first)) {
      const std::optional<std::string> nearest = config::Nearest(pair.first, names);
      return Fail(Code::kInvalidArgument,
                  fmt::format("build-arg: build.args has no {}{}", pair.first,
                              nearest ? fmt::format("; did you mean {}?", *nearest) : ""),
                  "build-arg");
    }
    args[pair.first] = pair.second;
  }
  if (!flags.cuda.empty()) {
    args["CUDA"] = flags.cuda;
  }
  return args;
}

Result<std::string> Rendered(const std::string& folder, const ImageFlags& flags) {
  using Args = std::map<std::string, std::string>;
  PX_TRY(const Args args, BuildArgs(folder, flags));
  PX_TRY(const std::string source,
         rt::ReadFile(fmt::format("{}/{}", folder, kTemplateName), kFileBytesMax));
  PX_TRY(const text::ChatTemplate parsed, text::ChatTemplate::Parse(source, {}));
  wire::Json variables(wire::Json::Object{});
  wire::Json all(wire::Json::Object{});
  for (const auto& [name, value] : args) {
    all.Set(name, value);
  }
  variables.Set("args", std::move(all));
  variables.Set("target", flags.target);
  variables.Set("platform", flags.platform);
  const wire::Json none{wire::Json::Array{}};
  text::ChatTemplateInput input;
  input.messages = &none;
  input.variables = &variables;
  PX_TRY(text::RenderedPrompt rendered, parsed.Render(input));
  if (!rendered.text.ends_with('\n')) {
    rendered.text += '\n';  // Jinja drops the last one
  }
  return std::move(rendered.text);
}

/// The number of the first line that differs, from 1.
std::size_t FirstDifference(std::string_view one, std::string_view other) {
  std::size_t line = 1;
  for (std::size_t i = 0; i < one.size() && i < other.size() && one[i] == other[i]; ++i) {
    line += one[i] == '\n' ? 1 : 0;
  }
  return line;
}

Result<int> Make(const ImageFlags& flags) {
  PX_TRY(const std::string folder, TemplateFolder(flags));
  PX_TRY(const std::string made, Rendered(folder, flags));
  if (!flags.check) {
    if (flags.output.empty()) {
      Say("{}", made);
    } else {
      PX_CHECK_OK(rt::WriteFileAtomic(flags.output, made, kFileMode));
    }
    return kExitDone;
  }
  const std::string path = flags.output.empty() ? folder + "/Containerfile" : flags.output;
  PX_TRY(const std::string there, rt::ReadFile(path, kFileBytesMax));
  if (there == made) {
    return kExitDone;
  }
  SayError("pixii: {} is stale from line {} on: render it anew with --output\n", path,
           FirstDifference(there, made));
  return kExitNotSo;
}

}  // namespace

int RunImageRender(const Arguments& arguments) {
  ImageFlags flags;
  config::Command command;
  command.name = "image render";
  command.summary = "Writes the Containerfile that a container engine builds pixii's image from.";
  command.options = RowsOf(flags);
  auto [parsed, exit] = ParseOrExit(command, arguments);
  if (exit != kGoOn) {
    return exit;
  }
  const Result<int> done = Make(flags);
  return done ? *done : Complain(done.error());
}

}  // namespace pixii::apps
