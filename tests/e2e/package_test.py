"""What is handed to users: build facts, plug-ins of another ABI, the Containerfile, tar.gz, .deb, image, pages of shells and man."""
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import unittest

import harness
from systemd_units import Unit

sys.path.insert(0, str(harness.ROOT / "tools/packaging"))
import oci  # noqa: E402

BUILD = pathlib.Path(harness.BINARY).resolve().parent
ANSWER = {"messages": [{"role": "user", "content": "What is 17 + 25?"}], "max_tokens": 16, "temperature": 0}
DEBS = pathlib.Path(os.environ.get("PIXII_DEB_CACHE", harness.ROOT / "build/debs"))


def release(out, *flags, epoch="1700000000"):
    command = [str(harness.ROOT / "tools/release"), "v9.8.7", "--build", str(BUILD), "--out", str(out), "--cache", str(DEBS), "--fast", *flags]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "SOURCE_DATE_EPOCH": epoch})
    if done.returncode != 0:
        raise AssertionError(done.stdout + done.stderr)
    return {file.name: file for file in pathlib.Path(out).iterdir()}


class Confined(harness.Server):
    """pixii in a root of its own that cannot be written, as uid 1000, without network but loopback of the host."""

    def __init__(self, root, program, mounts=(), group=1000):
        self.root, self.program, self.mounts, self.group = root, program, mounts, group
        self.start_in_root()

    def confinement(self, *more):
        return ["bwrap", "--unshare-user", "--uid", "1000", "--gid", str(self.group), "--die-with-parent", "--ro-bind", str(self.root), "/",
                *self.mounts, "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", *more, "--clearenv",
                "--setenv", "HOME", "/tmp", "--setenv", "PATH", "/usr/bin:/bin", "--chdir", "/"]

    def run(self, *words):
        return subprocess.run([*self.confinement(), self.program, *words], capture_output=True, text=True, timeout=120)

    def start_in_root(self):
        # The port file has to be seen from outside.
        self.shared = tempfile.TemporaryDirectory(prefix="pixii-port-")
        os.chmod(self.shared.name, 0o777)
        self.folder = self.shared
        self.log_path = pathlib.Path(self.shared.name) / "log"
        self.log = open(self.log_path, "wb")
        self.process = subprocess.Popen([*self.confinement("--bind", self.shared.name, "/run"), self.program, "serve", "tiny-chat", "--port", "0",
                                         "--port-file", "/run/port"], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        port = pathlib.Path(self.shared.name) / "port"

        def started():
            if self.process.poll() is not None:
                raise AssertionError(f"did not start\n{self.log_text()}")
            return port.exists() and port.read_text().strip()

        self.port = int(harness.wait_for(started, harness.START_SECONDS, "a port", self.log_text))

    def stop(self):
        # bwrap passes no signals on: its end is the server's.
        self.process.kill()
        self.process.wait()
        self.log.close()
        return 0


class BuildFacts(unittest.TestCase):
    def test_version_tells_commit_compiler_features_transports_and_abis(self):
        facts = json.loads(harness.run_pixii("--version", "--json").stdout)
        self.assertRegex(facts["compiler"], r"^Clang 19")
        self.assertTrue(facts["commit"])
        self.assertIn("avx2", " ".join(facts["cpu_features"]))
        self.assertIn("shm", facts["transports"])
        self.assertIn("tcp", facts["transports"])
        header = (harness.ROOT / "include/pixii/logits_processor.h").read_text()
        self.assertIn(f"PIXII_LOGITS_PROCESSOR_ABI {facts['plugin_abi']['logits_processor']}u", header)
        self.assertLessEqual({"ucx", "libfabric", "nats", "grpc", "cuda", "kv_connector"}, set(facts["plugin_abi"]))

    def test_the_commit_is_the_one_that_the_build_was_given(self):
        with tempfile.TemporaryDirectory() as folder:
            out = f"{folder}/version.cc"
            subprocess.run(["cmake", f"-DSOURCE_DIR={harness.ROOT}", "-DVERSION=1", "-DCOMMIT_SHA=abc123", f"-DOUTPUT={out}", "-DENABLE_KVBM=OFF",
                            "-P", str(harness.ROOT / "cmake/version.cmake")], check=True)
            text = pathlib.Path(out).read_text()
        self.assertIn('kCommit[] = "abc123"', text)
        self.assertIn("kWithKvbm = false", text)

    def test_a_build_without_kvbm_names_the_option(self):
        """The program of this build, linked anew with the facts of another one."""
        link = subprocess.run(["ninja", "-C", str(BUILD), "-t", "commands", "pixii"], capture_output=True, text=True, check=True).stdout.splitlines()[-1]
        with tempfile.TemporaryDirectory(prefix="pixii-kvbm-", dir=BUILD) as folder:
            source = (BUILD / "src/apps/version.cc").read_text()
            self.assertIn("kWithKvbm = true", source)
            pathlib.Path(f"{folder}/version.cc").write_text(source.replace("kWithKvbm = true", "kWithKvbm = false"))
            subprocess.run(["clang++-19", "-std=c++20", f"-I{harness.ROOT}/src", "-c", f"{folder}/version.cc", "-o", f"{folder}/version.o"], check=True)
            words = [f"{folder}/version.o" if w.endswith("/version.cc.o") else f"{folder}/pixii" if w == "pixii" else w for w in link.split()]
            subprocess.run(" ".join(words), shell=True, cwd=BUILD, check=True)
            for flags in (("--connector", "kvbm", "--kv-host-bytes", "64MiB"), ("--kv-host-bytes", "64MiB"), ("--connector", "kvbm")):
                out = subprocess.run([f"{folder}/pixii", "serve", str(harness.ROOT / "models/tiny-chat"), "--port", "0", *flags],
                                     capture_output=True, text=True, timeout=60)
                self.assertEqual(out.returncode, 2, flags)
                self.assertIn("ENABLE_KVBM=false", out.stderr)

    def test_doctor_without_a_gpu_passes_but_for_require_cuda(self):
        self.assertEqual(harness.run_pixii("doctor").returncode, 0)
        if pathlib.Path("/dev/nvidiactl").exists():
            self.skipTest("this machine has a GPU")
        asked = harness.run_pixii("doctor", "--require", "cuda")
        self.assertEqual(asked.returncode, 1)
        self.assertRegex(asked.stdout, r"BAD  cuda +")


class WrongAbi(unittest.TestCase):
    """The plug-ins of a program that lies beside others than its own."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="pixii-abi-", dir=BUILD)
        cls.program = f"{cls.folder.name}/pixii"
        os.link(pathlib.Path(harness.BINARY).resolve(), cls.program)
        cls.abis = json.loads(harness.run_pixii("--version", "--json").stdout)["plugin_abi"]

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def library(self, name, entry, fields):
        source = f"static const struct {{ unsigned abi; unsigned pad[63]; }} table = {{ {fields}, {{0}} }};\n" \
                 f"const void* {entry}(unsigned abi) {{ (void)abi; return &table; }}\n"
        path = f"{self.folder.name}/{name}"
        subprocess.run(["clang-19", "-shared", "-fPIC", "-x", "c", "-", "-o", path], input=source, text=True, check=True)
        return path

    def entry_of(self, header):
        text = (harness.ROOT / header).read_text()
        return text.split('kEntryName = "')[1].split('"')[0]

    def run_it(self, *words):
        return subprocess.run([self.program, *words], capture_output=True, text=True, timeout=60,
                              env={**os.environ, "PIXII_MODELS_DIR": str(harness.ROOT / "models")})

    def test_doctor_names_both_numbers(self):
        for name, header in (("ucx", "src/transport/fabric_abi.h"), ("nats", "src/control/nats_abi.h"), ("grpc", "src/frontend/grpc_abi.h")):
            with self.subTest(name):
                path = self.library(f"libpixii_{name}.so", self.entry_of(header), "999")
                out = self.run_it("doctor")
                self.assertEqual(out.returncode, 1, out.stdout)
                line = next(l for l in out.stdout.splitlines() if l.startswith(f"BAD  {name}"))
                self.assertIn("ABI 999", line)
                self.assertIn(f"this program {self.abis[name]}", line)
                os.unlink(path)

    def test_a_server_that_needs_one_does_not_start(self):
        self.library("libpixii_grpc.so", self.entry_of("src/frontend/grpc_abi.h"), "999")
        out = self.run_it("serve", "tiny-chat", "--port", "0", "--kserve-grpc-server")
        self.assertNotEqual(out.returncode, 0)
        self.assertIn("ABI 999", out.stderr)
        own = self.library("own.so", "pixii_logits_processor_entry", "999")
        out = self.run_it("serve", "tiny-chat", "--port", "0", "--logits-processor", own)
        self.assertNotEqual(out.returncode, 0)
        self.assertIn("999", out.stderr)
        self.assertIn(f"ABI {self.abis['logits_processor']}", out.stderr)


class ContainerFile(unittest.TestCase):
    def test_what_is_checked_in_is_what_the_template_gives(self):
        folder = harness.ROOT / "deploy/container"
        done = harness.run_pixii("image", "render", "--check", "--templates", str(folder))
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_check_sees_an_edited_template_until_it_is_rendered_again(self):
        with tempfile.TemporaryDirectory() as copy:
            for name in ("Containerfile.jinja", "build.args"):
                shutil.copy(harness.ROOT / "deploy/container" / name, copy)
            render = lambda *flags: harness.run_pixii("image", "render", "--target", "runtime", "--templates", copy, *flags)
            one, two = render(), render()
            self.assertEqual(one.returncode, 0, one.stderr)
            self.assertEqual(one.stdout, two.stdout)
            self.assertIn(" AS runtime", one.stdout)
            self.assertNotIn(" AS dev", one.stdout)
            file = f"{copy}/Containerfile"
            self.assertEqual(render("--output", file).returncode, 0)
            self.assertEqual(render("--check").returncode, 0)
            template = pathlib.Path(copy) / "Containerfile.jinja"
            template.write_text(template.read_text().replace("EXPOSE 8000", "EXPOSE 8001"))
            stale = render("--check")
            self.assertEqual(stale.returncode, 1)
            self.assertIn("stale from line", stale.stderr)
            self.assertEqual(render("--output", file).returncode, 0)
            self.assertEqual(render("--check").returncode, 0)

    def test_its_steps_name_what_there_is(self):
        """Read as an engine reads it: what is copied is in the tree, options are CMake's, `runtime` is run as the image of tools/release."""
        text = re.sub(r"\\\n", " ", harness.run_pixii("image", "render", "--target", "all", "--templates", str(harness.ROOT / "deploy/container")).stdout)
        steps = [line.split(None, 1) for line in text.splitlines() if line and not line.startswith("#")]
        stages, stage = {}, None
        for word, rest in steps:
            if word == "FROM":
                stage = stages.setdefault(rest.split(" AS ")[1], [])
            elif stage is not None:
                stage.append((word, rest))
        self.assertEqual(list(stages), ["builder", "runtime", "dev", "local-dev"])
        for word, rest in stages["builder"]:
            if word == "COPY":
                for source in rest.split()[:-1]:
                    self.assertTrue((harness.ROOT / source).exists(), source)
        built = next(rest for word, rest in stages["builder"] if "cmake --preset" in rest)
        presets = json.loads((harness.ROOT / "CMakePresets.json").read_text())
        for name in re.findall(r"--preset (\S+)", built):
            self.assertIn(name, [preset["name"] for preset in presets["buildPresets"]])
        declared = {rest.split("=")[0] for word, rest in stages["builder"] if word == "ARG"}
        options = dict(line.split("=", 1) for line in (harness.ROOT / "deploy/container/build.args").read_text().splitlines() if re.match(r"[A-Z_]+=", line))
        self.assertEqual(set(re.findall(r"-D(\w+)=\$\{\1\}", built)), declared)
        self.assertLessEqual(declared, set(options))
        flags = subprocess.run([str(harness.ROOT / "tools/release"), "--help"], capture_output=True, text=True).stdout
        for flag in re.findall(r"tools/release (.*)", built)[0].split():
            self.assertIn(flag if flag.startswith("--") else "", flags)
        run = {word: rest for word, rest in stages["runtime"]}
        self.assertEqual(run["USER"], oci.CONFIG["User"])
        self.assertEqual(json.loads(run["ENTRYPOINT"]), oci.CONFIG["Entrypoint"])
        self.assertEqual(json.loads(run["CMD"]), oci.CONFIG["Cmd"])
        self.assertEqual(run["WORKDIR"], oci.CONFIG["WorkingDir"])
        self.assertEqual(f"{run['EXPOSE']}/tcp", *oci.CONFIG["ExposedPorts"])
        self.assertLessEqual(set(run["ENV"].split()), set(oci.CONFIG["Env"]))

    def test_arguments_are_checked(self):
        out = harness.run_pixii("image", "render", "--build-arg", "BASE_TAGG=1")
        self.assertEqual(out.returncode, 2)
        self.assertIn("did you mean BASE_TAG?", out.stderr)
        self.assertIn("cuda-nvcc-13", harness.run_pixii("image", "render", "--cuda", "13").stdout)


class Pages(unittest.TestCase):
    def test_bash_completes_commands_flags_and_words(self):
        script = harness.run_pixii("reference", "completion", "bash").stdout
        ask = lambda line: subprocess.run(
            ["bash"], input=f'{script}\nCOMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _pixii; echo "${{COMPREPLY[@]}}"\n',
            capture_output=True, text=True, check=True).stdout.split()
        self.assertEqual(ask("pixii ser"), ["serve"])
        self.assertIn("--max-batch", ask("pixii serve --max-b"))
        self.assertEqual(ask("pixii bench tok"), ["tokenizer"])
        self.assertEqual(ask("pixii serve --connector kv"), ["kvbm"])

    @unittest.skipUnless(shutil.which("fish"), "no fish here")
    def test_fish_completes_commands_and_words(self):
        script = harness.run_pixii("reference", "completion", "fish").stdout
        ask = lambda line: subprocess.run(["fish"], input=f"{script}\ncomplete -C '{line}'\n", capture_output=True, text=True, check=True).stdout
        self.assertTrue(ask("pixii serv").startswith("serve\t"))
        self.assertTrue(ask("pixii serve --connector kv").startswith("kvbm\t"))
        self.assertTrue(ask("pixii bench tok").startswith("tokenizer\t"))

    @unittest.skipUnless(shutil.which("zsh"), "no zsh here")
    def test_zsh_reads_its_script(self):
        script = harness.run_pixii("reference", "completion", "zsh").stdout
        done = subprocess.run(["zsh", "-n"], input=script, capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("--max-batch[", script)

    def test_the_man_page_is_well_formed(self):
        page = harness.run_pixii("reference", "man").stdout
        self.assertIn(".SH PIXII serve", page)
        if shutil.which("man") is None:
            self.skipTest("no man here")
        with tempfile.NamedTemporaryFile(suffix=".1") as file:
            file.write(page.encode())
            file.flush()
            shown = subprocess.run(["man", "--warnings", "-l", file.name], capture_output=True, text=True, env={**os.environ, "MANPAGER": "cat"})
        self.assertEqual(shown.stderr, "")
        self.assertIn("--max-batch", shown.stdout)


class Packages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="pixii-release-")
        cls.top = pathlib.Path(cls.folder.name)
        key = cls.top / "key.pem"
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(key)], check=True, capture_output=True)
        subprocess.run(["openssl", "pkey", "-in", str(key), "-pubout", "-out", f"{cls.top}/key.pub"], check=True)
        cls.files = release(cls.top / "one", "--key", str(key))

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def file(self, suffix):
        return next(f for name, f in self.files.items() if name.endswith(suffix))

    def test_every_file_is_the_same_when_built_again(self):
        again = release(self.top / "two", "--offline")
        for name, file in self.files.items():
            if not name.endswith(".sig"):
                self.assertEqual(hashlib.sha256(file.read_bytes()).digest(), hashlib.sha256(again[name].read_bytes()).digest(), name)
        shutil.rmtree(self.top / "two")

    def test_the_checksums_are_signed(self):
        verify = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", f"{self.top}/key.pub", "-rawin", "-sigfile", str(self.files["SHA256SUMS.sig"])]
        self.assertEqual(subprocess.run([*verify, "-in", str(self.files["SHA256SUMS"])], capture_output=True).returncode, 0)
        checked = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=self.top / "one", capture_output=True, text=True)
        self.assertEqual(checked.returncode, 0, checked.stdout)
        for suffix in (".deb", ".tar.gz", "-oci.tar", ".spdx.json"):
            self.assertIn(suffix + ": OK\n", checked.stdout)
        forged = self.top / "forged"
        forged.write_text(self.files["SHA256SUMS"].read_text().replace("a", "b", 1))
        self.assertNotEqual(subprocess.run([*verify, "-in", str(forged)], capture_output=True).returncode, 0)

    def test_the_bill_of_materials_names_what_is_linked(self):
        bill = json.loads(self.file(".spdx.json").read_text())
        self.assertEqual(bill["spdxVersion"], "SPDX-2.3")
        linked = {r["relatedSpdxElement"] for r in bill["relationships"] if r["relationshipType"] == "DYNAMIC_LINK"}
        names = {p["name"]: p for p in bill["packages"]}
        for package in ("libc6", "libssl3", "libfmt9"):
            self.assertIn(names[package]["SPDXID"], linked)
            self.assertTrue(names[package]["versionInfo"])

    def test_libraries_are_looked_for_beside_the_program_and_never_where_one_stands(self):
        said = subprocess.run(["readelf", "-d", harness.BINARY], capture_output=True, text=True).stdout
        self.assertEqual([line.split("[")[1] for line in said.splitlines() if "rpath" in line], ["$ORIGIN/../lib/pixii/bundled]"])

    def test_the_package_says_what_it_needs(self):
        field = lambda name: subprocess.run(["dpkg-deb", "-f", str(self.file(".deb")), name], capture_output=True, text=True).stdout
        self.assertIn("libssl3", field("Depends"))
        self.assertNotIn("libucp", field("Depends"))
        self.assertEqual(field("Version").strip(), "9.8.7")
        listed = subprocess.run(["dpkg-deb", "-c", str(self.file(".deb"))], capture_output=True, text=True).stdout
        for name in ("/usr/bin/pixii", "/lib/systemd/system/pixii-worker@.service", "/usr/share/man/man1/pixii.1.gz", "/usr/lib/pixii/libpixii_grpc.so",
                     "/usr/share/bash-completion/completions/pixii", "/usr/share/pixii/models/tiny-chat/model.safetensors"):
            self.assertIn(f".{name}\n", listed)
        self.assertNotIn("/train/", listed)

    def answers(self, server):
        status, answer = server.post("/v1/chat/completions", ANSWER)
        self.assertEqual(status, 200, answer)
        self.assertIn("42", answer["choices"][0]["message"]["content"])

    def test_the_archive_serves_from_a_read_only_root_as_an_ordinary_user(self):
        root = self.top / "tar-root"
        for folder in ("proc", "dev", "tmp", "run", "opt", "lib64", "lib/x86_64-linux-gnu"):
            (root / folder).mkdir(parents=True)
        with tarfile.open(self.file(".tar.gz")) as files:
            files.extractall(root / "opt")
        # Of this system it gets the C library, and nothing else.
        for name in ("libc.so.6", "libm.so.6", "libresolv.so.2"):
            shutil.copy(f"/lib/x86_64-linux-gnu/{name}", root / "lib/x86_64-linux-gnu")
        shutil.copy("/lib64/ld-linux-x86-64.so.2", root / "lib64")
        with Confined(root, "/opt/pixii-v9.8.7/bin/pixii") as server:
            self.answers(server)
            done = server.run("doctor")
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertNotEqual(server.run("inspect", "--offline").returncode, 2)

    def unpacked_image(self):
        """(configuration, root) of the image, unpacked once."""
        layout, root = self.top / "layout", self.top / "image-root"
        if not root.exists():
            with tarfile.open(self.file("-oci.tar")) as files:
                files.extractall(layout)
            oci.unpack(layout, root)
            (root / "run").mkdir(exist_ok=True)
        return oci.configuration(layout), root

    def test_the_image_serves_from_its_layout(self):
        config, root = self.unpacked_image()
        for blob in (self.top / "layout/blobs/sha256").iterdir():
            self.assertEqual(hashlib.sha256(blob.read_bytes()).hexdigest(), blob.name)
        self.assertEqual(config["User"], "1000:0")
        self.assertFalse((root / "bin/sh").exists())
        self.assertTrue((root / "etc/ssl/certs/ca-certificates.crt").stat().st_size > 100_000)
        with Confined(root, config["Entrypoint"][0], group=0) as server:
            self.answers(server)
            done = server.run("doctor")
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    UNITS = ("serve", "frontend", "worker", "router")

    @unittest.skipUnless(shutil.which("systemd-analyze"), "no systemd-analyze here")
    def test_systemd_finds_nothing_to_complain_of_in_the_units(self):
        root = self.top / "units"
        units = root / "usr/lib/systemd/system"
        units.mkdir(parents=True)
        for target in pathlib.Path("/lib/systemd/system").glob("*.target"):
            shutil.copy(target, units, follow_symlinks=True)
        for file in (harness.ROOT / "deploy/systemd").glob("*.service"):
            shutil.copy(file, units)
        (root / "usr/bin").mkdir()
        shutil.copy("/bin/true", root / "usr/bin/pixii")  # verify asks whether the command is there, and runs nothing
        verify = lambda name: subprocess.run(["systemd-analyze", "--man=no", "--recursive-errors=no", f"--root={root}", "verify", name],
                                             capture_output=True, text=True)
        for name in self.UNITS:
            done = verify(f"pixii-{name}@one.service")
            self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""), name)
        wrong = units / "pixii-serve@.service"
        wrong.write_text(wrong.read_text().replace("LimitNOFILE", "LimitNOFILES"))
        self.assertIn("LimitNOFILES", verify("pixii-serve@one.service").stderr)  # it would see one

    def test_the_units_start_what_they_name(self):
        """Each unit's command line, user, environment and folders, in the image's root: a server alone, and a fleet of three units."""
        _, root = self.unpacked_image()
        etc, state = self.top / "etc", self.top / "state"
        etc.mkdir()
        state.mkdir()
        shared = "discovery: file:/var/lib/pixii/cluster\n"
        listens = lambda name, prefix="": f"{prefix}port: 0\n{prefix}port-file: /var/lib/pixii/{name}.port\n"
        for name, text in {"serve": "served-model-name: chat\n" + listens("serve"), "frontend": shared + listens("frontend"),
                           "worker": shared + listens("worker", "system-"), "router": shared + listens("router")}.items():
            (etc / f"{name}-one.yaml").write_text(text)
        (etc / "serve-one.env").write_text("DYN_LOG=debug\n")
        (etc / "worker-one.env").write_text("MODEL=tiny-vlm\n")
        unit = lambda name: Unit(root, f"pixii-{name}", "one", etc, state, state / f"{name}.port")
        with unit("serve") as server:
            self.answers(server)
            self.assertIn("severity=debug", server.log_text())
        with unit("worker"), unit("router"), unit("frontend") as frontend:
            frontend.wait_for(lambda: frontend.request("GET", "/v1/models")[2].get("data"), 30, "the worker's model")
            self.assertEqual([model["id"] for model in frontend.request("GET", "/v1/models")[2]["data"]], ["tiny-vlm"])
            status, answer = frontend.post("/v1/chat/completions", ANSWER)
            self.assertEqual((status, answer["usage"]["completion_tokens"] > 0), (200, True), answer)
        self.assertEqual(sorted(file.name for file in (root / "usr/lib/systemd/system").glob("pixii-*")),
                         sorted(f"pixii-{name}@.service" for name in self.UNITS))

    @unittest.skipUnless(shutil.which("runc") and os.geteuid() == 0, "runc, as root")
    def test_a_container_runtime_runs_what_the_image_says(self):
        """Entrypoint, Cmd, User, Env and WorkingDir of the image, by runc: read-only root, no capability, a network of its own."""
        config, root = self.unpacked_image()
        user, group = (int(number) for number in config["User"].split(":"))
        bundle = self.top / "bundle"
        bundle.mkdir()
        scratch = lambda path, *options: {"destination": path, "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", *options]}
        self.assertEqual(list(config["Volumes"]), ["/var/lib/pixii"])
        (bundle / "config.json").write_text(json.dumps({
            "ociVersion": "1.0.2", "root": {"path": str(root), "readonly": True},
            "process": {"user": {"uid": user, "gid": group}, "args": [*config["Entrypoint"], *config["Cmd"]], "env": config["Env"],
                        "cwd": config["WorkingDir"], "noNewPrivileges": True,
                        "capabilities": {kind: [] for kind in ("bounding", "effective", "permitted", "inheritable")}},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}, scratch("/dev", "mode=755"), scratch("/dev/shm", "mode=1777"),
                       scratch("/tmp", "mode=1777"), scratch("/var/lib/pixii", "mode=2775", f"uid={user}", f"gid={group}")],
            "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "network")]}}))
        name = f"pixii-test-{os.getpid()}"
        command = ["runc", "--root", str(self.top / "runc")]
        with open(bundle / "log", "wb") as log:
            container = subprocess.Popen([*command, "run", "--bundle", str(bundle), name], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        said = lambda: (bundle / "log").read_text(errors="replace")
        try:
            inside = None

            def asked(*words):
                return subprocess.run(["nsenter", "-t", str(inside), "-n", "curl", "-sS", "--max-time", "60", *words], capture_output=True, text=True)

            def answers():
                nonlocal inside
                if container.poll() is not None:
                    if "cgroup" in said():
                        self.skipTest(f"no container can be started here: {said().strip()}")
                    raise AssertionError(said())
                state = subprocess.run([*command, "state", name], capture_output=True, text=True)
                inside = json.loads(state.stdout).get("pid") if state.returncode == 0 else None
                return inside and asked("-f", "http://127.0.0.1:8000/health").returncode == 0

            harness.wait_for(answers, harness.START_SECONDS, "an answer from the container", said)
            answer = asked("-H", "Content-Type: application/json", "-d", json.dumps(ANSWER), "http://127.0.0.1:8000/v1/chat/completions")
            self.assertIn("42", json.loads(answer.stdout)["choices"][0]["message"]["content"])
            status = pathlib.Path(f"/proc/{inside}/status").read_text()
            self.assertRegex(status, rf"Uid:\t{user}\t{user}\t{user}\t{user}\nGid:\t{group}\t")
            self.assertRegex(status, r"CapEff:\t0{16}")
            with self.assertRaises(OSError):  # nobody writes to this root, not even we
                pathlib.Path(f"/proc/{inside}/root/usr/written").write_text("")
        finally:
            subprocess.run([*command, "kill", name, "TERM"], capture_output=True)
            code = container.wait(timeout=60) if container.poll() is None else container.returncode
        self.assertEqual(code, 0, said())


if __name__ == "__main__":
    harness.main()
