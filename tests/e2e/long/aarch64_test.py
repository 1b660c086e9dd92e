"""The operators on ARM: built for aarch64 by the preset, run under qemu-user; their bits are those of x86-64 (FusedNumerics in tests/compare)."""
import pathlib
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness  # noqa: E402

PROGRAMS = ("kernels_test", "operator_compare_test")


@unittest.skipUnless(shutil.which("qemu-aarch64"), "no qemu-user here")
class Aarch64(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        done = subprocess.run(["./dev", "build", "aarch64", *PROGRAMS], cwd=harness.ROOT, capture_output=True, text=True)
        if done.returncode != 0:
            raise AssertionError(done.stdout[-3000:] + done.stderr[-3000:])

    def run_program(self, name, *flags):
        return subprocess.run(["qemu-aarch64", "-L", str(harness.ROOT / "build/sysroot-arm64/root"), str(harness.ROOT / "build/aarch64/test-bin" / name),
                               "--gtest_brief=1", *flags], cwd=harness.ROOT, capture_output=True, text=True)

    def test_every_test_of_the_operators_passes(self):
        for name in PROGRAMS:
            done = self.run_program(name)
            self.assertEqual(done.returncode, 0, done.stdout[-4000:] + done.stderr[-2000:])

    def test_neon_and_i8mm_are_what_ran(self):
        done = self.run_program("operator_compare_test", "--gtest_filter=Isas/*:FusedNumerics.*", "--gtest_brief=0")
        for name in ("TheTableRanOnThisInstructionSet/neon ", "TheTableRanOnThisInstructionSet/neoni8mm ", "AreTheSameBitsOnX86AndArm "):
            self.assertRegex(done.stdout, rf"\[       OK \] .*{name}")


if __name__ == "__main__":
    harness.main()
