"""An engine in this process, and a logits processor in Python: python3 embedded_engine.py [MODEL] [PROMPT]"""
import sys

import pixii


class NoRepeat:
    """Takes away every token that the output already has. `logits` is the engine's own memory: nothing is copied."""

    def __call__(self, tokens, logits):
        for token in tokens[tokens.prompt_size:]:
            logits[token] = float("-inf")


def main():
    model = sys.argv[1] if len(sys.argv) > 1 else "tiny-chat"
    prompt = sys.argv[2] if len(sys.argv) > 2 else "What is 17 + 25?"
    with pixii.Engine(model, kv_memory="64MiB") as engine:
        for piece in engine.chat(prompt, max_tokens=32, seed=1):
            print(piece.text, end="", flush=True)
        print()
        generation = engine.generate(prompt, max_tokens=16, temperature=0, ignore_eos=True, logits_processors=[NoRepeat()])
        print("without repeats:", generation.tokens)
        logits = engine.logits(prompt)
        best = sorted(range(len(logits)), key=logits.__getitem__, reverse=True)[:3]
        print("most likely next:", [engine.decode([token]) for token in best])


if __name__ == "__main__":
    main()
