from .._start import become, main


def start(words):
    become(["worker"], words)


if __name__ == "__main__":
    main(start)
