"""What there is: ``python -m ptychofno``."""

COMMANDS = (
    ("train", "train one network, or several with -m, and judge its reconstruction"),
    ("inspect", "show what is in the file of a scan, and the commands that use it"),
    ("reconstruct", "reconstruct a scan with a trained network, or with the iterative solver alone"),
    ("report", "compare runs: tables, statistics and pictures on one page"),
    ("diff", "show in which settings arms, runs or files differ"),
    ("export", "write a trained network as a file for other programs, ONNX or torch"),
    ("activations", "show what every layer of a network does"),
)


def main() -> None:
    print("ptychofno has these commands; --help after each tells more:\n")
    for name, what in COMMANDS:
        print(f"  python -m ptychofno.{name:<12} {what}")


if __name__ == "__main__":
    main()
