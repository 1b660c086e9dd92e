"""The same program on processors that this machine is not: qemu-user shows it fewer instruction sets, and kills it for one that is used all the same."""
import shutil
import subprocess
import unittest

import harness

AVX2_ONLY, NO_AVX = "Haswell", "Nehalem"
# Drawn, so that a bit of a logit that differs is likely to be seen.
DRAWN = ("chat", "Count.", "--temperature", "1", "--seed", "7", "--max-tokens", "6", "--ignore-eos")


@unittest.skipUnless(shutil.which("qemu-x86_64"), "no qemu-user here")
class OlderProcessors(unittest.TestCase):
    def on(self, processor, *words):
        return subprocess.run(["qemu-x86_64", "-cpu", processor, harness.BINARY, *words], capture_output=True, text=True, timeout=600)

    def test_without_avx512_it_answers_with_the_bits_of_avx2(self):
        doctor = self.on(AVX2_ONLY, "doctor")
        self.assertRegex(doctor.stdout, r"(?m)^weak processor +avx2; ")
        there = self.on(AVX2_ONLY, *DRAWN)
        self.assertEqual(there.returncode, 0, there.stderr)
        self.assertEqual(there.stdout, harness.run_pixii(*DRAWN, "--isa", "avx2").stdout)

    def test_an_instruction_set_that_is_asked_for_and_absent_is_refused_by_name(self):
        for isa in ("avx512", "neon"):
            done = self.on(AVX2_ONLY, *DRAWN, "--isa", isa)
            self.assertGreater(done.returncode, 0, done.stderr)  # not killed by a signal
            self.assertIn(f"does not run {isa}; it has avx2", done.stderr)

    def test_without_avx_it_says_so_and_the_reference_operators_still_answer(self):
        doctor = self.on(NO_AVX, "doctor")
        self.assertEqual(doctor.returncode, 1)
        self.assertRegex(doctor.stdout, r"(?m)^BAD  processor .*--isa ref")
        refused = self.on(NO_AVX, *DRAWN)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("no AVX2", refused.stderr)
        answered = self.on(NO_AVX, *DRAWN, "--isa", "ref")
        self.assertEqual(answered.returncode, 0, answered.stderr)
        self.assertTrue(answered.stdout.strip())


if __name__ == "__main__":
    harness.main()
